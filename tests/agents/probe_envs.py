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
    costs: jax.Array  # [C]
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
        costs = jnp.zeros(len(self.cost_names))
        return ProbeState(self.observe(obs_key), zero, zero, costs, no, no, no, jnp.int32(0), key)

    def step(self, state, action):
        key, obs_key, end_key, noise_key, source_key = jax.random.split(state.key, 5)
        reward, cost = self.outcome(state, action, noise_key)
        step_count = state.step_count + 1
        return ProbeState(
            obs=self.observe(obs_key),
            reward=reward,
            cost=cost,
            costs=self.split(cost, source_key),
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

    def split(self, cost, key):
        return cost[None]

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


class Gamble(CostlyTarget):
    """CostlyTarget whose steps cost 10 with a chance of (a + 1) / 20: in 20 steps the same mean, and a wide spread."""

    def outcome(self, state, action, key):
        reward, cost = super().outcome(state, action, key)
        lost = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.1 * cost)
        return reward, 10.0 * lost.astype(jnp.float32)


class Bet(ProbeEnv):
    """No reward. A step costs 1, or by a bet, of chance (a + 1) / 2, 10 with a chance of 8 %: less, but worse."""

    def outcome(self, state, action, key):
        bets, loses = jax.random.uniform(key, (2,)) < jnp.array([0.5 * (jnp.clip(action[0], -1.0, 1.0) + 1.0), 0.08])
        return jnp.float32(0.0), jnp.where(bets, 10.0 * loses, 1.0)


@dataclass(frozen=True)
class TwoCosts(CostlyTarget):
    """CostlyTarget, and two sources of cost that cost in some steps only: in 10 (a + 1) and 2.5 (a + 1) of 20.

    Their raw cost is not 1: what a limit counts is the steps.
    """

    cost_names: tuple[str, ...] = ("often", "seldom")

    def split(self, cost, key):
        often, seldom = jax.random.uniform(key, (2,)) < cost * jnp.array([1.0, 0.25])
        return jnp.stack([3.0 * often, 0.5 * seldom])


@dataclass(frozen=True)
class Delayed(CostlyTarget):
    """CostlyTarget one step later: reward and cost are those of the action before, which the observation shows.

    An episode begins as after action -1, which costs nothing, so that of its 21 steps 20 count.
    """

    episode_length: int = 21

    def reset(self, key):
        state = super().reset(key)
        return state.replace(obs=state.obs.at[0].set(-1.0))

    def step(self, state, action):
        stepped = super().step(state, state.obs[:1])
        return stepped.replace(obs=stepped.obs.at[0].set(jnp.clip(action[0], -1.0, 1.0)))


class Random(ProbeEnv):
    """Random costs, true ends in 3 % of steps: for accounting."""

    def outcome(self, state, action, key):
        return state.obs[0], (state.obs[1] > 0.0).astype(jnp.float32)

    def ends(self, key):
        return jax.random.bernoulli(key, 0.03)
