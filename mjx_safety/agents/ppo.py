"""PPO (arXiv 1707.06347), and under a constraint PPO-Lagrangian: `ppo(PPOConfig(), lagrangian(cost_limit=25.0))`."""

from __future__ import annotations

from functools import partial

import jax
from flax import struct

from mjx_safety.agents import surrogates
from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraints import penalise, unconstrained
from mjx_safety.agents.first_order import FirstOrderConfig, UpdatedPolicy, first_order
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.types import Algorithm, Batch, Constraint, Metrics


@struct.dataclass
class PPOConfig(FirstOrderConfig):
    """Settings of PPO."""

    clip_eps: float = 0.2
    """Half width of the trusted range of density ratios."""


def ppo(config: PPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Take passes of minibatch steps on the clipped surrogates with a KL stop. Without a constraint this is plain PPO.

    Reward and cost are clipped separately, each on its pessimistic side (arXiv 2007.03964), then weighed.
    """
    constraint = constraint or unconstrained()
    check_algorithm("ppo", config, PPOConfig, constraint)
    return first_order(config, constraint, [partial(_loss, config)])


def _loss(config: PPOConfig, status: CostStatus, policy: UpdatedPolicy, batch: Batch) -> tuple[jax.Array, Metrics]:
    gain = surrogates.clipped_surrogate(policy.ratio, batch.advantage, config.clip_eps) + policy.entropy_bonus
    costs = surrogates.clipped_cost_surrogates(policy.ratio, batch.cost_advantages, config.clip_eps)
    objective = penalise(status.multipliers, gain, costs)
    return -objective, {"clipped_share": surrogates.clipped_share(policy.ratio, config.clip_eps)}
