"""SAC-Lagrangian: SAC (arXiv 1812.05905) under a constraint, off-policy, with a replay buffer on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from mjx_safety.agents import distributions, episode_cost, optimize, replay, rollout, running_stats
from mjx_safety.agents.actor import make_actor
from mjx_safety.agents.constraints import lagrangian, penalise
from mjx_safety.agents.types import (
    Actor,
    Algorithm,
    Constraint,
    EpisodeSums,
    Gaussian,
    Metrics,
    OffPolicyTrainConfig,
    RunningStats,
    TrainState,
)
from mjx_safety.types import Sizes, VectorEnvironment

MIN_LOG_STD, MAX_LOG_STD = -5.0, 2.0  # before the tanh


@struct.dataclass
class SACConfig:
    """Settings of SAC. The work per environment step is updates_per_step * batch_size samples."""

    hidden_sizes: tuple[int, ...] = struct.field(pytree_node=False, default=(64, 64))  # units per layer, each network
    replay_capacity: int = struct.field(pytree_node=False, default=1_000_000)  # steps of all worlds together
    batch_size: int = struct.field(pytree_node=False, default=512)  # samples per gradient step
    updates_per_step: float = 0.0625  # gradient steps per environment step, whatever the number of worlds
    learning_rate: float = 3e-4  # step size of Adam, policy
    critic_learning_rate: float = 3e-4  # step size of Adam, critics of reward and cost
    temperature_learning_rate: float = 1e-3  # step size of Adam, logarithm of the temperature; 0 keeps it constant
    init_temperature: float = 0.01  # reward per nat; small, because a step of these tasks earns about 0.02
    target_entropy: float = -1.0  # nats per entry of an action; a uniform action has 0.69
    polyak: float = 0.005  # share of the critics in the update of their targets, per gradient step
    random_steps: float = 10_000  # first steps of all worlds together, with actions uniform in [-1, 1]


@struct.dataclass
class Critics:
    """Parameters of the critics."""

    q: Any  # of two networks: future discounted reward, and entropy times temperature
    cost_q: Any  # of two networks: K future discounted costs


@struct.dataclass
class SACParams:
    """Parameters of SAC."""

    policy: Any
    critics: Any  # `Critics`
    target_critics: Any  # `Critics`, a slow copy
    log_temperature: jax.Array  # []


@struct.dataclass
class SACOptState:
    """Optimiser states."""

    policy: Any
    critics: Any
    log_temperature: Any


@struct.dataclass
class Step:
    """One step of one world. In the replay buffer and in batches the fields have a leading axis."""

    obs: jax.Array  # [O] raw
    action: jax.Array  # [A] in [-1, 1]
    reward: jax.Array  # []
    costs: jax.Array  # [K]
    next_obs: jax.Array  # [O] raw, after the step, before any reset
    terminated: jax.Array  # [] bool, a true end, not the time limit


class SACNetworks(NamedTuple):
    """Functions of parameters and normalised observations [..., O]."""

    init: Callable[[jax.Array, int, int], SACParams]  # key, O, A
    policy: Callable[[Any, jax.Array], Gaussian]  # params.policy, obs -> [..., A], before the tanh
    q: Callable[[Critics, jax.Array, jax.Array], jax.Array]  # critics, obs, action [..., A] -> [2, ...]
    cost_q: Callable[[Critics, jax.Array, jax.Array], jax.Array]  # critics, obs, action [..., A] -> [2, ..., K]


class Problem(NamedTuple):
    """The fixed inputs of a gradient step, beside parameters and data."""

    config: SACConfig
    networks: SACNetworks
    train_config: OffPolicyTrainConfig
    multipliers: jax.Array  # [K]


def sac(config: SACConfig, constraint: Constraint | None = None) -> Algorithm:
    """Act in the worlds, store every step, and learn from random batches of stored steps.

    The multipliers follow the same estimate of the episode cost as on-policy algorithms, once per iteration and before
    the gradient steps. The cost critics only say which actions cost. The policy maximises
    (min Q - temperature * log_prob - sum_k multiplier_k * mean Q_Ck) / (1 + sum_k multiplier_k).
    Q and Q_C are discounted sums of raw reward and raw cost.

    The mean of two cost critics counts, and no cost target is below 0. Otherwise a policy finds actions that a critic
    wrongly rates below 0, and the larger of two critics runs away upwards. A multiplier is a price in reward per cost.
    It does not compare with on-policy multipliers, which weigh cost against standardised reward advantages.
    """
    if config.replay_capacity < config.batch_size:
        raise ValueError(
            f"replay_capacity is {config.replay_capacity}; it must be at least batch_size, {config.batch_size}"
        )
    constraint = constraint or lagrangian()
    networks = make_sac_networks(config, constraint.num_costs)

    def init(sizes: Sizes, key: jax.Array) -> TrainState:
        key, params_key = jax.random.split(key)
        params = networks.init(params_key, sizes.obs_size, sizes.action_size)
        obs, zero = jnp.zeros(sizes.obs_size), jnp.float32(0.0)
        num_parts = math.gcd(getattr(sizes, "num_parts", 1), config.replay_capacity, config.batch_size)
        step = Step(
            obs, jnp.zeros(sizes.action_size), zero, jnp.zeros(constraint.num_costs), obs, terminated=jnp.bool_(False)
        )
        return TrainState(
            env_state=None,
            params=params,
            opt_state=SACOptState(
                policy=optax.adam(config.learning_rate).init(params.policy),
                critics=optax.adam(config.critic_learning_rate).init(params.critics),
                log_temperature=optax.adam(config.temperature_learning_rate).init(params.log_temperature),
            ),
            constraint=constraint.init(),
            normaliser=running_stats.init(sizes.obs_size),
            episode_cost=episode_cost.init(sizes.episode_length, len(sizes.cost_names)),
            key=key,
            num_rollouts=jnp.int32(0),
            replay=replay.init(config.replay_capacity, step, num_parts),
        )

    def act(params: SACParams, obs: jax.Array, noise: jax.Array | None) -> jax.Array:
        dist = networks.policy(params.policy, obs)
        return jnp.tanh(dist.mean if noise is None else distributions.sample(dist, noise))

    def actor(params: SACParams, normaliser: RunningStats) -> Actor:
        choices = {"activation": "relu", "squash": "tanh", "log_std_range": (MIN_LOG_STD, MAX_LOG_STD)}
        return make_actor(normaliser, params.policy["params"], None, **choices)

    return Algorithm(constraint, init, partial(_iterate, config, networks, constraint), act, actor)


class ReluMLP(nn.Module):
    """ReLU layers and a linear layer."""

    hidden_sizes: Sequence[int]
    output_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., inputs]. Returns [..., output_size]."""
        for size in self.hidden_sizes:
            x = nn.relu(nn.Dense(size)(x))
        return nn.Dense(self.output_size, name="output")(x)


