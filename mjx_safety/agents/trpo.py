"""TRPO (arXiv 1502.05477), and with a constraint TRPO-Lagrangian: `trpo(TRPOConfig(), lagrangian(25.0))`."""

from __future__ import annotations

from functools import partial

import jax
from flax import struct

from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraints import penalise, unconstrained
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.second_order import LineSearchConfig, PolicyProblem, natural_gradient_step, second_order
from mjx_safety.agents.types import Algorithm, Constraint, Metrics


@struct.dataclass
class TRPOConfig(LineSearchConfig):
    """Settings of TRPO: those of a step with a line search."""


def trpo(config: TRPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Take one natural step per batch on the reward surrogate minus the weighed cost surrogates."""
    constraint = constraint or unconstrained()
    check_algorithm("trpo", config, TRPOConfig, constraint)
    return second_order(config, constraint, partial(_step, config))


def _step(config: TRPOConfig, problem: PolicyProblem, status: CostStatus) -> tuple[jax.Array, Metrics]:
    return natural_gradient_step(config, problem, lambda s: penalise(status.multipliers, s.reward, s.costs))
