"""CUP (arXiv 2209.07089): improve the reward without the limit, then lower the cost."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import distributions, surrogates
from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraints import lagrangian
from mjx_safety.agents.first_order import FirstOrderConfig, UpdatedPolicy, first_order
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.types import Algorithm, Batch, Constraint, Metrics


@struct.dataclass
class CUPConfig(FirstOrderConfig):
    """Settings of CUP."""

    clip_eps: float = 0.2
    """Half width of the trusted range of density ratios."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus; smaller than that of PPO, because the second stage does not take it back."""


def cup(config: CUPConfig, constraint: Constraint | None = None) -> Algorithm:
    """Take the passes of PPO on the reward, then as many on the costs, close to the policy reached so far.

    The paper's weight of the cost, (1 - discount * lambda) / (1 - discount), follows from the settings of advantages.
    Unlike in the paper, the second stage begins at a share 1 / (1 + multiplier) of the first one (see `first_order`).
    """
    constraint = constraint or lagrangian()
    check_algorithm("cup", config, CUPConfig, constraint, weighs=True)
    return first_order(config, constraint, [partial(_improve, config), _project])


def _improve(config: CUPConfig, status: CostStatus, policy: UpdatedPolicy, batch: Batch) -> tuple[jax.Array, Metrics]:
    gain = surrogates.clipped_surrogate(policy.ratio, batch.advantage, config.clip_eps) + policy.entropy_bonus
    return -gain, {"clipped_share": surrogates.clipped_share(policy.ratio, config.clip_eps)}


def _project(status: CostStatus, policy: UpdatedPolicy, batch: Batch) -> tuple[jax.Array, Metrics]:
    """Lower the weighed costs. If there are none, stay: Adam would take whole steps along a rounding error."""
    distance = jnp.mean(distributions.kl(policy.dist, policy.start))
    cost = status.multipliers @ surrogates.cost_surrogates(policy.ratio, batch.cost_advantages)
    is_weighed = jnp.any(status.multipliers * batch.cost_advantages != 0.0)
    return jnp.where(is_weighed, distance + status.cost_horizon * cost, 0.0), {}
