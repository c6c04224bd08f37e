"""Settings of limits as the command line shows them. Each builds its `Constraint` from a limit.

`constraints.PIDGains` is one of them too.
"""

from __future__ import annotations

from typing import Protocol

from flax import struct

from mjx_safety.agents.constraints import (
    CostLimit,
    clamped_adam,
    hard_limit,
    lagrangian,
    projected_ascent,
    softplus_adam,
)
from mjx_safety.agents.types import Constraint


class ConstraintSettings(Protocol):
    """A dataclass whose fields become flags."""

    def build(self, cost_limit: CostLimit) -> Constraint:
        """Build the constraint."""
        ...


@struct.dataclass
class HardLimitSettings:
    """None. The algorithm enforces the limit in its own way, or ignores it."""

    def build(self, cost_limit: CostLimit) -> Constraint:
        """Build the constraint."""
        return hard_limit(cost_limit)


@struct.dataclass
class MarginSettings:
    """Settings of the margin below the limit."""

    margin_learning_rate: float = 0.02
    """Growth of the margin per unit of violation and iteration; 0: no margin, as in the paper."""
    margin_max: float = 3.0
    """Cap of the margin, in units of the limit."""

    def build(self, cost_limit: CostLimit) -> Constraint:
        """Build the constraint."""
        return hard_limit(cost_limit, self.margin_learning_rate, self.margin_max)


@struct.dataclass
class SlowMarginSettings(MarginSettings):
    """The same for P3O and IPO, which learn better with a margin that grows more slowly."""

    margin_learning_rate: float = 0.01
    """Growth of the margin per unit of violation and iteration; 0: no margin, as in the paper."""


@struct.dataclass
class WideMarginSettings(MarginSettings):
    """The same for PCPO, whose step follows the violation in proportion and so needs a larger margin."""

    margin_learning_rate: float = 0.04
    """Growth of the margin per unit of violation and iteration; 0: no margin, as in the paper."""
    margin_max: float = 10.0
    """Cap of the margin, in units of the limit."""


@struct.dataclass
class ProjectedAscentSettings:
    """Settings of the multiplier: projected ascent."""

    multiplier_learning_rate: float = 0.0125
    """Multiplier per relative violation (cost / limit - 1) and iteration."""
    multiplier_init: float = 0.0
    """Weight of cost at the start."""
    multiplier_max: float = 50.0
    """Cap of the multiplier."""

    def build(self, cost_limit: CostLimit) -> Constraint:
        """Build the constraint."""
        rule = projected_ascent(self.multiplier_init, self.multiplier_learning_rate, self.multiplier_max)
        return lagrangian(cost_limit, rule)


@struct.dataclass
class ClampedAdamSettings:
    """Settings of the multiplier: Adam, as in OmniSafe."""

    multiplier_learning_rate: float = 0.035
    """Approximate change of the multiplier per iteration."""
    multiplier_init: float = 0.001
    """Weight of cost at the start."""
    multiplier_max: float = 50.0
    """Cap of the multiplier."""

    def build(self, cost_limit: CostLimit) -> Constraint:
        """Build the constraint."""
        rule = clamped_adam(self.multiplier_init, self.multiplier_learning_rate, self.multiplier_max)
        return lagrangian(cost_limit, rule)


@struct.dataclass
class SoftplusAdamSettings:
    """Settings of the multiplier: Adam on its inverse softplus, as in safety-starter-agents."""

    multiplier_learning_rate: float = 0.05
    """Approximate change of the inverse softplus per iteration."""
    multiplier_init: float = 1.0
    """Weight of cost at the start."""

    def build(self, cost_limit: CostLimit) -> Constraint:
        """Build the constraint."""
        return lagrangian(cost_limit, softplus_adam(self.multiplier_init, self.multiplier_learning_rate))
