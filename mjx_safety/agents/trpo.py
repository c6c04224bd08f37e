"""TRPO (arXiv 1502.05477), and with a constraint TRPO-Lagrangian: `trpo(TRPOConfig(), lagrangian(25.0))`."""

from __future__ import annotations

import jax
from flax import struct

from mjx_safety.agents.constraints import penalise, unconstrained
from mjx_safety.agents.on_policy import Standing
from mjx_safety.agents.second_order import PolicyProblem, TrustRegionConfig, ascend, second_order
from mjx_safety.agents.types import Algorithm, Constraint, Metrics


@struct.dataclass
class TRPOConfig(TrustRegionConfig):
    """Settings of TRPO."""


def trpo(config: TRPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Take one natural step per batch on the reward surrogate minus the weighed cost surrogates."""

    def step(problem: PolicyProblem, standing: Standing) -> tuple[jax.Array, Metrics]:
        return ascend(config, problem, lambda found: penalise(standing.multipliers, found.reward, found.costs))

    return second_order(config, constraint or unconstrained(), step)
