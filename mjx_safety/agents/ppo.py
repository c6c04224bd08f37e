"""PPO (arXiv 1707.06347), and under a constraint PPO-Lagrangian: `ppo(PPOConfig(), lagrangian(cost_limit=25.0))`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import distributions, optimize, surrogates
from mjx_safety.agents.constraints import unconstrained
from mjx_safety.agents.critics import fit_critics
from mjx_safety.agents.networks import make_networks
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
class PPOConfig:
    """Settings of PPO."""

    hidden_sizes: tuple[int, ...] = struct.field(pytree_node=False, default=(64, 64))  # units per layer of each network
    num_passes: int = struct.field(pytree_node=False, default=8)  # policy passes over a batch, at most
    num_minibatches: int = struct.field(pytree_node=False, default=16)  # gradient steps per pass, policy and critics
    num_critic_passes: int = struct.field(pytree_node=False, default=8)  # critic passes over a batch, always all
    init_log_std: float = -0.5  # logarithm of the policy's first standard deviation
    learning_rate: float = 3e-4  # Adam, policy
    critic_learning_rate: float = 1e-3  # Adam, value and cost value
    clip_eps: float = 0.2  # half width of the trusted range of density ratios
    entropy_coef: float = 0.0  # weight of the entropy bonus, which no multiplier scales down
    target_kl: float = 0.015  # nats; no further policy pass once the new policy is farther from the old one
    max_grad_norm: float = 1.0  # each network's gradient is scaled down to this norm


def ppo(config: PPOConfig, constraint: Constraint | None = None) -> Algorithm:
    """Several passes of minibatch steps on the clipped surrogate, stopped by KL. Without a constraint: plain PPO."""
    constraint = constraint or unconstrained()
    networks = make_networks(config.hidden_sizes, config.init_log_std)
    policy_optimizer = optimize.make_optimizer(config.learning_rate, config.max_grad_norm)
    critic_optimizer = optimize.make_optimizer(config.critic_learning_rate, config.max_grad_norm)

    def init_optimizers(params: Params) -> OptState:
        return OptState(
            policy=policy_optimizer.init(params.policy),
            value=critic_optimizer.init(params.value),
            cost_value=critic_optimizer.init(params.cost_value),
        )

    def update(state: TrainState, batch: Batch, episode_cost: jax.Array, key: jax.Array) -> tuple[TrainState, Metrics]:
        policy_key, critic_key = jax.random.split(key)
        state = state.replace(constraint=constraint.update(state.constraint, episode_cost))
        policy, policy_opt, policy_metrics = optimize.fit_until_kl(
            Descent(make_policy_loss(config, networks, constraint, state.constraint), policy_optimizer),
            lambda params: mean_kl(networks, params, batch),
            config.target_kl,
            state.params.policy,
            state.opt_state.policy,
            batch,
            policy_key,
            Passes(config.num_passes, config.num_minibatches),
        )
        state = state.replace(
            params=state.params.replace(policy=policy), opt_state=state.opt_state.replace(policy=policy_opt)
        )
        passes = Passes(config.num_critic_passes, config.num_minibatches)
        state, critic_metrics = fit_critics(networks, critic_optimizer, state, batch, critic_key, passes)
        return state, policy_metrics | critic_metrics

    return Algorithm(networks, constraint, init_optimizers, update)


def make_policy_loss(
    config: PPOConfig, networks: Networks, constraint: Constraint, constraint_state: Any
) -> optimize.Loss:
    """Build the negative of: combined clipped surrogates + entropy bonus. The constraint is fixed during an update."""

    def loss_fn(policy_params: Any, batch: Batch) -> tuple[jax.Array, Metrics]:
        dist = networks.policy(policy_params, batch.obs)
        ratio = jnp.exp(distributions.log_prob(dist, batch.action) - batch.log_prob)
        reward_term = surrogates.clipped_surrogate(ratio, batch.advantage, config.clip_eps)
        cost_term = surrogates.clipped_cost_surrogate(ratio, batch.cost_advantage, config.clip_eps)
        entropy = jnp.mean(distributions.entropy(dist))
        objective = constraint.combine(constraint_state, reward_term, cost_term) + config.entropy_coef * entropy
        auxiliary = {"entropy": entropy, "clipped_share": surrogates.clipped_share(ratio, config.clip_eps)}
        return -objective, auxiliary

    return loss_fn


def mean_kl(networks: Networks, policy_params: Any, batch: Batch) -> jax.Array:
    """KL(acting policy || policy_params), mean over the batch [] (nats), in full float32 for so small a number."""
    with jax.default_matmul_precision("highest"):
        dist = networks.policy(policy_params, batch.obs)
    return jnp.mean(distributions.kl(Gaussian(batch.mean, batch.log_std), dist))
