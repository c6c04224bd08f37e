"""CPO (arXiv 1705.10528): the best step inside a KL ball that keeps the predicted cost under its limit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import trust_region
from mjx_safety.agents.constraints import hard_limit
from mjx_safety.agents.on_policy import Standing
from mjx_safety.agents.second_order import (
    PolicyProblem,
    Surrogates,
    TrustRegionConfig,
    search,
    second_order,
)
from mjx_safety.agents.types import Algorithm, Constraint, Metrics

NUM_CASES = 5  # of `trust_region.solve_cpo_dual`


@struct.dataclass
class CPOConfig(TrustRegionConfig):
    """Settings of CPO."""


def cpo(config: CPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Solve the linear-quadratic problem of one limit, then search back along its answer.

    The violation is taken per step, as cost advantages are. A step is accepted when the KL, the reward surrogate and
    the cost surrogate themselves agree, not their linear models; where the limit is broken the reward may fall.

    What the step predicts is partly noise of the batch that it was fitted to, so that by itself CPO settles above its
    limit, as the published ones do. `hard_limit(25.0, margin_learning_rate=0.02)`, the command line's default, corrects
    this.
    """
    constraint = constraint or hard_limit()
    if constraint.num_costs != 1:
        raise ValueError(f"cpo holds one limit, not {constraint.num_costs} ({', '.join(constraint.sources)})")

    def step(problem: PolicyProblem, standing: Standing) -> tuple[jax.Array, Metrics]:
        violation, fvp = standing.violations[0], problem.fvp
        start = problem.evaluate(problem.theta)
        g = jax.grad(lambda theta: -problem.evaluate(theta).reward)(problem.theta)
        b = jax.grad(lambda theta: problem.evaluate(theta).costs[0])(problem.theta)
        direction, info = trust_region.cpo_direction(fvp, g, b, violation, config.max_kl, config.num_cg_iterations)

        def accept(found: Surrogates) -> jax.Array:
            reward_ok = (info.case < 2) | (found.reward >= start.reward)
            return reward_ok & (found.costs[0] - start.costs[0] <= jnp.maximum(-violation, 0.0))

        theta, metrics = search(config, problem, direction, accept)
        cases = {f"case_{i}": (info.case == i).astype(jnp.float32) for i in range(NUM_CASES)}
        predicted = {
            "kl_multiplier": info.multiplier,
            "limit_multiplier": info.nu,
            "predicted_cost": violation - b @ direction,
            "cost_gradient_norm": jnp.linalg.norm(b),
        }
        return theta, metrics | cases | predicted

    return second_order(config, constraint, step)
