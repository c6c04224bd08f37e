"""SAC (arXiv 1812.05905), and under a constraint SAC-Lagrangian: `sac(SACConfig(), lagrangian(cost_limit=25.0))`."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mjx_safety.agents import distributions, optimize
from mjx_safety.agents.actor import make_actor
from mjx_safety.agents.checks import check_algorithm
from mjx_safety.agents.constraint_settings import ProjectedAscentSettings
from mjx_safety.agents.constraints import PIDGains, penalise, unconstrained
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
from mjx_safety.agents.types import Actor, Algorithm, Constraint, Gaussian, Metrics, RunningStats
from mjx_safety.types import Sizes

MIN_LOG_STD, MAX_LOG_STD = -5.0, 2.0  # before the tanh


@struct.dataclass
class SACConfig(OffPolicyConfig):
    """Settings of SAC."""

    temperature_learning_rate: float = 1e-3
    """Step size of Adam, logarithm of the temperature; 0 keeps it constant."""
    init_temperature: float = 0.01
    """Reward per nat; small, because a step of these tasks earns about 0.02."""
    target_entropy: float = -1.0
    """Nats per entry of an action; a uniform action has 0.69."""


@struct.dataclass
class OffPolicyMultiplierSettings(ProjectedAscentSettings):
    """Settings of the multiplier for off-policy algorithms, where it is a price in raw reward per raw cost."""

    multiplier_learning_rate: float = 0.006
    """Multiplier per relative violation (cost / limit - 1) and iteration."""


@struct.dataclass
class OffPolicyPIDGains(PIDGains):
    """A PID controller for off-policy algorithms, where the multiplier is a price in raw reward per raw cost."""

    proportional_gain: float = 0.06
    """Multiplier per smoothed relative violation."""
    integral_gain: float = 0.004
    """Multiplier per relative violation and iteration."""
    derivative_gain: float = 0.06
    """Multiplier per relative rise in smoothed cost."""
    smoothing: float = 0.9
    """Weight of the past in the proportional and derivative parts, (1)."""


@struct.dataclass
class SACParams:
    """Parameters of SAC."""

    policy: Net  # observation -> mean and log standard deviation before the tanh, [2 A]
    average_policy: Net  # of its last weights
    critics: Critics  # of reward and entropy, and of costs
    target_critics: Critics  # their target networks
    log_temperature: jax.Array  # []


@struct.dataclass
class SACOptState:
    """Optimiser states."""

    policy: Any
    critics: Any
    log_temperature: Any


def sac(config: SACConfig, constraint: Constraint | None = None) -> Algorithm:
    """Maximise (min Q - temperature * log_prob - sum_k multiplier_k * mean Q_Ck) / (1 + sum_k multiplier_k).

    Without a constraint this is plain SAC. Q and Q_C are discounted sums of raw reward and raw cost. A multiplier is a
    price in reward per cost. It does not compare with on-policy multipliers, which weigh cost against standardised
    reward advantages.
    """
    constraint = constraint or unconstrained()
    check_algorithm("sac", config, SACConfig, constraint)
    learner = Learner(partial(_init, config), _act, partial(_update, config), _actor, _report)
    return off_policy(config, constraint, learner)


def distribution(policy: Net, obs: jax.Array) -> Gaussian:
    """Distribution of the actions before the tanh [..., A]."""
    mean, log_std = jnp.split(policy(obs), 2, axis=-1)
    return Gaussian(mean, distributions.bound_log_std(log_std, MIN_LOG_STD, MAX_LOG_STD))


def squash(dist: Gaussian, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Turn standard normal noise [..., A] into actions tanh(u) [..., A] and their log density [...]."""
    raw = distributions.sample(dist, noise)
    log_slope = 2.0 * (math.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))  # log(1 - tanh(u)^2) without overflow
    return jnp.tanh(raw), distributions.log_prob(dist, raw) - jnp.sum(log_slope, axis=-1)