def make_sac_networks(config: SACConfig, num_costs: int) -> SACNetworks:
    """Bundle the policy, two critics of reward and two of K = num_costs costs."""
    critic, cost_critic = ReluMLP(config.hidden_sizes, 1), ReluMLP(config.hidden_sizes, num_costs)

    def init(key: jax.Array, obs_size: int, action_size: int) -> SACParams:
        policy_key, *critic_keys = jax.random.split(key, 5)
        obs, both = jnp.zeros(obs_size), jnp.zeros(obs_size + action_size)
        critics = Critics(
            q=tuple(critic.init(q_key, both) for q_key in critic_keys[:2]),
            cost_q=tuple(cost_critic.init(cost_key, both) for cost_key in critic_keys[2:]),
        )
        return SACParams(
            policy=ReluMLP(config.hidden_sizes, 2 * action_size).init(policy_key, obs),
            critics=critics,
            target_critics=jax.tree.map(jnp.copy, critics),  # copies, so that all buffers can be donated
            log_temperature=jnp.log(jnp.asarray(config.init_temperature, jnp.float32)),
        )

    def policy(params: Any, obs: jax.Array) -> Gaussian:
        num_outputs = params["params"]["output"]["bias"].shape[0]
        output: Any = ReluMLP(config.hidden_sizes, num_outputs).apply(params, obs)
        mean, log_std = jnp.split(output, 2, axis=-1)
        return Gaussian(mean, distributions.bound_log_std(log_std, MIN_LOG_STD, MAX_LOG_STD))

    def q(critics: Critics, obs: jax.Array, action: jax.Array) -> jax.Array:
        both = jnp.concatenate([obs, action], axis=-1)
        outputs: Any = [critic.apply(params, both) for params in critics.q]
        return jnp.stack([output[..., 0] for output in outputs])

    def cost_q(critics: Critics, obs: jax.Array, action: jax.Array) -> jax.Array:
        both = jnp.concatenate([obs, action], axis=-1)
        outputs: Any = [cost_critic.apply(params, both) for params in critics.cost_q]
        return jnp.stack(outputs)

    return SACNetworks(init, policy, q, cost_q)


