"""RCPO (arXiv 1805.11074): the reward less the cost times a multiplier, in plain natural gradient steps."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import trust_region
from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraints import lagrangian, penalise
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.second_order import PolicyProblem, Surrogates, TrustRegionConfig, relative_residual, second_order
from mjx_safety.agents.types import Algorithm, Constraint, Metrics


@struct.dataclass
class RCPOConfig(TrustRegionConfig):
    """Settings of RCPO."""

    step_share: float = 1.0
    """Length of a step, as a share of the way to the edge of the KL ball."""


def rcpo(config: RCPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Take one natural gradient step per batch on the penalised reward, without a line search.

    The paper learns one critic of the penalised reward. Here reward and cost keep their own critics, and the multiplier
    weighs their advantages, so that a critic does not lag behind the multiplier. A step that is not finite is skipped.
    """
    constraint = constraint or lagrangian()
    check_algorithm("rcpo", config, RCPOConfig, constraint, weighs=True)
    return second_order(config, constraint, partial(_step, config))


def _step(config: RCPOConfig, problem: PolicyProblem, status: CostStatus) -> tuple[jax.Array, Metrics]:
    def loss(predicted: Surrogates) -> jax.Array:
        return -penalise(status.multipliers, predicted.reward, predicted.costs)

    gradient = jax.grad(lambda theta: loss(problem.evaluate(theta)))(problem.theta)
    v = trust_region.conjugate_gradient(problem.fvp, gradient, config.num_cg_iterations)
    direction, _ = trust_region.natural_step(v, problem.fvp, config.max_kl)
    moved = problem.theta - config.step_share * direction
    predicted = problem.evaluate(moved)
    finite = jnp.isfinite(jnp.linalg.norm(direction)) & jnp.isfinite(predicted.kl)
    metrics = {
        "kl": jnp.where(finite, predicted.kl, 0.0),
        "skipped_share": 1.0 - finite.astype(jnp.float32),
        "cg_residual": jnp.nan_to_num(relative_residual(problem.fvp, v, gradient)),
    }
    return jnp.where(finite, moved, problem.theta), metrics
