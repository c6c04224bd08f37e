"""FOCOPS (arXiv 2002.06506): the optimal policy within a KL ball, projected back onto the network."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import distributions
from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraints import lagrangian, penalise
from mjx_safety.agents.first_order import FirstOrderConfig, UpdatedPolicy, first_order
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.types import Algorithm, Batch, Constraint, Metrics


@struct.dataclass
class FOCOPSConfig(FirstOrderConfig):
    """Settings of FOCOPS."""

    temperature: float = 1.5
    """Temperature of the target policy; a smaller one follows the advantage more closely."""
    max_state_kl: float = 0.02
    """Largest KL divergence, in nats, at which an observation counts."""


def focops(config: FOCOPSConfig, constraint: Constraint | None = None) -> Algorithm:
    """Minimise KL(new || old) - ratio * advantage / temperature, over observations with a small KL divergence.

    The advantage is that of reward minus those of costs times their multipliers, divided by 1 + their sum. The division
    keeps the meaning of the temperature as the multipliers grow.
    """
    constraint = constraint or lagrangian()
    check_algorithm("focops", config, FOCOPSConfig, constraint, weighs=True)
    return first_order(config, constraint, [partial(_loss, config)])


def _loss(config: FOCOPSConfig, status: CostStatus, policy: UpdatedPolicy, batch: Batch) -> tuple[jax.Array, Metrics]:
    kl = distributions.kl(policy.dist, policy.start)
    advantage = penalise(status.multipliers, batch.advantage, batch.cost_advantages)
    counts = jax.lax.stop_gradient((kl <= config.max_state_kl).astype(kl.dtype))
    value = jnp.mean(counts * (kl - policy.ratio * advantage / config.temperature))
    bonus = policy.entropy_bonus / (1.0 + jnp.sum(status.multipliers))
    return value - bonus, {"counted_share": jnp.mean(counts)}
