"""The algorithms by name, for the command line: the settings that become flags, and the builders.

A new algorithm is one line in ALGORITHMS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import struct

from mjx_safety.agents.constraints import (
    CostLimit,
    PIDGains,
    clamped_adam,
    hard_limit,
    lagrangian,
    pid_lagrangian,
    projected_ascent,
    softplus_adam,
)
from mjx_safety.agents.cpo import CPOConfig, cpo
from mjx_safety.agents.crpo import CRPOConfig, crpo
from mjx_safety.agents.cup import CUPConfig, cup
from mjx_safety.agents.focops import FOCOPSConfig, focops
from mjx_safety.agents.ipo import IPOConfig, ipo
from mjx_safety.agents.p3o import P3OConfig, p3o
from mjx_safety.agents.pcpo import PCPOConfig, pcpo
from mjx_safety.agents.ppo import PPOConfig, ppo
from mjx_safety.agents.sac import SACConfig, sac
from mjx_safety.agents.trpo import TRPOConfig, trpo
from mjx_safety.agents.types import Algorithm, Constraint, OffPolicyTrainConfig, TrainConfig


@struct.dataclass
class NoSettings:
    """Settings of an algorithm without multipliers: none."""


@struct.dataclass
class ProjectedAscentSettings:
    """Settings of the multiplier: projected ascent."""

    multiplier_learning_rate: float = 0.0125  # multiplier per relative violation (cost / limit - 1) and iteration
    multiplier_init: float = 0.0  # weight of cost at the start
    multiplier_max: float = 50.0  # cap of the multiplier


@struct.dataclass
class PriceSettings(ProjectedAscentSettings):
    """The same for SAC. Its multiplier is in raw reward per raw cost: some tenths, while others reach 3."""

    multiplier_learning_rate: float = 0.00075  # multiplier per relative violation (cost / limit - 1) and iteration


@struct.dataclass
class ClampedAdamSettings:
    """Settings of the multiplier: Adam, as in OmniSafe."""

    multiplier_learning_rate: float = 0.035  # approximate change of the multiplier per iteration
    multiplier_init: float = 0.001  # weight of cost at the start
    multiplier_max: float = 50.0  # cap of the multiplier


@struct.dataclass
class SoftplusAdamSettings:
    """Settings of the multiplier: Adam on its inverse softplus, as in safety-starter-agents."""

    multiplier_learning_rate: float = 0.05  # approximate change of the inverse softplus per iteration
    multiplier_init: float = 1.0  # weight of cost at the start


@struct.dataclass
class MarginSettings:
    """Settings of the margin below the limit."""

    margin_learning_rate: float = 0.02  # growth of the margin per unit of violation and iteration; 0: the paper
    margin_max: float = 0.5  # cap of the margin, as a share of the limit


def _margin(settings: MarginSettings, cost_limit: CostLimit) -> Constraint:
    return hard_limit(cost_limit, settings.margin_learning_rate, settings.margin_max)


def _no_multiplier(_: NoSettings, cost_limit: CostLimit) -> Constraint:
    return hard_limit(cost_limit)


def _projected(settings: ProjectedAscentSettings, cost_limit: CostLimit) -> Constraint:
    rule = projected_ascent(settings.multiplier_init, settings.multiplier_learning_rate, settings.multiplier_max)
    return lagrangian(cost_limit, rule)


def _clamped_adam(settings: ClampedAdamSettings, cost_limit: CostLimit) -> Constraint:
    rule = clamped_adam(settings.multiplier_init, settings.multiplier_learning_rate, settings.multiplier_max)
    return lagrangian(cost_limit, rule)


def _softplus_adam(settings: SoftplusAdamSettings, cost_limit: CostLimit) -> Constraint:
    return lagrangian(cost_limit, softplus_adam(settings.multiplier_init, settings.multiplier_learning_rate))


def _pid(gains: PIDGains, cost_limit: CostLimit) -> Constraint:
    return pid_lagrangian(cost_limit, gains)


class ConstraintChoice(NamedTuple):
    """A constraint: the settings that become flags, and the builder."""

    config: type
    make: Callable[[Any, CostLimit], Constraint]


NONE = ConstraintChoice(NoSettings, _no_multiplier)
MARGIN = ConstraintChoice(MarginSettings, _margin)
PROJECTED = ConstraintChoice(ProjectedAscentSettings, _projected)
PRICE = ConstraintChoice(PriceSettings, _projected)
CLAMPED_ADAM = ConstraintChoice(ClampedAdamSettings, _clamped_adam)
SOFTPLUS_ADAM = ConstraintChoice(SoftplusAdamSettings, _softplus_adam)
PID = ConstraintChoice(PIDGains, _pid)


class AlgorithmChoice(NamedTuple):
    """An algorithm of the command line."""

    summary: str
    config: type  # settings of the policy update
    make: Callable[[Any, Constraint], Algorithm]
    constraint: ConstraintChoice
    ends_at_limit: bool = False  # train in episodes that terminate once their cost reaches the limit
    train_config: type = TrainConfig  # settings of rollouts and returns
    # Its own defaults, the same on every device:
    unroll_length: int | None = None  # steps of each world per iteration
    num_envs: int | None = None

    def build(self, config: Any, constraint_config: Any, cost_limit: CostLimit) -> Algorithm:
        """Build the algorithm."""
        return self.make(config, self.constraint.make(constraint_config, cost_limit))


ALGORITHMS: dict[str, AlgorithmChoice] = {
    "ppo": AlgorithmChoice("PPO, without a limit", PPOConfig, ppo, NONE),
    "ppo-lag": AlgorithmChoice("PPO-Lagrangian, multiplier by projected ascent", PPOConfig, ppo, PROJECTED),
    "ppo-lag-adam": AlgorithmChoice("PPO-Lagrangian, multiplier by Adam", PPOConfig, ppo, CLAMPED_ADAM),
    "ppo-lag-softplus": AlgorithmChoice("PPO-Lagrangian, Adam on inverse softplus", PPOConfig, ppo, SOFTPLUS_ADAM),
    "ppo-pid": AlgorithmChoice("PPO, multiplier by a PID controller", PPOConfig, ppo, PID),
    "ppo-early": AlgorithmChoice("PPO on episodes that end at the limit", PPOConfig, ppo, NONE, ends_at_limit=True),
    "trpo": AlgorithmChoice("TRPO, without a limit", TRPOConfig, trpo, NONE),
    "trpo-lag": AlgorithmChoice("TRPO-Lagrangian, multiplier by projected ascent", TRPOConfig, trpo, PROJECTED),
    "trpo-pid": AlgorithmChoice("TRPO, multiplier by a PID controller", TRPOConfig, trpo, PID),
    "trpo-early": AlgorithmChoice("TRPO on episodes that end at the limit", TRPOConfig, trpo, NONE, ends_at_limit=True),
    "cpo": AlgorithmChoice("Constrained policy optimisation", CPOConfig, cpo, MARGIN),
    "pcpo": AlgorithmChoice("Projection-based constrained policy optimisation", PCPOConfig, pcpo, MARGIN),
    "focops": AlgorithmChoice("First-order optimisation in policy space", FOCOPSConfig, focops, PROJECTED),
    "cup": AlgorithmChoice("Conservative update policy", CUPConfig, cup, PROJECTED),
    "p3o": AlgorithmChoice("Penalised PPO", P3OConfig, p3o, NONE),
    "ipo": AlgorithmChoice("Interior-point policy optimisation", IPOConfig, ipo, NONE),
    "crpo": AlgorithmChoice("Constraint-rectified policy optimisation", CRPOConfig, crpo, NONE),
    "sac-lag": AlgorithmChoice(
        "SAC-Lagrangian, off-policy",
        SACConfig,
        sac,
        PRICE,
        train_config=OffPolicyTrainConfig,
        unroll_length=16,
        num_envs=256,
    ),
}
