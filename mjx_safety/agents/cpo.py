"""CPO (arXiv 1705.10528): the best step inside a KL ball that keeps the predicted cost under its limit."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import trust_region
from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraints import hard_limit
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.second_order import (
    LineSearchConfig,
    PolicyProblem,
    Surrogates,
    search,
    second_order,
)
from mjx_safety.agents.types import Algorithm, Constraint, Metrics

NUM_CASES = 5  # number of cases of `trust_region.solve_cpo_dual`


@struct.dataclass
class CPOConfig(LineSearchConfig):
    """Settings of CPO: those of a step with a line search."""


def cpo(config: CPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Solve the linear-quadratic problem of one limit, then search back along its solution.

    The violation is per step, like cost advantages. The line search accepts a step by the KL, the reward surrogate and
    the cost surrogate themselves, not by their linear models. If the limit is broken, the reward may fall.

    The gradient of the cost in one batch is mostly noise, so a step lowers the cost by far less than it predicts. CPO
    alone then settles far above its limit. `hard_limit(25.0, margin_learning_rate=0.02)`, the default of the command
    line, aims below the limit by a margin that grows while the limit is broken, up to a cap.
    """
    constraint = constraint or hard_limit()
    check_algorithm("cpo", config, CPOConfig, constraint, weighs=False)
    if constraint.num_costs != 1:
        raise ValueError(f"cpo holds one limit, not {constraint.num_costs} ({', '.join(constraint.sources)})")
    return second_order(config, constraint, partial(_step, config))


def _step(config: CPOConfig, problem: PolicyProblem, status: CostStatus) -> tuple[jax.Array, Metrics]:
    violation, fvp = status.violations[0], problem.fvp
    start = problem.evaluate(problem.theta)
    g = jax.grad(lambda theta: -problem.evaluate(theta).reward)(problem.theta)
    b = jax.grad(lambda theta: problem.evaluate(theta).costs[0])(problem.theta)
    direction, info = trust_region.cpo_direction(fvp, g, b, violation, config.max_kl, config.num_cg_iterations)

    def accept(predicted: Surrogates) -> jax.Array:
        reward_ok = (info.case < 2) | (predicted.reward >= start.reward)
        return reward_ok & (predicted.costs[0] - start.costs[0] <= jnp.maximum(-violation, 0.0))

    theta, metrics = search(config, problem, direction, accept)
    cases = {f"case_{i}": (info.case == i).astype(jnp.float32) for i in range(NUM_CASES)}
    reported = {
        "kl_multiplier": info.multiplier,
        "limit_multiplier": info.nu,
        "predicted_cost": trust_region.predict_violation(b, violation, direction),
        "cost_gradient_norm": jnp.linalg.norm(b),
    }
    return theta, metrics | cases | reported
