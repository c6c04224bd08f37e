"""A world whose numbers can be worked out by hand, and which compiles at once: any `types.Environment` has adapters."""

import jax
import jax.numpy as jnp
import numpy as np

from mjx_safety.types import State

LAYOUTS = 1 << 24  # a float32 holds each of them exactly
FATAL = 0.9  # an action beyond it ends the episode


class Toy:
    """Observation: the layout, drawn at reset, and the steps since. Reward: those steps. Costs: what the action says.

    The cost is 1 where the first action is negative; `low` is by how much, `high` how far the second is positive. A
    first action beyond `FATAL` terminates; the goal is met in every second step.
    """

    obs_size, action_size, cost_names = 2, 2, ("low", "high")

    def __init__(self, episode_length=4):
        self.episode_length = episode_length
        self.obs_slices = {"layout": slice(0, 1), "age": slice(1, 2)}
        self.num_step_traces = 0

    def reset(self, key):
        layout_key, key = jax.random.split(key)
        layout = jax.random.randint(layout_key, (), 0, LAYOUTS).astype(jnp.float32)
        no, zero = jnp.zeros((), bool), jnp.zeros((), jnp.float32)
        return State(
            obs=jnp.stack([layout, 0.0]),
            reward=zero,
            cost=zero,
            costs=jnp.zeros(2, jnp.float32),
            goal_met=no,
            terminated=no,
            truncated=no,
            step_count=jnp.int32(0),
            placement_failed=no,
            data=None,
            places=layout,
            memory=None,
            key=key,
        )

    def step(self, state, action):
        self.num_step_traces += 1
        step_count = state.step_count + 1
        terminated = action[0] > FATAL
        return state.replace(
            obs=jnp.stack([state.places, step_count.astype(jnp.float32)]),
            reward=step_count.astype(jnp.float32),
            cost=(action[0] < 0).astype(jnp.float32),
            costs=jnp.maximum(0, jnp.stack([-action[0], action[1]])),
            goal_met=step_count % 2 == 0,
            terminated=terminated,
            truncated=(step_count >= self.episode_length) & ~terminated,
            step_count=step_count,
        )


def actions(num_steps, num_envs, fatal=0.0, seed=0):
    """Random actions [T, B, 2], a share of them fatal."""
    random = np.random.default_rng(seed)
    chosen = random.uniform(-1, 0.8, (num_steps, num_envs, 2)).astype(np.float32)
    chosen[..., 0] = np.where(random.random((num_steps, num_envs)) < fatal, 1.0, chosen[..., 0])
    return chosen
