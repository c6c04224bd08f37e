"""A recording holds whole episodes: what ended stands still and counts no more."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mjx_safety.viz.episodes import HOLD, Recording, at_random, record


@struct.dataclass
class CountState:
    obs: jax.Array
    reward: jax.Array
    cost: jax.Array
    costs: jax.Array
    goal_met: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    step_count: jax.Array
    length: jax.Array
    key: jax.Array


class Counting:
    """Each step rewards 1, costs 2, meets the goal; an episode ends after 2 to 6 steps or by the limit of 10."""

    dt, action_size = 0.1, 1

    def reset(self, key):
        zero, no = jnp.float32(0), jnp.bool_(False)
        length = jax.random.randint(key, (), 2, 7)
        return CountState(jnp.zeros(1), zero, zero, jnp.zeros(1), no, no, no, jnp.int32(0), length, key)

    def step(self, state, action):
        count = state.step_count + 1
        return state.replace(
            obs=action,
            reward=jnp.float32(1),
            cost=jnp.float32(2),
            costs=jnp.full(1, 2.0),
            goal_met=jnp.bool_(True),
            terminated=count >= state.length,
            step_count=count,
        )


def forward(obs, step, key):
    return jnp.full((obs.shape[0], 1), step, jnp.float32)


def run(num_steps=10, num_worlds=16):
    kwargs = {"num_worlds": num_worlds, "num_steps": num_steps, "title": "", "cost_limit": 5.0}
    return record(Counting(), forward, jax.random.key(0), **kwargs)


def test_ended_worlds_stand_still():
    recording = run()
    lengths = recording.states.length[0]
    assert len(set(lengths)) > 2 and max(lengths) == 6
    np.testing.assert_array_equal(recording.lengths, lengths)
    assert recording.num_steps == 6, "the recording ends with the last episode"
    steps = np.arange(recording.num_steps + 1)[:, None]
    np.testing.assert_array_equal(recording.cumulative_return, np.minimum(steps, lengths))
    np.testing.assert_array_equal(recording.cumulative_cost, 2 * np.minimum(steps, lengths))
    np.testing.assert_array_equal(recording.states.goal_met.sum(axis=0), lengths)
    np.testing.assert_array_equal(recording.states.obs[..., 0], np.clip(steps - 1, 0, lengths - 1))


def test_the_number_of_steps_is_a_bound():
    recording = run(num_steps=3)
    assert recording.num_steps == 3
    np.testing.assert_array_equal(recording.lengths, np.minimum(recording.states.length[0], 3))


def test_one_world_at_one_time():
    recording = run(num_worlds=3)
    state = recording.at(2, 1)
    assert state.step_count == 2 and state.reward.shape == () and state.obs.shape == (1,)


def test_the_cost_of_the_first_state_counts_in_no_episode():
    states = CountState(*[None] * 10).replace(cost=np.ones((3, 1)), reward=np.zeros((3, 1)))
    recording = Recording(SimpleNamespace(dt=0.1), states, "", 25.0)
    np.testing.assert_array_equal(recording.cumulative_cost[:, 0], [0, 1, 2])


def test_random_actions_last_a_while():
    act = at_random(SimpleNamespace(action_size=2))
    obs, key = jnp.zeros((3, 5)), jax.random.key(0)
    first, same, next_ = (act(obs, jnp.int32(step), key) for step in (0, HOLD - 1, HOLD))
    assert first.shape == (3, 2) and np.abs(first).max() <= 1
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - next_).min() > 1e-6
