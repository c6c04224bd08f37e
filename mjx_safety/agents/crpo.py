"""CRPO (arXiv 2011.05869): improve the reward while all limits hold, else lower the most violated cost."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraints import hard_limit
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.second_order import (
    LineSearchConfig,
    PolicyProblem,
    Surrogates,
    natural_gradient_step,
    second_order,
)
from mjx_safety.agents.types import Algorithm, Constraint, Metrics


@struct.dataclass
class CRPOConfig(LineSearchConfig):
    """Settings of CRPO."""

    tolerance: float = 0.0
    """Cost per step above a limit that still counts as holding it."""


def crpo(config: CRPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Take TRPO steps on one objective at a time, without multipliers."""
    constraint = constraint or hard_limit()
    check_algorithm("crpo", config, CRPOConfig, constraint, weighs=False)
    return second_order(config, constraint, partial(_step, config))


def _step(config: CRPOConfig, problem: PolicyProblem, status: CostStatus) -> tuple[jax.Array, Metrics]:
    worst = jnp.argmax(status.violations)
    broken = status.violations[worst] > config.tolerance

    def objective(predicted: Surrogates) -> jax.Array:
        return jnp.where(broken, -predicted.costs[worst], predicted.reward)

    theta, metrics = natural_gradient_step(config, problem, objective)
    return theta, metrics | {"lowers_cost": broken.astype(jnp.float32)}
