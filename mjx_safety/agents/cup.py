"""CUP (arXiv 2209.07089): improve the reward as if there were no limit, then move back towards what costs less."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import distributions, surrogates
from mjx_safety.agents.constraints import lagrangian
from mjx_safety.agents.first_order import FirstOrderConfig, PolicyLoss, first_order
from mjx_safety.agents.on_policy import Standing
from mjx_safety.agents.types import Algorithm, Batch, Constraint, Gaussian, Metrics


@struct.dataclass
class CUPConfig(FirstOrderConfig):
    """Settings of CUP."""

    clip_eps: float = 0.2  # half width of the trusted range of density ratios
    cost_weight: float = 5.95  # (1 - discount * gae_lambda) / (1 - discount), here of 0.99 and 0.95


def cup(config: CUPConfig, constraint: Constraint | None = None) -> Algorithm:
    """Take the passes of PPO on the reward; then as many on the costs, held to the policy reached so far."""

    def improve(standing: Standing) -> PolicyLoss:
        def loss(dist: Gaussian, ratio: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
            objective = surrogates.clipped_surrogate(ratio, batch.advantage, config.clip_eps)
            return -objective, {"clipped_share": surrogates.clipped_share(ratio, config.clip_eps)}

        return loss

    def project(standing: Standing) -> PolicyLoss:
        def loss(dist: Gaussian, ratio: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
            distance = jnp.mean(distributions.kl(dist, Gaussian(batch.mean, batch.log_std)))
            cost = standing.multipliers @ surrogates.cost_surrogates(ratio, batch.cost_advantages)
            return distance + config.cost_weight * cost, {}

        return loss

    return first_order(config, constraint or lagrangian(), [improve, project])
