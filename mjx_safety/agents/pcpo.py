"""PCPO (arXiv 2010.03152): a natural step on the reward, projected back under the cost limit in KL."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import trust_region
from mjx_safety.agents.constraints import hard_limit
from mjx_safety.agents.on_policy import Standing
from mjx_safety.agents.second_order import PolicyProblem, Surrogates, TrustRegionConfig, search, second_order
from mjx_safety.agents.types import Algorithm, Constraint, Metrics


@struct.dataclass
class PCPOConfig(TrustRegionConfig):
    """Settings of PCPO."""

    cost_gradient_memory: float = 0.9
    """Weight of past iterations in the gradient of the cost, below 1."""


def pcpo(config: PCPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Take the projected step, shortened until KL and cost surrogate agree. It supports one limit."""
    constraint = constraint or hard_limit()
    if constraint.num_costs != 1:
        raise ValueError(f"pcpo holds one limit, not {constraint.num_costs} ({', '.join(constraint.sources)})")

    def step(problem: PolicyProblem, standing: Standing) -> tuple[jax.Array, Metrics]:
        violation = standing.violations[0]
        start = problem.evaluate(problem.theta)
        g = jax.grad(lambda theta: -problem.evaluate(theta).reward)(problem.theta)
        b = jax.grad(lambda theta: problem.evaluate(theta).costs[0])(problem.theta)
        direction = trust_region.pcpo_direction(problem.fvp, g, b, violation, config.max_kl, config.num_cg_iterations)

        def accept(found: Surrogates) -> jax.Array:
            return found.costs[0] - start.costs[0] <= jnp.maximum(-violation, 0.0)

        theta, metrics = search(config, problem, direction, accept)
        return theta, metrics | {"predicted_cost": trust_region.predict_violation(b, violation, direction)}

    return second_order(config, constraint, step, config.cost_gradient_memory)
