"""IPO (arXiv 1910.09615): a logarithmic barrier on the room below the limit."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import surrogates
from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraints import hard_limit, penalise
from mjx_safety.agents.first_order import FirstOrderConfig, UpdatedPolicy, first_order
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.types import Algorithm, Batch, Constraint, Metrics


@struct.dataclass
class IPOConfig(FirstOrderConfig):
    """Settings of IPO."""

    clip_eps: float = 0.2
    """Half width of the trusted range of density ratios."""
    sharpness: float = 100.0
    """The barrier is log(room) / sharpness, room in cost per step."""
    least_room: float = 1e-3
    """Cost per step; below this room the barrier continues as a straight line."""


def slope(room: jax.Array, sharpness: jax.Array | float, least_room: jax.Array | float) -> jax.Array:
    """Slope of log(room) / sharpness for room >= least_room, and the slope at least_room below [...]."""
    return 1.0 / (sharpness * jnp.maximum(room, least_room))


def ipo(config: IPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Weigh a cost by the barrier's slope at the predicted room: (limit - episode cost) / its steps - change.

    Below `least_room` the slope is constant. Training can then start from policies over the limit, where the paper's
    barrier is undefined.

    The predicted change is mostly noise, so the weight falls too early. The margin of `hard_limit`, on by default on
    the command line, makes up for it as in `p3o`.
    """
    constraint = constraint or hard_limit()
    check_algorithm("ipo", config, IPOConfig, constraint, weighs=False)
    return first_order(config, constraint, [partial(_loss, config)])


def _loss(config: IPOConfig, status: CostStatus, policy: UpdatedPolicy, batch: Batch) -> tuple[jax.Array, Metrics]:
    gain = surrogates.clipped_surrogate(policy.ratio, batch.advantage, config.clip_eps) + policy.entropy_bonus
    costs = surrogates.clipped_cost_surrogates(policy.ratio, batch.cost_advantages, config.clip_eps)
    room = -status.violations - policy.cost_changes
    weights = slope(room, config.sharpness, config.least_room)
    metrics = {"room": jnp.nan_to_num(jnp.min(room), posinf=0.0), "weight": jnp.max(weights)}
    return -penalise(weights, gain, costs), metrics
