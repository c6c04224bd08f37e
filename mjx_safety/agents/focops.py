"""FOCOPS (arXiv 2002.06506): the optimal policy within a KL ball, projected back onto the network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import distributions
from mjx_safety.agents.constraints import lagrangian, penalise
from mjx_safety.agents.first_order import FirstOrderConfig, Moved, PolicyLoss, first_order
from mjx_safety.agents.on_policy import Standing
from mjx_safety.agents.types import Algorithm, Batch, Constraint, Metrics


@struct.dataclass
class FOCOPSConfig(FirstOrderConfig):
    """Settings of FOCOPS."""

    temperature: float = 1.5  # of the target policy; a smaller one follows the advantage more
    max_state_kl: float = 0.02  # nats; observations beyond this KL divergence do not count


def focops(config: FOCOPSConfig, constraint: Constraint | None = None) -> Algorithm:
    """Minimise KL(new || old) - ratio * advantage / temperature, over observations with a small KL divergence.

    The advantage is that of reward minus those of costs times their multipliers, divided by 1 + their sum. The division
    keeps the meaning of the temperature as the multipliers grow.
    """

    def stage(standing: Standing) -> PolicyLoss:
        def loss(moved: Moved, batch: Batch) -> tuple[jax.Array, Metrics]:
            kl = distributions.kl(moved.dist, moved.start)
            advantage = penalise(standing.multipliers, batch.advantage, batch.cost_advantages)
            counts = jax.lax.stop_gradient((kl <= config.max_state_kl).astype(kl.dtype))
            value = jnp.mean(counts * (kl - moved.ratio * advantage / config.temperature))
            bonus = moved.entropy_bonus / (1.0 + jnp.sum(standing.multipliers))
            return value - bonus, {"counted_share": jnp.mean(counts)}

        return loss

    return first_order(config, constraint or lagrangian(), [stage])
