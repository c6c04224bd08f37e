"""Algorithms that learn by passes of minibatch steps on a loss, stopped by KL: PPO, FOCOPS, CUP, P3O, IPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import distributions, optimize
from mjx_safety.agents.critics import ActorCriticConfig, fit_critics, init_critic_optimizer, make_actor_critic
from mjx_safety.agents.on_policy import Standing, on_policy
from mjx_safety.agents.optimize import Descent, Passes
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

    num_passes: int = struct.field(pytree_node=False, default=8)  # policy passes over a batch, at most
    num_critic_passes: int = struct.field(pytree_node=False, default=5)  # critic passes over a batch, always all
    learning_rate: float = 3e-4  # Adam, policy
    entropy_coef: float = 0.0  # weight of the entropy bonus, which no multiplier scales down
    target_kl: float = 0.015  # nats; no further policy pass once the new policy is farther from the old one


# Policy, density ratios [M] and the minibatch they belong to -> what to minimise [], and scalars to report.
PolicyLoss = Callable[[Gaussian, jax.Array, Batch], tuple[jax.Array, Metrics]]
Stage = Callable[[Standing], PolicyLoss]


def first_order(config: FirstOrderConfig, constraint: Constraint, stages: Sequence[Stage]) -> Algorithm:
    """Minimise each stage's loss in turn, then fit the critics.

    A stage begins at the policy that the stage before ended with. In its loss `batch.mean` and `batch.log_std` are that
    policy, from which the KL is measured too; the ratios always refer to the policy that acted.
    """
    networks, critic_optimizer = make_actor_critic(config, constraint)
    policy_optimizer = optimize.make_optimizer(config.learning_rate, config.max_grad_norm)

    def init_optimizers(params: Params) -> OptState:
        policy = [policy_optimizer.init(params.policy) for _ in stages]  # one stage's momentum is not the other's
        return OptState(policy, **init_critic_optimizer(critic_optimizer, params))

    def update(state: TrainState, batch: Batch, standing: Standing, key: jax.Array) -> tuple[TrainState, Metrics]:
        critic_key, *stage_keys = jax.random.split(key, 1 + len(stages))
        policy, opt_states, metrics = state.params.policy, list(state.opt_state.policy), {}
        for number, (stage, stage_key) in enumerate(zip(stages, stage_keys, strict=True)):
            from_here = batch if number == 0 else _move_reference(networks, policy, batch)
            policy, opt_states[number], reported = optimize.fit_until_kl(
                Descent(_make_loss(config, networks, stage(standing)), policy_optimizer),
                lambda params, start=from_here: mean_kl(networks, params, start),
                config.target_kl,
                policy,
                opt_states[number],
                from_here,
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


def mean_kl(networks: Networks, policy_params: Any, batch: Batch) -> jax.Array:
    """KL(the batch's policy || policy_params), mean over the batch [] (nats), in full float32 for so small a number."""
    with jax.default_matmul_precision("highest"):
        dist = networks.policy(policy_params, batch.obs)
    return jnp.mean(distributions.kl(Gaussian(batch.mean, batch.log_std), dist))


def _make_loss(config: FirstOrderConfig, networks: Networks, policy_loss: PolicyLoss) -> optimize.Loss:
    """Turn the loss of a policy into one of its parameters, less the entropy bonus."""

    def loss_fn(policy_params: Any, batch: Batch) -> tuple[jax.Array, Metrics]:
        dist = networks.policy(policy_params, batch.obs)
        ratio = jnp.exp(distributions.log_prob(dist, batch.action) - batch.log_prob)
        loss, metrics = policy_loss(dist, ratio, batch)
        entropy = jnp.mean(distributions.entropy(dist))
        return loss - config.entropy_coef * entropy, metrics | {"entropy": entropy}

    return loss_fn


def _move_reference(networks: Networks, policy_params: Any, batch: Batch) -> Batch:
    """Measure from this policy now."""
    dist = networks.policy(policy_params, batch.obs)
    return batch.replace(mean=dist.mean, log_std=dist.log_std)
