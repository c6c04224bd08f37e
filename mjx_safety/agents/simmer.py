"""Simmer (arXiv 2206.02675): Saute's worlds with a budget that begins small and rises while episodes keep it.

A PI controller sets the budget that the next episodes begin with. Its error is the share of its budget that an episode
has left at its end. So the budget rises while episodes keep it, and falls while they overdraw it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents.checks import check_settings
from mjx_safety.agents.saute import BudgetState, BudgetWorlds, SauteSettings
from mjx_safety.agents.types import Metrics
from mjx_safety.types import VectorEnvironment


@struct.dataclass
class SimmerSettings(SauteSettings):
    """Settings of the budget and of its controller."""

    budget_start: float = 0.2
    """First and lowest budget, as a share of the limit."""
    budget_proportional_gain: float = 0.1
    """Rise of the budget, as a share of the limit, when the smoothed unused share of an episode's budget rises by 1."""
    budget_integral_gain: float = 0.003
    """Rise of the budget, as a share of the limit, per ended episode that used none of its budget."""
    budget_smoothing: float = 0.99
    """Weight of the past in the proportional part, per ended episode (1)."""

    def worlds(self, venv: VectorEnvironment[Any], cost_limit: Any) -> SimmerWorlds:
        """Return the worlds to act in."""
        return SimmerWorlds(venv, cost_limit, self)


@struct.dataclass
class Controller:
    """Memory of the PI controller, shared by all worlds."""

    integral: jax.Array  # [] share of the limit (1)
    smoothed_rest: jax.Array  # [] share of a budget (1)
    budget: jax.Array  # [] of the next episodes, share of the limit (1)


@struct.dataclass
class SimmerState(BudgetState):
    """B worlds after one step: `BudgetState` with budgets of their own."""

    budget: jax.Array  # [B] share of the limit that the episode of the next step began with (1)
    controller: Controller


class SimmerWorlds(BudgetWorlds):
    """B worlds with a rising cost budget. The last entry of an observation is what is left, as a share of the limit."""

    def __init__(
        self, venv: VectorEnvironment[Any], cost_limit: jax.Array | float, settings: SimmerSettings | None = None
    ):
        """cost_limit: above 0, largest budget."""
        self.settings: SimmerSettings = settings or SimmerSettings()
        check_settings(self.settings)
        super().__init__(venv, cost_limit, self.settings.unsafe_reward)

    def reset(self, key: jax.Array) -> SimmerState:
        """Start B episodes with the first budget."""
        worlds, start = self.venv.reset(key), jnp.asarray(self.settings.budget_start, jnp.float32)
        budget = jnp.full(worlds.done.shape, start)
        controller = Controller(start, jnp.zeros_like(start), start)
        return SimmerState(worlds, budget, budget, worlds.reward.astype(jnp.float32), budget, controller)

    def step(self, states: SimmerState, actions: jax.Array) -> SimmerState:
        """Advance all worlds by one step. actions: [B, A] in [-1, 1]."""
        worlds = self.venv.step(states.worlds, actions)
        rest = states.budget - worlds.episode_cost / self.cost_limit
        controller = control(self.settings, states.controller, rest / states.budget, worlds.done & ~worlds.partial)
        return SimmerState(
            worlds=worlds,
            left=jnp.where(worlds.done, controller.budget, rest),
            final_left=rest,
            reward=jnp.where(rest > 0.0, worlds.reward.astype(jnp.float32), self.unsafe_reward),
            budget=jnp.where(worlds.done, controller.budget, states.budget),
            controller=controller,
        )

    def report(self, states: SimmerState) -> Metrics:
        """Name the budget of the next episodes, in units of cost."""
        return {"cost_budget": states.controller.budget * self.cost_limit}


def control(settings: SimmerSettings, controller: Controller, rest: jax.Array, ended: jax.Array) -> Controller:
    """Move the budget by the shares [B] of their budgets that episodes have left. ended: [B] bool, which of them count.

    A share counts as -1 at least. An episode that overdraws its budget so far says no more than that.
    """
    ended = ended & jnp.isfinite(rest)
    num = jnp.sum(ended, dtype=jnp.float32)
    total = jnp.sum(jnp.where(ended, jnp.clip(rest, -1.0, 1.0), 0.0))
    lowest = settings.budget_start
    integral = jnp.clip(controller.integral + settings.budget_integral_gain * total, lowest, 1.0)
    kept = jnp.power(settings.budget_smoothing, num)
    smoothed_rest = kept * controller.smoothed_rest + (1.0 - kept) * total / jnp.maximum(num, 1.0)
    budget = jnp.clip(integral + settings.budget_proportional_gain * smoothed_rest, lowest, 1.0)
    return Controller(integral, smoothed_rest, budget)
