"""TD3 (arXiv 1802.09477), and under a constraint TD3-Lagrangian: `td3(TD3Config(), lagrangian(cost_limit=25.0))`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mjx_safety.agents import optimize
from mjx_safety.agents.actor import make_actor
from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraints import penalise, unconstrained
from mjx_safety.agents.networks import Net, relu_net
from mjx_safety.agents.off_policy import Learner, Objective, OffPolicyConfig, Step, off_policy
from mjx_safety.agents.q_critics import (
    Critics,
    action_value,
    critic_optimizer,
    fit_critics,
    init_critics,
    n_step_targets,
)
from mjx_safety.agents.types import Actor, Algorithm, Constraint, Metrics, RunningStats
from mjx_safety.types import Sizes

LOG_STD_RANGE = (-100.0, 80.0)  # of an exported policy; exp is a float32 above 0 and finite in it, so nothing is cut


@struct.dataclass
class TD3Config(OffPolicyConfig):
    """Settings of TD3."""

    exploration_noise: float = 0.2
    """Standard deviation of the noise on actions in training, before the tanh."""
    target_noise: float = 0.2
    """Standard deviation of the noise on the next action in the critics' targets."""
    target_noise_max: float = 0.5
    """Largest noise in the targets, on either side."""


@struct.dataclass
class TD3Params:
    """Parameters of TD3."""

    policy: Net  # observation -> action before the tanh [A]
    average_policy: Net  # of its last weights
    target_policy: Net  # its target network
    critics: Critics
    target_critics: Critics  # their target networks


@struct.dataclass
class TD3OptState:
    """Optimiser states."""

    policy: Any
    critics: Any


def td3(config: TD3Config, constraint: Constraint | None = None) -> Algorithm:
    """Maximise (Q - sum_k multiplier_k * Q_Ck) / (1 + sum_k multiplier_k) by a deterministic policy with added noise.

    Without a constraint this is plain TD3. Q is the smaller of two critics, Q_C the mean of two, and multipliers are
    prices in reward per cost, as in `sac`.
    """
    constraint = constraint or unconstrained()
    check_algorithm("td3", config, TD3Config, constraint)
    learner = Learner(partial(_init, config), partial(_act, config), partial(_update, config), partial(_actor, config))
    return off_policy(config, constraint, learner)


def _init(config: TD3Config, sizes: Sizes, num_costs: int, key: jax.Array) -> tuple[TD3Params, TD3OptState]:
    policy_key, critic_key = jax.random.split(key)
    policy = relu_net(policy_key, sizes.obs_size, config.hidden_sizes, sizes.action_size)
    critics = init_critics(config, sizes, num_costs, critic_key)
    average, target, target_critics = jax.tree.map(jnp.copy, (policy, policy, critics))  # so that all can be donated
    params = TD3Params(policy, average, target, critics, target_critics)
    return params, TD3OptState(
        optimize.start(_optimizer(config), policy), optimize.start(critic_optimizer(config), critics)
    )


def _act(config: TD3Config, policy: Net, obs: jax.Array, noise: jax.Array | None) -> jax.Array:
    action = policy(obs)
    return jnp.tanh(action if noise is None else action + config.exploration_noise * noise)


def _actor(config: TD3Config, policy: Net, normaliser: RunningStats) -> Actor:
    network = policy.params["params"]
    log_std = jnp.full_like(network["output"]["bias"], jnp.maximum(jnp.log(config.exploration_noise), LOG_STD_RANGE[0]))
    choices = {"activation": "relu", "squash": "tanh", "log_std_range": LOG_STD_RANGE}
    return make_actor(normaliser, network, log_std, **choices)


def _update(
    config: TD3Config,
    objective: Objective,
    params: TD3Params,
    opt_state: TD3OptState,
    batch: Step,
    number: jax.Array,
    key: jax.Array,
) -> tuple[TD3Params, TD3OptState, Metrics]:
    """Take a gradient step of the critics, and in every `policy_delay`-th step one of the policy."""
    critics, target_critics, critics_state, metrics = fit_critics(
        config,
        params.critics,
        params.target_critics,
        opt_state.critics,
        batch,
        make_targets(config, objective, params, batch, key),
    )
    params = params.replace(critics=critics, target_critics=target_critics)
    opt_state = opt_state.replace(critics=critics_state)
    improve = partial(_improve_policy, config, objective, batch.obs)
    is_due = number % config.policy_delay == 0
    params, opt_state = jax.lax.cond(is_due, improve, lambda *unchanged: unchanged, params, opt_state)
    return params, opt_state, metrics


def _optimizer(config: TD3Config) -> optax.GradientTransformation:
    return optax.adam(config.learning_rate)


def make_targets(
    config: TD3Config, objective: Objective, params: TD3Params, batch: Step, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Targets of the critics for a batch [M, ...], at the target policy's action with clipped noise: [M] and [M, K]."""
    noise = config.target_noise * jax.random.normal(key, batch.action.shape)
    noise = jnp.clip(noise, -config.target_noise_max, config.target_noise_max)
    action = jnp.clip(jnp.tanh(params.target_policy(batch.next_obs)) + noise, -1.0, 1.0)
    return n_step_targets(objective, params.target_critics, batch, action, 0.0)


def _improve_policy(
    config: TD3Config, objective: Objective, obs: jax.Array, params: TD3Params, opt_state: TD3OptState
) -> tuple[TD3Params, TD3OptState]:
    """Take one step of the policy up the critics, and move its target network. obs: [M, O]."""

    def loss_fn(policy: Net) -> tuple[jax.Array, None]:
        value, costs = action_value(params.critics, obs, jnp.tanh(policy(obs)))
        return -jnp.mean(penalise(objective.multipliers, value, costs)), None

    descent = optimize.Descent(loss_fn, _optimizer(config))
    policy, policy_state, _, _ = optimize.step(descent, params.policy, opt_state.policy)
    target_policy = optimize.move_towards(params.target_policy, policy, config.tau)
    return params.replace(policy=policy, target_policy=target_policy), opt_state.replace(policy=policy_state)
