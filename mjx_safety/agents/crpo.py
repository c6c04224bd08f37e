"""CRPO (arXiv 2011.05869): improve the reward while all limits hold, else lower the most violated cost."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents.constraints import hard_limit
from mjx_safety.agents.on_policy import Standing
from mjx_safety.agents.second_order import PolicyProblem, Surrogates, TrustRegionConfig, ascend, second_order
from mjx_safety.agents.types import Algorithm, Constraint, Metrics


@struct.dataclass
class CRPOConfig(TrustRegionConfig):
    """Settings of CRPO."""

    tolerance: float = 0.0  # cost per step above a limit that still counts as holding it


def crpo(config: CRPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Take TRPO steps on one objective at a time, without multipliers."""

    def step(problem: PolicyProblem, standing: Standing) -> tuple[jax.Array, Metrics]:
        worst = jnp.argmax(standing.violations)
        broken = standing.violations[worst] > config.tolerance

        def objective(found: Surrogates) -> jax.Array:
            return jnp.where(broken, -found.costs[worst], found.reward)

        theta, metrics = ascend(config, problem, objective)
        return theta, metrics | {"lowers_cost": broken.astype(jnp.float32)}

    return second_order(config, constraint or hard_limit(), step)
