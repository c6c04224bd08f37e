"""PCPO (arXiv 2010.03152): a natural step on the reward, projected back under the cost limit in KL."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import trust_region
from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraints import hard_limit
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.second_order import LineSearchConfig, PolicyProblem, Surrogates, search, second_order
from mjx_safety.agents.types import Algorithm, Constraint, Metrics


@struct.dataclass
class PCPOConfig(LineSearchConfig):
    """Settings of PCPO: those of a step with a line search."""


def pcpo(config: PCPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Take the projected step, shortened until the KL and the cost surrogate allow it. It supports one limit.

    The gradient of the cost in one batch is mostly noise, so a step lowers the cost by far less than it predicts. The
    command line therefore adds a margin to the violation, as for `cpo`, up to ten limits.
    """
    constraint = constraint or hard_limit()
    check_algorithm("pcpo", config, PCPOConfig, constraint, weighs=False)
    if constraint.num_costs != 1:
        raise ValueError(f"pcpo holds one limit, not {constraint.num_costs} ({', '.join(constraint.sources)})")
    return second_order(config, constraint, partial(_step, config))


def _step(config: PCPOConfig, problem: PolicyProblem, status: CostStatus) -> tuple[jax.Array, Metrics]:
    violation = status.violations[0]
    start = problem.evaluate(problem.theta)
    g = jax.grad(lambda theta: -problem.evaluate(theta).reward)(problem.theta)
    b = jax.grad(lambda theta: problem.evaluate(theta).costs[0])(problem.theta)
    direction = trust_region.pcpo_direction(problem.fvp, g, b, violation, config.max_kl, config.num_cg_iterations)

    def accept(predicted: Surrogates) -> jax.Array:
        return predicted.costs[0] - start.costs[0] <= jnp.maximum(-violation, 0.0)

    theta, metrics = search(config, problem, direction, accept)
    return theta, metrics | {"predicted_cost": trust_region.predict_violation(b, violation, direction)}
