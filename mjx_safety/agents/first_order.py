"""Algorithms with passes of minibatch steps on a loss and a KL stop: PPO, FOCOPS, CUP, P3O, IPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import distributions, optimize, surrogates
from mjx_safety.agents.critics import ActorCriticConfig, fit_critics, init_critic_optimizer, make_actor_critic
from mjx_safety.agents.on_policy import CostStatus, on_policy
from mjx_safety.agents.optimize import Descent, LossOutput, Passes, TrustRegion
from mjx_safety.agents.types import (
    Algorithm,
    Batch,
    Constraint,
    Gaussian,
    Metrics,
    Networks,
    OptState,
    Params,
    TrainState,
)


@struct.dataclass
class FirstOrderConfig(ActorCriticConfig):
    """Settings of the policy's passes over a batch."""

    num_passes: int = struct.field(pytree_node=False, default=8)
    """Largest number of policy passes over a batch."""
    num_critic_passes: int = struct.field(pytree_node=False, default=5)
    """Critic passes over a batch; the KL stop does not end them."""
    learning_rate: float = 2e-4
    """Step size of Adam, policy."""
    entropy_coef: float = 0.03
    """Weight of the entropy bonus; multipliers scale it like the reward."""
    final_std: float = float("inf")
    """The bonus stops at a standard deviation of actions that falls to this value in training. inf: it never stops."""
    target_kl: float = 0.015
    """Largest KL divergence from the old policy, in nats."""


@struct.dataclass
class UpdatedPolicy:
    """The new policy on the M samples of a minibatch."""

    dist: Gaussian  # [M, A]
    ratio: jax.Array  # [M] its density / density of the policy that acted
    start: Gaussian  # [M, A] the policy at the start of the stage; of the first stage, the policy that acted
    entropy_bonus: jax.Array  # [] part of the gain in reward, scaled like it
    cost_changes: jax.Array  # [K] predicted change of each cost per step, a mean over the last minibatches; constant


# -> loss to minimise [], scalars to report
PolicyLoss = Callable[[CostStatus, UpdatedPolicy, Batch], tuple[jax.Array, Metrics]]

MEMORY = 0.75  # weight of the past in `UpdatedPolicy.cost_changes`, because single minibatches are noisy


def first_order(config: FirstOrderConfig, constraint: Constraint, stages: Sequence[PolicyLoss]) -> Algorithm:
    """Minimise each stage's loss in turn, then fit the critics.

    Ratios and KL refer to the policy that acted, in every stage. All algorithms but CUP have one stage.

    - Trust region: stage i of n may reach i / n of `target_kl`, so that a second stage can take the first one back.
    - Start of stage 2: old + (result of stage 1 - old) / (1 + sum of multipliers). The length of Adam's steps does not
      follow the weight of a loss, so the multipliers shorten the way for the reward instead.
    """
    networks, critic_optimizer = make_actor_critic(config, constraint)
    policy_optimizer = optimize.make_optimizer(config.learning_rate, config.max_grad_norm)

    def init_optimizers(params: Params) -> OptState:
        policy = [policy_optimizer.init(params.policy) for _ in stages]  # each stage has its own momentum
        return OptState(policy, **init_critic_optimizer(critic_optimizer, params))

    def update(state: TrainState, batch: Batch, status: CostStatus, key: jax.Array) -> tuple[TrainState, Metrics]:
        critic_key, *stage_keys = jax.random.split(key, 1 + len(stages))
        policy, opt_states, metrics = state.params.policy, list(state.opt_state.policy), {}
        cost_changes = jnp.zeros_like(status.violations)  # the policy has not moved yet
        max_log_std = bonus_limit(config, status.progress)
        for number, (stage, stage_key) in enumerate(zip(stages, stage_keys, strict=True)):
            if number > 0:
                policy = optimize.move_towards(state.params.policy, policy, 1.0 / (1.0 + jnp.sum(status.multipliers)))
            begins_at = None if number == 0 else networks.policy(policy, batch.obs)
            policy, opt_states[number], cost_changes, reported = optimize.fit_until_kl(
                Descent(_make_loss(config, networks, partial(stage, status), max_log_std), policy_optimizer),
                TrustRegion(partial(mean_kl, networks, batch), config.target_kl * (number + 1) / len(stages)),
                policy,
                opt_states[number],
                cost_changes,
                (batch, begins_at),
                stage_key,
                Passes(config.num_passes, config.num_minibatches),
            )
            metrics |= {name if number == 0 else f"{name}_{number + 1}": value for name, value in reported.items()}
        state = state.replace(
            params=state.params.replace(policy=policy), opt_state=state.opt_state.replace(policy=opt_states)
        )
        state, critic_metrics = fit_critics(networks, critic_optimizer, config, state, batch, critic_key)
        return state, metrics | critic_metrics

    return on_policy(networks, constraint, init_optimizers, update)


def mean_kl(networks: Networks, batch: Batch, policy_params: Any) -> jax.Array:
    """KL(the batch's policy || policy_params), mean over the batch [] (nats), in full float32."""
    with jax.default_matmul_precision("highest"):
        dist = networks.policy(policy_params, batch.obs)
    return jnp.mean(distributions.kl(Gaussian(batch.mean, batch.log_std), dist))


def bonus_limit(config: FirstOrderConfig, progress: jax.Array | float) -> jax.Array:
    """Logarithm [] of the standard deviation above which the entropy bonus ends, after a share of the training.

    It falls linearly from that of the first policy to that of `final_std`. Agents in an arena learn faster if the bonus
    has no end. A gait needs noise to be found, and then precision.
    """
    begin, end = config.init_log_std, jnp.log(config.final_std)
    return jnp.where(jnp.isfinite(end), begin + progress * (end - begin), jnp.inf)


def _make_loss(
    config: FirstOrderConfig,
    networks: Networks,
    policy_loss: Callable[[UpdatedPolicy, Batch], tuple[jax.Array, Metrics]],
    max_log_std: jax.Array,
) -> optimize.PolicyLoss:
    """Turn the loss of a policy into a loss of its parameters. Its memory is the cost changes [K].

    max_log_std: as returned by `bonus_limit`.
    """

    def loss_fn(policy_params: Any, data: tuple[Batch, Gaussian | None], cost_changes: jax.Array) -> tuple:
        batch, begins_at = data
        acted, dist = Gaussian(batch.mean, batch.log_std), networks.policy(policy_params, batch.obs)
        ratio = jnp.exp(distributions.log_prob(dist, batch.action) - batch.log_prob)
        entropy = jnp.mean(distributions.entropy(dist))
        here = jax.lax.stop_gradient(surrogates.cost_surrogates(ratio, batch.cost_advantages))
        cost_changes = MEMORY * cost_changes + (1.0 - MEMORY) * here
        paid = distributions.entropy(dist.replace(log_std=jnp.minimum(dist.log_std, max_log_std)))
        bonus = config.entropy_coef * jnp.mean(paid)
        updated = UpdatedPolicy(dist, ratio, begins_at or acted, bonus, cost_changes)
        loss, metrics = policy_loss(updated, batch)
        return loss, LossOutput(jnp.mean(distributions.kl(acted, dist)), cost_changes, metrics | {"entropy": entropy})

    return loss_fn
