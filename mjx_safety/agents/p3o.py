"""P3O (arXiv 2205.11814): an exact penalty on the predicted violation of the limit."""

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
class P3OConfig(FirstOrderConfig):
    """Settings of P3O."""

    clip_eps: float = 0.2
    """Half width of the trusted range of density ratios."""
    penalty: float = 5.0
    """Weight of a predicted violation, in reward advantage per cost per step."""


def p3o(config: P3OConfig, constraint: Constraint | None = None) -> Algorithm:
    """Weigh a cost by `penalty` while its predicted value is over the limit, else by 0.

    That is the slope of the paper's penalty * max(0, predicted violation). The predicted violation is per step: the
    excess of the estimated episode cost over the limit, divided by the episode length, plus the change predicted from
    the samples. The paper's (1 - discount) is the same division for discounted costs. The clipped surrogate only gives
    the gradient, because as a prediction it rises with every move of the policy.

    A prediction from one batch is mostly noise, so the weight becomes 0 too early. The margin of `hard_limit`, on by
    default on the command line, makes up for it as in `cpo`.
    """
    constraint = constraint or hard_limit()
    check_algorithm("p3o", config, P3OConfig, constraint, weighs=False)
    return first_order(config, constraint, [partial(_loss, config)])


def _loss(config: P3OConfig, status: CostStatus, policy: UpdatedPolicy, batch: Batch) -> tuple[jax.Array, Metrics]:
    gain = surrogates.clipped_surrogate(policy.ratio, batch.advantage, config.clip_eps) + policy.entropy_bonus
    costs = surrogates.clipped_cost_surrogates(policy.ratio, batch.cost_advantages, config.clip_eps)
    predicted = status.violations + policy.cost_changes
    weights = jnp.where(predicted > 0.0, config.penalty, 0.0)
    return -penalise(weights, gain, costs), {"predicted_violation": jnp.sum(jnp.maximum(0.0, predicted))}
