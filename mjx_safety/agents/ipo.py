"""IPO (arXiv 1910.09615): a logarithmic barrier on the room that is left below the limit."""

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
class IPOConfig(FirstOrderConfig):
    """Settings of IPO."""

    clip_eps: float = 0.2  # half width of the trusted range of density ratios
    sharpness: float = 100.0  # the barrier is log(room) / sharpness, room in cost per step
    least_room: float = 1e-3  # cost per step; with less room, or none, the barrier goes on as a straight line


def barrier(room: jax.Array, least_room: jax.Array | float) -> jax.Array:
    """log(room) where room >= least_room, below it the tangent there: finite and rising for any room [...]."""
    safe = jnp.maximum(room, least_room)
    return jnp.log(safe) + jnp.minimum(room - least_room, 0.0) / least_room


def ipo(config: IPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Maximise the clipped reward surrogate + the barrier of (limit - predicted episode cost) / steps of an episode.

    The tangent lets it start from policies that cost too much, for which the paper's barrier is not defined.
    """

    def stage(standing: Standing) -> PolicyLoss:
        def loss(dist: Gaussian, ratio: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
            reward_term = surrogates.clipped_surrogate(ratio, batch.advantage, config.clip_eps)
            cost_terms = surrogates.clipped_cost_surrogates(ratio, batch.cost_advantages, config.clip_eps)
            room = -standing.violations - cost_terms
            bonus = jnp.sum(barrier(room, config.least_room)) / config.sharpness
            may_bind = surrogates.may_exceed(standing.violations, batch.cost_advantages, config.clip_eps)
            steepest = 1.0 / (config.least_room * config.sharpness)  # weight that a cost can have, which sets the scale
            return -(reward_term + bonus) / (1.0 + steepest * may_bind), {"room": jnp.min(room)}

        return loss

    return first_order(config, constraint or hard_limit(), [stage])
