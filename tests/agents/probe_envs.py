"""Tiny worlds with known answers. They follow the Environment protocol."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class ProbeState:
    obs: jax.Array  # [O]
    reward: jax.Array
    cost: jax.Array
    costs: jax.Array  # [1]
    goal_met: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    step_count: jax.Array
    key: jax.Array


@dataclass(frozen=True)
class ProbeEnv:
    """One step: observe noise, act, get a reward and cost that depend on the action and the observation only."""

    obs_size: int = 3
    action_size: int = 1
    episode_length: int = 20
    cost_names: tuple[str, ...] = ("probe",)

    def reset(self, key):
        key, obs_key = jax.random.split(key)
        zero, no = jnp.float32(0.0), jnp.bool_(False)
        return ProbeState(self.observe(obs_key), zero, zero, jnp.zeros(1), no, no, no, jnp.int32(0), key)

    def step(self, state, action):
        key, obs_key, end_key, noise_key = jax.random.split(state.key, 4)
        reward, cost = self.outcome(state, action, noise_key)
        step_count = state.step_count + 1
        return ProbeState(
            obs=self.observe(obs_key),
            reward=reward,
            cost=cost,
            costs=cost[None],
            goal_met=reward > 0.5,
            terminated=self.ends(end_key),
            truncated=step_count >= self.episode_length,
            step_count=step_count,
            key=key,
        )

    def observe(self, key):
        return jax.random.normal(key, (self.obs_size,))

    def outcome(self, state, action, key):
        return jnp.float32(0.0), jnp.float32(0.0)

    def ends(self, key):
        return jnp.bool_(False)

    def replace(self, **changes):
        return replace(self, **changes)


class ConstantReward(ProbeEnv):
    """Reward 1 in every step: V is 1 / (1 - discount) when the time limit is bootstrapped."""

    def outcome(self, state, action, key):
        return jnp.float32(1.0), jnp.float32(0.0)


class Target(ProbeEnv):
    """The best action is half the first observation, in [-1, 1]. Cost-free."""

    def outcome(self, state, action, key):
        return 1.0 - jnp.square(action[0] - 0.5 * jnp.clip(state.obs[0], -1.0, 1.0)), jnp.float32(0.0)


class CostlyTarget(ProbeEnv):
    """Reward 1 - (1 - a)^2 plus noise, cost (a + 1) / 2: an episode of 20 steps at action a costs 10 (a + 1).

    The noise keeps the scale of reward advantages, and so the meaning of the multiplier, as exploration shrinks.
    """

    def outcome(self, state, action, key):
        a = jnp.clip(action[0], -1.0, 1.0)
        return 1.0 - jnp.square(1.0 - a) + jax.random.normal(key), 0.5 * (a + 1.0)


class Random(ProbeEnv):
    """Random costs, true ends in 3 % of steps: for accounting."""

    def outcome(self, state, action, key):
        return state.obs[0], (state.obs[1] > 0.0).astype(jnp.float32)

    def ends(self, key):
        return jax.random.bernoulli(key, 0.03)
