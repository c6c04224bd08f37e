"""Many worlds at once: auto-reset to fresh layouts, the last observation of an episode, episode statistics."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.types import Environment

S = TypeVar("S")


@struct.dataclass
class VecState:
    """B worlds after one step; ended episodes are already replaced. See `types.VectorState` for the fields' meaning."""

    env_state: Any  # [B] states; where an episode ended, the fresh one, with the outcome of the step that ended the old
    final_obs: jax.Array  # [B, O] observation of the step itself, before any reset
    episode_return: jax.Array  # [B]
    episode_cost: jax.Array  # [B]
    episode_costs: jax.Array  # [B, C]
    episode_goals: jax.Array  # [B] int32
    episode_length: jax.Array  # [B] int32, steps
    partial: jax.Array  # [B] bool, first episode, shortened by a staggered start
    pool: Any  # [B] freshly reset states, handed out to ended episodes
    pool_used: jax.Array  # [] int32, how many of them are gone
    key: jax.Array  # [] for the next pool

    obs = property(lambda self: self.env_state.obs)
    reward = property(lambda self: self.env_state.reward)
    cost = property(lambda self: self.env_state.cost)
    costs = property(lambda self: self.env_state.costs)
    goal_met = property(lambda self: self.env_state.goal_met)
    terminated = property(lambda self: self.env_state.terminated)
    truncated = property(lambda self: self.env_state.truncated)
    done = property(lambda self: self.env_state.terminated | self.env_state.truncated)


class VecEnv(Generic[S]):
    """B copies of one environment. Build it with `vectorize`."""

    def __init__(self, env: Environment[S], num_envs: int, stagger: bool = False):
        self.env, self.num_envs, self.stagger = env, num_envs, stagger

    obs_size = property(lambda self: self.env.obs_size)
    action_size = property(lambda self: self.env.action_size)
    cost_names = property(lambda self: self.env.cost_names)
    episode_length = property(lambda self: self.env.episode_length)

    def reset(self, key: jax.Array) -> VecState:
        """Start B episodes on fresh layouts. With `stagger`, their step counters start uniformly in [0, T)."""
        key, reset_key, stagger_key = jax.random.split(key, 3)
        env_state = self._reset_all(reset_key)
        partial = jnp.zeros(self.num_envs, bool)
        if self.stagger:
            start = jax.random.randint(stagger_key, (self.num_envs,), 0, self.episode_length, jnp.int32)
            env_state, partial = env_state.replace(step_count=start), start > 0
        zeros = jnp.zeros(self.num_envs, jnp.float32)
        counts = jnp.zeros(self.num_envs, jnp.int32)
        return VecState(
            env_state=env_state,
            final_obs=env_state.obs,
            episode_return=zeros,
            episode_cost=zeros,
            episode_costs=jnp.zeros_like(env_state.costs),
            episode_goals=counts,
            episode_length=counts,
            partial=partial,
            pool=env_state,  # placeholder: all of it counts as used, so the first ended episode fills the pool
            pool_used=jnp.int32(self.num_envs),
            key=key,
        )

    def step(self, states: VecState, actions: jax.Array) -> VecState:
        """Advance all worlds, then replace the ended ones by fresh ones. actions: [B, A] in [-1, 1].

        Fresh worlds come from a pool of B that is refilled in one batched reset when it runs out. In episodes of T steps
        that is one such reset every T steps, whether the episodes end together or one by one.
        """
        running = ~states.done  # a done flag belongs to the step before: that episode's counters start again now
        stepped = jax.vmap(self.env.step)(states.env_state, actions)
        done = stepped.terminated | stepped.truncated
        states = self._refill_pool(states, done)
        fresh_index = jnp.clip(states.pool_used + jnp.cumsum(done) - 1, 0, self.num_envs - 1)
        fresh = jax.tree.map(lambda leaf: leaf[fresh_index], states.pool)
        fresh = fresh.replace(
            reward=stepped.reward,
            cost=stepped.cost,
            costs=stepped.costs,
            goal_met=stepped.goal_met,
            terminated=stepped.terminated,
            truncated=stepped.truncated,
        )
        return states.replace(
            env_state=_where(done, fresh, stepped),
            final_obs=stepped.obs,
            episode_return=states.episode_return * running + stepped.reward,
            episode_cost=states.episode_cost * running + stepped.cost,
            episode_costs=states.episode_costs * running[:, None] + stepped.costs,
            episode_goals=states.episode_goals * running + stepped.goal_met,
            episode_length=states.episode_length * running + 1,
            partial=states.partial & running,
            pool_used=states.pool_used + jnp.sum(done, dtype=jnp.int32),
        )

    def _refill_pool(self, states: VecState, done: jax.Array) -> VecState:
        def refill(states: VecState) -> VecState:
            key, reset_key = jax.random.split(states.key)
            return states.replace(pool=self._reset_all(reset_key), pool_used=jnp.int32(0), key=key)

        runs_out = states.pool_used + jnp.sum(done) > self.num_envs
        return jax.lax.cond(runs_out, refill, lambda states: states, states)

    def _reset_all(self, key: jax.Array) -> Any:
        return jax.vmap(self.env.reset)(jax.random.split(key, self.num_envs))


def vectorize(env: Environment[S], num_envs: int, *, stagger: bool = False) -> VecEnv[S]:
    """Run `num_envs` worlds side by side with auto-reset to fresh layouts.

    `stagger` starts the worlds at different times of their first episode, so that every batch of steps sees all phases
    of an episode; those shortened first episodes are marked `partial`.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs is {num_envs}; it must be at least 1")
    return VecEnv(env, num_envs, stagger)


def _where(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    """Choose world by world. condition: [B]; the trees' leaves: [B, ...]."""

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(choose, if_true, if_false)
