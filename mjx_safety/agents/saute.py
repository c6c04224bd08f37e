"""Saute RL (arXiv 2202.06558): worlds whose observation has the remaining cost budget, for any algorithm.

The last entry of an observation is the share of the budget that is left: 1 - cost of the episode so far / limit. Once
it is used up, each step earns a fixed reward instead of its own. An algorithm without a limit then keeps the budget.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents.checks import check_autoreset, number
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

    def worlds(self, venv: VectorEnvironment[Any], cost_limit: Any) -> BudgetWorlds:
        """Return the worlds to act in."""
        return BudgetWorlds(venv, cost_limit, self.unsafe_reward)


@struct.dataclass
class BudgetState:
    """B worlds after one step: `types.VectorState` with one more entry of the observation and another reward."""

    worlds: Any  # the state of the B worlds without a budget
    left: jax.Array  # [B] share of the budget that the next step has (1)
    final_left: jax.Array  # [B] the same from before any replacement
    reward: jax.Array  # [B] to learn from

    @property
    def obs(self) -> jax.Array:
        """[B, O + 1]."""
        return _join(self.worlds.obs, self.left)

    @property
    def final_obs(self) -> jax.Array:
        """[B, O + 1]."""
        return _join(self.worlds.final_obs, self.final_left)

    def __getattr__(self, name: str) -> Any:
        """Return any other field from the worlds, which have no budget."""
        if name == "worlds" or name.startswith("__"):  # absent while a copy is being built
            raise AttributeError(name)
        return getattr(self.worlds, name)


class BudgetWorlds:
    """B worlds with a cost budget. Totals of episodes stay those of the worlds: `episode_return` is the true one."""

    def __init__(
        self, venv: VectorEnvironment[Any], cost_limit: jax.Array | float, unsafe_reward: jax.Array | float = -0.2
    ):
        """cost_limit: above 0, cost of an episode; unsafe_reward: of a step without budget.

        Raises ValueError for another limit, and for worlds that agents cannot train on.
        """
        check_autoreset(venv)
        limit = number("the budget's cost_limit", cost_limit)
        if limit is not None and not limit > 0.0:
            raise ValueError(f"the budget's cost_limit is {limit}; it must be above 0")
        self.venv: VectorEnvironment[Any] = venv
        self.cost_limit: jax.Array | float = cost_limit
        self.unsafe_reward: jax.Array | float = unsafe_reward
        self.num_envs: int = getattr(venv, "num_envs", 1)
        self.num_parts: int = getattr(venv, "num_parts", 1)
        self.obs_size: int = venv.obs_size + 1
        self.action_size: int = venv.action_size
        self.cost_names: tuple[str, ...] = venv.cost_names
        self.episode_length: int = venv.episode_length

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
            reward=jnp.where(final_left > 0.0, worlds.reward.astype(jnp.float32), self.unsafe_reward),
        )


def _join(obs: jax.Array, left: jax.Array) -> jax.Array:
    return jnp.concatenate([obs, left[:, None]], axis=1)
