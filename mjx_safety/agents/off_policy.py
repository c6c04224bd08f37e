"""One iteration of all off-policy algorithms: act, store, estimate, move multipliers, learn, update the normaliser."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import episode_cost, optimize, replay, rollout, running_stats
from mjx_safety.agents.checks import check_training
from mjx_safety.agents.types import (
    Actor,
    Algorithm,
    Constraint,
    EpisodeSums,
    Metrics,
    OffPolicyTrainConfig,
    RunningStats,
    TrainState,
)
from mjx_safety.types import Sizes, VectorEnvironment


@struct.dataclass
class OffPolicyConfig:
    """Shared settings of all off-policy algorithms. A step of a world costs updates_per_step * batch_size samples."""

    hidden_sizes: tuple[int, ...] = struct.field(pytree_node=False, default=(64, 64))
    """Units per layer of each network."""
    replay_capacity: int = struct.field(pytree_node=False, default=300_000)
    """Steps of all worlds together that the replay keeps."""
    batch_size: int = struct.field(pytree_node=False, default=256)
    """Samples per gradient step."""
    updates_per_step: float = 0.25
    """Gradient steps per environment step, whatever the number of worlds."""
    num_target_steps: int = struct.field(pytree_node=False, default=10)
    """n of the critics' n-step targets: steps whose rewards and costs are added before a critic estimates the rest.

    The last steps of an unroll have fewer, since a sum ends with the unroll."""
    policy_delay: int = struct.field(pytree_node=False, default=2)
    """Gradient steps of the critics per gradient step of the policy."""
    learning_rate: float = 3e-4
    """Step size of Adam, policy."""
    critic_learning_rate: float = 3e-4
    """Step size of Adam, critics of reward and cost."""
    tau: float = 0.005
    """Soft-update rate of the target networks, per gradient step."""
    average_share: float = 0.1
    """Share of the gradient steps so far, up to the newest, whose policies a trained policy averages; 0: the newest."""
    random_steps: float = 10_000
    """First steps of all worlds together, with actions uniform in [-1, 1]."""


@struct.dataclass
class Step:
    """One step of one world, or n in a row. In the replay buffer and in batches the fields have a leading axis."""

    obs: jax.Array  # [O] raw in the replay, normalised in a batch
    action: jax.Array  # [A] in [-1, 1], the first one
    reward: jax.Array  # [] discounted sum of the n steps
    costs: jax.Array  # [K] discounted sums
    next_obs: jax.Array  # [O] as obs; after the last step, before any reset
    terminated: jax.Array  # [] bool, a true end, not the time limit
    num_steps: jax.Array | float = 1.0  # [] n


class Objective(NamedTuple):
    """The fixed inputs of a gradient step, beside parameters and data."""

    train_config: OffPolicyTrainConfig  # the discounts
    multipliers: jax.Array  # [K] (1)


class Learner(NamedTuple):
    """The part of an off-policy algorithm that differs from the others. Observations are normalised, [..., O].

    Its parameters have the fields `policy`, which acts in training, and `average_policy`, which acts afterwards.
    """

    init: Callable[[Sizes, int, jax.Array], tuple[Any, Any]]  # sizes, K, key -> parameters, optimiser states
    act: Callable[[Any, jax.Array, jax.Array | None], jax.Array]  # policy, obs, noise [..., A] or None -> [..., A]
    # objective, parameters, optimiser states, batch [M, ...], number of the gradient step [] int32, key -> the new ones
    update: Callable[[Objective, Any, Any, Step, jax.Array, jax.Array], tuple[Any, Any, Metrics]]
    actor: Callable[[Any, RunningStats], Actor]  # policy, moments of raw observations
    report: Callable[[Any], Metrics] = lambda _: {}  # parameters -> more metrics of an iteration


def off_policy(config: OffPolicyConfig, constraint: Constraint, learner: Learner) -> Algorithm:
    """Act in the worlds, store every step, and learn from random batches of stored steps.

    The newest policy acts in training. A trained policy has the average of its weights over the last gradient steps
    (Polyak-Ruppert averaging, SIAM J. Control Optim. 30(4), 1992), because single policies differ much from each other.

    The multipliers follow the same estimate of the episode cost as on-policy algorithms, once per iteration and before
    the gradient steps. Critics of cost only say which actions cost. Raises ValueError for a replay below one batch, and
    for a limit on the CVaR.
    """
    if config.replay_capacity < config.batch_size:
        raise ValueError(
            f"replay_capacity is {config.replay_capacity}; it must be at least batch_size, {config.batch_size}"
        )

    if constraint.risk_level:
        raise ValueError(f"risk_level is {constraint.risk_level}; off-policy algorithms only limit the mean, at 0")

    def init(sizes: Sizes, key: jax.Array) -> TrainState:
        key, params_key = jax.random.split(key)
        params, opt_state = learner.init(sizes, constraint.num_costs, params_key)
        num_parts = math.gcd(getattr(sizes, "num_parts", 1), config.replay_capacity, config.batch_size)
        return TrainState(
            env_state=None,
            params=params,
            opt_state=opt_state,
            constraint=constraint.init(),
            normaliser=running_stats.init(sizes.obs_size),
            episode_cost=episode_cost.init(sizes.episode_length, len(sizes.cost_names)),
            key=key,
            num_rollouts=jnp.int32(0),
            replay=replay.init(config.replay_capacity, empty_step(sizes, constraint.num_costs), num_parts),
        )

    def act(params: Any, obs: jax.Array, noise: jax.Array | None) -> jax.Array:
        return learner.act(params.average_policy, obs, noise)

    def actor(params: Any, normaliser: RunningStats) -> Actor:
        return learner.actor(params.average_policy, normaliser)

    return Algorithm(constraint, init, partial(_iterate, config, learner, constraint), act, actor)


def empty_step(sizes: Sizes, num_costs: int) -> Step:
    """A step of zeros. num_costs: K."""
    obs, action = jnp.zeros(sizes.obs_size), jnp.zeros(sizes.action_size)
    return Step(obs, action, jnp.float32(0.0), jnp.zeros(num_costs), obs, jnp.bool_(False), jnp.float32(1.0))


def count_updates(per_rollout: jax.Array, num_rollouts: jax.Array) -> jax.Array:
    """Gradient steps of the first num_rollouts rollouts together, [] float32: floor(per_rollout * num_rollouts).

    The gradient steps of one rollout are the difference of two such counts. So per_rollout may be a fraction, and no
    rounding adds up. The counts also number the gradient steps, for `policy_delay` and random keys.
    """
    return jnp.floor(per_rollout * num_rollouts)


def _iterate(
    config: OffPolicyConfig,
    learner: Learner,
    constraint: Constraint,
    venv: VectorEnvironment,
    train_config: OffPolicyTrainConfig,
    state: TrainState,
) -> tuple[TrainState, Metrics]:
    """Act, store, estimate, move multipliers, learn, update the normaliser. No learning while actions are uniform."""
    check_training(venv, state.env_state, train_config, OffPolicyTrainConfig)
    key, rollout_key, update_key = jax.random.split(state.key, 3)
    num_steps = jnp.float32(train_config.unroll_length * venv.num_envs)
    acts_at_random = state.num_rollouts * num_steps < config.random_steps
    env_state, steps, done, sums = _collect(
        venv, learner, constraint.sources, state, acts_at_random, rollout_key, train_config.unroll_length
    )
    num_rollouts = state.num_rollouts + 1
    world_steps = num_rollouts.astype(jnp.float32) * train_config.unroll_length  # an integer would overflow
    estimate = episode_cost.update(state.episode_cost, sums, train_config.cost_smoothing, world_steps)
    costs = episode_cost.from_completed(estimate) if train_config.use_completed_episodes else estimate.rate_costs
    limited_costs = episode_cost.limited(costs, constraint.sources, venv.cost_names)
    kept = replay.add(state.replay, _flatten(add_ahead(steps, done, config, train_config), state.replay.num_parts))
    learns = (num_rollouts * num_steps >= config.random_steps) & (kept.size >= config.batch_size)
    moved = constraint.update(state.constraint, limited_costs)
    state = state.replace(
        env_state=env_state,
        key=key,
        episode_cost=estimate,
        num_rollouts=num_rollouts,
        replay=kept,
        constraint=optimize.select(learns & estimate.has_rate, moved, state.constraint),
    )
    objective = Objective(train_config, constraint.weights(state.constraint).multipliers)
    per_rollout = config.updates_per_step * num_steps
    first, end = count_updates(per_rollout, num_rollouts - 1), count_updates(per_rollout, num_rollouts)
    last = jnp.where(learns, end, first)
    state, metrics = _learn(
        config, learner, objective, state, (first.astype(jnp.int32), last.astype(jnp.int32)), update_key
    )
    state = state.replace(normaliser=running_stats.merge(state.normaliser, steps.obs))
    return state, metrics | rollout.summary_metrics(venv, constraint, state, sums, limited_costs)


def _collect(
    venv: VectorEnvironment,
    learner: Learner,
    sources: tuple[str, ...],
    state: TrainState,
    acts_at_random: jax.Array,
    key: jax.Array,
    unroll_length: int,
) -> tuple[Any, Step, jax.Array, EpisodeSums]:
    """Act for T = unroll_length steps, uniformly in [-1, 1] if acts_at_random.

    Returns the new B worlds, the steps [T, B, ...], which of them ended an episode [T, B], and their sums.
    """
    noise_key, uniform_key = jax.random.split(key)
    shape = (unroll_length, venv.num_envs, venv.action_size)
    noise, uniform = jax.random.normal(noise_key, shape), jax.random.uniform(uniform_key, shape, minval=-1.0)

    def step(env_state: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, tuple]:
        noise, uniform = inputs
        obs = env_state.obs
        chosen = learner.act(state.params.policy, running_stats.normalise(state.normaliser, obs), noise)
        action = jnp.where(acts_at_random, uniform, chosen)
        env_state = rollout.step_worlds(venv, env_state, action)
        return env_state, (obs, action, rollout.outcome_of(env_state))

    with jax.default_matmul_precision("highest"):
        env_state, (obs, action, outcome) = jax.lax.scan(step, state.env_state, (noise, uniform))
    steps = Step(
        obs=obs,
        action=action,
        reward=outcome["reward"],
        costs=episode_cost.limited(outcome["costs"], sources, venv.cost_names),
        next_obs=outcome["final_obs"],
        terminated=outcome["terminated"],
        num_steps=jnp.ones_like(outcome["reward"]),
    )
    return env_state, steps, outcome["done"], rollout.sum_episodes(outcome)


def add_ahead(steps: Step, done: jax.Array, config: OffPolicyConfig, train_config: OffPolicyTrainConfig) -> Step:
    """Add to each step [T, B, ...] those that follow it, up to `num_target_steps` in all.

    A sum ends with the episode or the unroll. The steps keep the actions that were taken, so the targets are not those
    of the present policy; n-step targets without correction are usual (Rainbow, D4PG). done: [T, B], an episode's end.
    """
    total, goes_on = steps, ~done
    for n in range(1, min(config.num_target_steps, len(done))):
        last, ended = jax.tree.map(lambda leaf, n=n: jnp.roll(leaf, -n, axis=0), (steps, done))
        goes_on = goes_on & (jnp.arange(len(done)) < len(done) - n)[:, None]
        longer = last.replace(
            obs=steps.obs,
            action=steps.action,
            reward=total.reward + train_config.discount**n * last.reward,
            costs=total.costs + train_config.cost_discount**n * last.costs,
            num_steps=total.num_steps + 1.0,
        )
        total, goes_on = jax.tree.map(partial(_choose_steps, goes_on), longer, total), goes_on & ~ended
    return total


def _choose_steps(condition: jax.Array, if_true: jax.Array, if_false: jax.Array) -> jax.Array:
    """Choose between two arrays [T, B, ...]. condition: [T, B] bool."""
    return jnp.where(condition.reshape(*condition.shape, *[1] * (if_true.ndim - 2)), if_true, if_false)


def _flatten(steps: Step, num_parts: int) -> Step:
    """Turn [T, B, ...] into [T * B, ...], part after part."""

    def flatten(leaf: jax.Array) -> jax.Array:
        length, num_envs, *rest = leaf.shape
        parts = leaf.reshape(length, num_parts, num_envs // num_parts, *rest).swapaxes(0, 1)
        return parts.reshape(length * num_envs, *rest)

    return jax.tree.map(flatten, steps)


def _learn(
    config: OffPolicyConfig,
    learner: Learner,
    objective: Objective,
    state: TrainState,
    numbers: tuple[jax.Array, jax.Array],
    key: jax.Array,
) -> tuple[TrainState, Metrics]:
    """Take the gradient steps of these numbers, the first and one past the last, each on its own batch.

    Metrics: means over the steps, 0 without steps.
    """

    def update(number: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any, Metrics]:
        sample_key, update_key = jax.random.split(jax.random.fold_in(key, number))
        batch = replay.sample(state.replay, sample_key, config.batch_size)
        batch = batch.replace(
            obs=running_stats.normalise(state.normaliser, batch.obs),
            next_obs=running_stats.normalise(state.normaliser, batch.next_obs),
        )
        params, opt_state, metrics = learner.update(objective, *carry, batch, number, update_key)
        rate = 1.0 / (1.0 + config.average_share * number)
        average = optimize.move_towards(params.average_policy, params.policy, rate)
        return params.replace(average_policy=average), opt_state, metrics

    def add_up(number: jax.Array, carry: tuple) -> tuple:
        params, opt_state, metrics = update(number, carry[:2])
        return params, opt_state, jax.tree.map(jnp.add, carry[2], metrics)

    start, num_updates = (state.params, state.opt_state), numbers[1] - numbers[0]
    shapes = jax.eval_shape(update, jnp.int32(0), start)[2]
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    params, opt_state, totals = jax.lax.fori_loop(*numbers, add_up, (*start, nothing))
    metrics = jax.tree.map(lambda total: total / jnp.maximum(num_updates, 1), totals) | {
        **learner.report(params),
        "num_updates": num_updates.astype(jnp.float32),
        "replay_size": state.replay.size.astype(jnp.float32),
    }
    return state.replace(params=params, opt_state=opt_state), metrics