def _init(config: SACConfig, sizes: Sizes, num_costs: int, key: jax.Array) -> tuple[SACParams, SACOptState]:
    policy_key, critic_key = jax.random.split(key)
    critics = init_critics(config, sizes, num_costs, critic_key)
    policy = relu_net(policy_key, sizes.obs_size, config.hidden_sizes, 2 * sizes.action_size)
    average_policy, target_critics = jax.tree.map(jnp.copy, (policy, critics))  # copies, so that all can be donated
    params = SACParams(
        policy=policy,
        average_policy=average_policy,
        critics=critics,
        target_critics=target_critics,
        log_temperature=jnp.log(jnp.asarray(config.init_temperature, jnp.float32)),
    )
    opt_state = SACOptState(
        policy=optimize.start(optax.adam(config.learning_rate), params.policy),
        critics=optimize.start(critic_optimizer(config), params.critics),
        log_temperature=optimize.start(optax.adam(config.temperature_learning_rate), params.log_temperature),
    )
    return params, opt_state


def _act(policy: Net, obs: jax.Array, noise: jax.Array | None) -> jax.Array:
    dist = distribution(policy, obs)
    return jnp.tanh(dist.mean if noise is None else distributions.sample(dist, noise))


def _update(
    config: SACConfig,
    objective: Objective,
    params: SACParams,
    opt_state: SACOptState,
    batch: Step,
    number: jax.Array,
    key: jax.Array,
) -> tuple[SACParams, SACOptState, Metrics]:
    """Take a gradient step of the critics, and in every `policy_delay`-th step one of policy and temperature."""
    target_key, policy_key = jax.random.split(key)
    targets, entropy = make_targets(objective, params, batch, target_key)
    critics, target_critics, critics_state, metrics = fit_critics(
        config, params.critics, params.target_critics, opt_state.critics, batch, targets
    )
    params = params.replace(critics=critics, target_critics=target_critics)
    opt_state = opt_state.replace(critics=critics_state)
    improve = partial(_improve_policy, config, objective, batch.obs, policy_key)
    is_due = number % config.policy_delay == 0
    params, opt_state = jax.lax.cond(is_due, improve, lambda *unchanged: unchanged, params, opt_state)
    return params, opt_state, metrics | {"entropy": entropy}


def make_targets(
    objective: Objective, params: SACParams, batch: Step, key: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """Targets of the critics for a batch [M, ...]: of reward and entropy [M], and of costs [M, K].

    Returns them and the entropy of the next actions [] (nats).
    """
    dist = distribution(params.policy, batch.next_obs)
    action, log_prob = squash(dist, jax.random.normal(key, dist.mean.shape))
    bonus = -jnp.exp(params.log_temperature) * log_prob
    return n_step_targets(objective, params.target_critics, batch, action, bonus), -jnp.mean(log_prob)


def _actor(policy: Net, normaliser: RunningStats) -> Actor:
    choices = {"activation": "relu", "squash": "tanh", "log_std_range": (MIN_LOG_STD, MAX_LOG_STD)}
    return make_actor(normaliser, policy.params["params"], None, **choices)


def _report(params: SACParams) -> Metrics:
    return {"temperature": jnp.exp(params.log_temperature)}


def _improve_policy(
    config: SACConfig,
    objective: Objective,
    obs: jax.Array,
    key: jax.Array,
    params: SACParams,
    opt_state: SACOptState,
) -> tuple[SACParams, SACOptState]:
    """Take one step of the policy up the critics, and one of the temperature to the target entropy. obs: [M, O]."""
    temperature = jnp.exp(params.log_temperature)

    def loss_fn(policy: Net) -> tuple[jax.Array, jax.Array]:
        dist = distribution(policy, obs)
        action, log_prob = squash(dist, jax.random.normal(key, dist.mean.shape))
        value, costs = action_value(params.critics, obs, action)
        penalised = penalise(objective.multipliers, value - temperature * log_prob, costs)
        return -jnp.mean(penalised), -jnp.mean(log_prob) - dist.mean.shape[-1] * config.target_entropy

    descent = optimize.Descent(loss_fn, optax.adam(config.learning_rate))
    policy, policy_state, taken, excess = optimize.step(descent, params.policy, opt_state.policy)
    optimizer = optax.adam(config.temperature_learning_rate)  # `excess` is the slope of log_temperature * excess
    change, state = optimizer.update(jnp.where(taken, excess, 0.0), opt_state.log_temperature)
    params = params.replace(policy=policy, log_temperature=optax.apply_updates(params.log_temperature, change))
    return params, opt_state.replace(policy=policy_state, log_temperature=state)