def squash(dist: Gaussian, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Turn standard normal noise [..., A] into actions tanh(u) [..., A] and their log density [...]."""
    raw = distributions.sample(dist, noise)
    log_slope = 2.0 * (math.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))  # log(1 - tanh(u)^2) without overflow
    return jnp.tanh(raw), distributions.log_prob(dist, raw) - jnp.sum(log_slope, axis=-1)


def _iterate(
    config: SACConfig,
    networks: SACNetworks,
    constraint: Constraint,
    venv: VectorEnvironment,
    train_config: OffPolicyTrainConfig,
    state: TrainState,
) -> tuple[TrainState, Metrics]:
    """Act, store, estimate, move multipliers, learn, update the normaliser. No learning while actions are uniform."""
    key, rollout_key, update_key = jax.random.split(state.key, 3)
    num_steps = jnp.float32(train_config.unroll_length * venv.num_envs)
    acts_at_random = state.num_rollouts * num_steps < config.random_steps
    env_state, steps, sums = _collect(
        venv, networks, constraint.sources, state, acts_at_random, rollout_key, train_config.unroll_length
    )
    num_rollouts = state.num_rollouts + 1
    covered = episode_cost.covers_episodes(num_rollouts * train_config.unroll_length, venv.episode_length)
    estimate = episode_cost.update(state.episode_cost, sums, train_config.cost_smoothing, covered)
    costs = episode_cost.from_completed(estimate) if train_config.use_completed_episodes else estimate.rate_costs
    limited = costs[jnp.array(episode_cost.columns(constraint.sources, venv.cost_names))]
    kept = replay.add(state.replay, steps)
    learns = (num_rollouts * num_steps >= config.random_steps) & (kept.size >= config.batch_size)
    moved = constraint.update(state.constraint, limited)
    state = state.replace(
        env_state=env_state,
        key=key,
        episode_cost=estimate,
        num_rollouts=num_rollouts,
        replay=kept,
        constraint=optimize.select(learns & estimate.has_rate, moved, state.constraint),
    )
    problem = Problem(config, networks, train_config, constraint.multipliers(state.constraint))
    num_updates = count_updates(config.updates_per_step * num_steps, num_rollouts)
    state, metrics = _learn(problem, state, jnp.where(learns, num_updates, 0), update_key)
    state = state.replace(normaliser=running_stats.merge(state.normaliser, steps.obs))
    return state, metrics | rollout.describe(venv, constraint, state, sums, limited)


def count_updates(per_rollout: jax.Array, num_rollouts: jax.Array) -> jax.Array:
    """Gradient steps after a rollout, [] int32: those of the first n rollouts add up to floor(n * per_rollout)."""
    return (jnp.floor(per_rollout * num_rollouts) - jnp.floor(per_rollout * (num_rollouts - 1))).astype(jnp.int32)


def _collect(
    venv: VectorEnvironment,
    networks: SACNetworks,
    sources: tuple[str, ...],
    state: TrainState,
    acts_at_random: jax.Array,
    key: jax.Array,
    unroll_length: int,
) -> tuple[Any, Step, EpisodeSums]:
    """Act for T = unroll_length steps, uniformly in [-1, 1] if acts_at_random.

    Returns the new B worlds, the steps [T * B, ...] part after part, and their sums.
    """
    noise_key, uniform_key = jax.random.split(key)
    shape = (unroll_length, venv.num_envs, venv.action_size)
    noise, uniform = jax.random.normal(noise_key, shape), jax.random.uniform(uniform_key, shape, minval=-1.0)

    def step(env_state: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, tuple]:
        noise, uniform = inputs
        obs = env_state.obs
        dist = networks.policy(state.params.policy, running_stats.normalise(state.normaliser, obs))
        action = jnp.where(acts_at_random, uniform, squash(dist, noise)[0])
        env_state = venv.step(env_state, action)
        return env_state, (obs, action, rollout.outcome_of(env_state))

    with jax.default_matmul_precision("highest"):
        env_state, (obs, action, outcome) = jax.lax.scan(step, state.env_state, (noise, uniform))
    steps = Step(
        obs=obs,
        action=action,
        reward=outcome["reward"],
        costs=outcome["costs"][..., episode_cost.columns(sources, venv.cost_names)],
        next_obs=outcome["final_obs"],
        terminated=outcome["terminated"],
    )
    num_parts = state.replay.num_parts

    def flatten(leaf: jax.Array) -> jax.Array:
        parts = leaf.reshape(unroll_length, num_parts, venv.num_envs // num_parts, *leaf.shape[2:]).swapaxes(0, 1)
        return parts.reshape(unroll_length * venv.num_envs, *leaf.shape[2:])

    return env_state, jax.tree.map(flatten, steps), rollout.sum_episodes(outcome)


def _learn(problem: Problem, state: TrainState, num_updates: jax.Array, key: jax.Array) -> tuple[TrainState, Metrics]:
    """Take num_updates [] gradient steps, each on its own batch. Metrics: means over the steps, 0 without steps."""

    def update(index: jax.Array, carry: tuple[SACParams, SACOptState]) -> tuple[SACParams, SACOptState, Metrics]:
        sample_key, critic_key, policy_key = jax.random.split(jax.random.fold_in(key, index), 3)
        batch = replay.sample(state.replay, sample_key, problem.config.batch_size)
        batch = batch.replace(
            obs=running_stats.normalise(state.normaliser, batch.obs),
            next_obs=running_stats.normalise(state.normaliser, batch.next_obs),
        )
        params, opt_state, critic_metrics = _fit_critics(problem, *carry, batch, critic_key)
        params, opt_state, policy_metrics = _improve_policy(problem, params, opt_state, batch.obs, policy_key)
        return params, opt_state, critic_metrics | policy_metrics

    def add_up(index: jax.Array, carry: tuple) -> tuple:
        params, opt_state, metrics = update(index, carry[:2])
        return params, opt_state, jax.tree.map(jnp.add, carry[2], metrics)

    start = (state.params, state.opt_state)
    shapes = jax.eval_shape(update, jnp.int32(0), start)[2]
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    params, opt_state, totals = jax.lax.fori_loop(0, num_updates, add_up, (*start, nothing))
    metrics = jax.tree.map(lambda total: total / jnp.maximum(num_updates, 1), totals) | {
        "temperature": jnp.exp(params.log_temperature),
        "num_updates": num_updates.astype(jnp.float32),
        "replay_size": state.replay.size.astype(jnp.float32),
    }
    return state.replace(params=params, opt_state=opt_state), metrics


def _fit_critics(
    problem: Problem, params: SACParams, opt_state: SACOptState, batch: Step, key: jax.Array
) -> tuple[SACParams, SACOptState, Metrics]:
    """Take one least-squares step on one-step targets, then update the target critics. batch: [M, ...] normalised."""
    config, networks = problem.config, problem.networks
    q_target, cost_q_targets = make_targets(problem, params, batch, key)

    def loss_fn(critics: Critics) -> tuple[jax.Array, Metrics]:
        q, cost_q = networks.q(critics, batch.obs, batch.action), networks.cost_q(critics, batch.obs, batch.action)
        q_loss = jnp.mean(jnp.square(q - q_target[None]))
        cost_q_loss = jnp.mean(jnp.square(cost_q - cost_q_targets[None]))
        means = {"q_mean": jnp.mean(q), "cost_q_mean": jnp.mean(cost_q)}
        return q_loss + cost_q_loss, {"q_loss": q_loss, "cost_q_loss": cost_q_loss} | means

    gradient, metrics = jax.grad(loss_fn, has_aux=True)(params.critics)
    optimizer = optax.adam(config.critic_learning_rate)
    critics, critics_state = _step(optimizer, gradient, opt_state.critics, params.critics)
    targets = optax.incremental_update(critics, params.target_critics, config.polyak)
    params = params.replace(critics=critics, target_critics=targets)
    return params, opt_state.replace(critics=critics_state), metrics


def make_targets(problem: Problem, params: SACParams, batch: Step, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Targets of the critics for a normalised batch [M, ...]: of reward [M] and of costs [M, K].

    Only a true end cuts the future off. After the time limit the value of `next_obs` counts.
    """
    networks, train_config = problem.networks, problem.train_config
    dist = networks.policy(params.policy, batch.next_obs)
    action, log_prob = squash(dist, jax.random.normal(key, dist.mean.shape))
    next_q = jnp.min(networks.q(params.target_critics, batch.next_obs, action), axis=0)
    next_cost_q = jnp.mean(networks.cost_q(params.target_critics, batch.next_obs, action), axis=0)
    goes_on = 1.0 - batch.terminated.astype(jnp.float32)
    next_value = next_q - jnp.exp(params.log_temperature) * log_prob
    target = batch.reward + train_config.discount * goes_on * next_value
    return target, batch.costs + train_config.cost_discount * goes_on[:, None] * jnp.maximum(next_cost_q, 0.0)


def _improve_policy(
    problem: Problem, params: SACParams, opt_state: SACOptState, obs: jax.Array, key: jax.Array
) -> tuple[SACParams, SACOptState, Metrics]:
    """Take one step of the policy up the critics, and one of the temperature to the target entropy. obs: [M, O]."""
    config, networks, _, multipliers = problem
    temperature = jnp.exp(params.log_temperature)

    def loss_fn(policy_params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        dist = networks.policy(policy_params, obs)
        action, log_prob = squash(dist, jax.random.normal(key, dist.mean.shape))
        q = jnp.min(networks.q(params.critics, obs, action), axis=0)
        cost_q = jnp.mean(networks.cost_q(params.critics, obs, action), axis=0)
        objective = penalise(multipliers, q - temperature * log_prob, cost_q)
        entropy = -jnp.mean(log_prob)
        return -jnp.mean(objective), (entropy, entropy - dist.mean.shape[-1] * config.target_entropy)

    (loss, (entropy, excess)), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params.policy)
    policy, policy_state = _step(optax.adam(config.learning_rate), gradient, opt_state.policy, params.policy)
    optimizer = optax.adam(config.temperature_learning_rate)  # `excess` is the slope of log_temperature * excess
    log_temperature, temperature_state = _step(optimizer, excess, opt_state.log_temperature, params.log_temperature)
    params = params.replace(policy=policy, log_temperature=log_temperature)
    opt_state = opt_state.replace(policy=policy_state, log_temperature=temperature_state)
    return params, opt_state, {"policy_loss": loss, "entropy": entropy}


def _step(optimizer: optax.GradientTransformation, gradient: Any, opt_state: Any, params: Any) -> tuple[Any, Any]:
    """Take one gradient step. Returns parameters and optimiser state."""
    change, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, change), opt_state
