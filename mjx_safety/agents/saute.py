"""Saute RL (arXiv 2202.06558): worlds whose observation tells the rest of the cost budget, for any algorithm.

The last entry of an observation is the share of the budget that is left: 1 - cost of the episode so far / limit. Once
it is used up, each step earns a fixed reward instead of its own. An algorithm without a limit then keeps the budget.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents.constraints import CostLimit, hard_limit
from mjx_safety.agents.types import Constraint
from mjx_safety.types import VectorEnvironment


@struct.dataclass
class SauteSettings:
    """Settings of the budget."""

    unsafe_reward: float = -0.2
    """Reward of a step once the budget is used up."""

    def build(self, cost_limit: CostLimit) -> Constraint:
        """Build the constraint, which only reports the limit."""
        return hard_limit(cost_limit)

    def worlds(self, venv: VectorEnvironment, cost_limit: Any) -> BudgetWorlds:
        """Return the worlds to act in."""
        return BudgetWorlds(venv, cost_limit, self.unsafe_reward)


@struct.dataclass
class BudgetState:
    """B worlds after one step: `types.VectorState` with one more entry of the observation and another reward."""

    worlds: Any  # the state of the B worlds without a budget
    left: jax.Array  # [B] share of the budget that the next step has (1)
    final_left: jax.Array  # [B] the same from before any replacement
    reward: jax.Array  # [B] to learn from

    obs = property(lambda self: _join(self.worlds.obs, self.left))
    final_obs = property(lambda self: _join(self.worlds.final_obs, self.final_left))
    cost = property(lambda self: self.worlds.cost)
    costs = property(lambda self: self.worlds.costs)
    goal_met = property(lambda self: self.worlds.goal_met)
    terminated = property(lambda self: self.worlds.terminated)
    truncated = property(lambda self: self.worlds.truncated)
    done = property(lambda self: self.worlds.done)
    episode_return = property(lambda self: self.worlds.episode_return)
    episode_cost = property(lambda self: self.worlds.episode_cost)
    episode_costs = property(lambda self: self.worlds.episode_costs)
    episode_cost_steps = property(lambda self: self.worlds.episode_cost_steps)
    episode_goals = property(lambda self: self.worlds.episode_goals)
    episode_length = property(lambda self: self.worlds.episode_length)
    partial = property(lambda self: self.worlds.partial)
    placement_failed = property(lambda self: self.worlds.placement_failed)
    blew_up = property(lambda self: self.worlds.blew_up)
    blow_up = property(lambda self: self.worlds.blow_up)


class BudgetWorlds:
    """B worlds with a cost budget. Totals of episodes stay those of the worlds: `episode_return` is the true one."""

    def __init__(self, venv: VectorEnvironment, cost_limit: jax.Array | float, unsafe_reward: jax.Array | float = -0.2):
        """cost_limit: above 0, cost of an episode; unsafe_reward: of a step without budget."""
        self.venv, self.cost_limit, self.unsafe_reward = venv, cost_limit, unsafe_reward
        self.num_envs, self.action_size, self.cost_names = (
            getattr(venv, "num_envs", 1),
            venv.action_size,
            venv.cost_names,
        )
        self.obs_size, self.episode_length = venv.obs_size + 1, venv.episode_length
        self.num_parts = getattr(venv, "num_parts", 1)

    def reset(self, key: jax.Array) -> BudgetState:
        """Start B episodes with the whole budget."""
        return self._add_budget(self.venv.reset(key))

    def step(self, states: BudgetState, actions: jax.Array) -> BudgetState:
        """Advance all worlds by one step. actions: [B, A] in [-1, 1]."""
        return self._add_budget(self.venv.step(states.worlds, actions))

    def _add_budget(self, worlds: Any) -> BudgetState:
        final_left = 1.0 - worlds.episode_cost / self.cost_limit
        return BudgetState(
            worlds=worlds,
            left=jnp.where(worlds.done, 1.0, final_left),
            final_left=final_left,
            reward=jnp.where(final_left > 0.0, worlds.reward, self.unsafe_reward),
        )


def _join(obs: jax.Array, left: jax.Array) -> jax.Array:
    return jnp.concatenate([obs, left[:, None]], axis=1)
