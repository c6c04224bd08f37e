"""P3O (arXiv 2205.11814): an exact penalty on what the clipped surrogate predicts to lie over the limit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import surrogates
from mjx_safety.agents.constraints import hard_limit
from mjx_safety.agents.first_order import FirstOrderConfig, PolicyLoss, first_order
from mjx_safety.agents.on_policy import Standing
from mjx_safety.agents.types import Algorithm, Batch, Constraint, Gaussian, Metrics


@struct.dataclass
class P3OConfig(FirstOrderConfig):
    """Settings of P3O."""

    clip_eps: float = 0.2  # half width of the trusted range of density ratios
    penalty: float = 5.0  # weight of a predicted violation, in the unit of reward advantages per cost per step


def p3o(config: P3OConfig, constraint: Constraint | None = None) -> Algorithm:
    """Maximise the clipped reward surrogate less penalty * sum of max(0, predicted violation).

    A violation is predicted per step: estimated episode cost over the limit, divided by the steps of an episode, plus
    the clipped cost surrogate. The paper's (1 - discount) is that division for discounted costs.
    """

    def stage(standing: Standing) -> PolicyLoss:
        def loss(dist: Gaussian, ratio: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
            reward_term = surrogates.clipped_surrogate(ratio, batch.advantage, config.clip_eps)
            cost_terms = surrogates.clipped_cost_surrogates(ratio, batch.cost_advantages, config.clip_eps)
            excess = jnp.sum(jnp.maximum(0.0, cost_terms + standing.violations))
            may_bind = surrogates.may_exceed(standing.violations, batch.cost_advantages, config.clip_eps)
            # Divided, for clipping the gradient's norm would take more from minibatches with the penalty than without.
            scale = 1.0 + config.penalty * may_bind
            return (config.penalty * excess - reward_term) / scale, {"predicted_violation": excess}

        return loss

    return first_order(config, constraint or hard_limit(), [stage])
