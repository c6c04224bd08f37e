"""One iteration of all on-policy algorithms: collect, estimate, move multipliers, learn, update the normaliser."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents import (
    distributions,
    episode_cost,
    optimize,
    quantile_critic,
    returns,
    risk,
    rollout,
    running_stats,
)
from mjx_safety.agents.checks import check_training, number
from mjx_safety.agents.types import (
    Actor,
    Algorithm,
    Batch,
    Constraint,
    Metrics,
    Networks,
    OptState,
    Params,
    RecentCosts,
    RunningStats,
    TrainConfig,
    TrainState,
    Trajectory,
)
from mjx_safety.types import Sizes, VectorEnvironment


@struct.dataclass
class CostStatus:
    """Where the K limited costs, and the training, stand at the start of an update."""

    multipliers: jax.Array  # [K] (1), already moved by the newest estimate
    violations: jax.Array  # [K] (estimated episode cost - limit + margin) / episode length, unit of cost advantages;
    # minus infinity until there is an estimate
    cost_horizon: jax.Array  # [] steps of cost that a mean cost advantage represents
    progress: jax.Array | float = 0.0  # [] share of the training that is done; 0 if its length is not known


MIN_SHARE = 1e-6  # smallest share of a training
TARGETS_KEY = 0x51  # splits a key of its own off that of an update
MIN_HORIZON_RATE = 1e-3  # smallest 1 - discount, because an undiscounted cost has no horizon

Update = Callable[[TrainState, Batch, CostStatus, jax.Array], tuple[TrainState, Metrics]]  # + key


def on_policy(
    networks: Networks, constraint: Constraint, init_optimizers: Callable[[Params], OptState], update: Update
) -> Algorithm:
    """Build an algorithm from its update on one batch."""

    def init(sizes: Sizes, key: jax.Array) -> TrainState:
        key, params_key = jax.random.split(key)
        params = networks.init(params_key, sizes.obs_size, sizes.action_size)
        return TrainState(
            env_state=None,
            params=params,
            opt_state=init_optimizers(params),
            constraint=constraint.init(),
            normaliser=running_stats.init(sizes.obs_size),
            episode_cost=episode_cost.init(sizes.episode_length, len(sizes.cost_names)),
            key=key,
            num_rollouts=jnp.int32(0),
            recent_costs=risk.init(constraint.num_costs) if constraint.risk_level else (),
        )

    def act(params: Params, obs: jax.Array, noise: jax.Array | None) -> jax.Array:
        dist = networks.policy(params.policy, obs)
        return jnp.clip(dist.mean if noise is None else distributions.sample(dist, noise), -1.0, 1.0)

    def actor(params: Params, normaliser: RunningStats) -> Actor:
        return networks.actor(params.policy, normaliser)

    return Algorithm(constraint, init, partial(_iterate, networks, constraint, update), act, actor)


def _iterate(
    networks: Networks,
    constraint: Constraint,
    update: Update,
    venv: VectorEnvironment,
    config: TrainConfig,
    state: TrainState,
) -> tuple[TrainState, Metrics]:
    """Collect, estimate, learn. The very first rollout only fills the normaliser."""
    check_training(venv, state.env_state, config, TrainConfig)
    if constraint.has_multipliers is None and number("limit_start", config.limit_start) not in (1.0, None):
        raise ValueError(f"limit_start is {config.limit_start}; this algorithm has no limit, so it must be 1")
    key, rollout_key, update_key = jax.random.split(state.key, 3)
    env_state, trajectory, sums = rollout.collect(
        venv, networks, constraint.sources, state, rollout_key, config.unroll_length
    )
    num_rollouts = state.num_rollouts + 1
    num_steps = num_rollouts.astype(jnp.float32) * config.unroll_length  # an integer would overflow
    estimate = episode_cost.update(state.episode_cost, sums, config.cost_smoothing, num_steps)
    recent = state.recent_costs
    if constraint.risk_level:
        recent = _remember(recent, trajectory)
        limited_costs = risk.estimate(recent, constraint.risk_level)
    else:
        costs = episode_cost.from_completed(estimate) if config.use_completed_episodes else estimate.rate_costs
        limited_costs = episode_cost.limited(costs, constraint.sources, venv.cost_names)
    is_warm_up = state.num_rollouts == 0
    state = state.replace(
        env_state=env_state, key=key, episode_cost=estimate, num_rollouts=num_rollouts, recent_costs=recent
    )
    learn = partial(_learn, constraint, update, config, trajectory, limited_costs, update_key)
    state, metrics = jax.lax.cond(is_warm_up, partial(_skip, learn), learn, state)
    state = state.replace(normaliser=running_stats.merge(state.normaliser, trajectory.obs))
    metrics |= rollout.summary_metrics(venv, constraint, state, sums, limited_costs)
    return state, metrics | _risk_metrics(constraint, state, limited_costs)


def _remember(recent: RecentCosts, trajectory: Trajectory) -> RecentCosts:
    """Add the whole episodes that ended."""
    t = trajectory
    return risk.remember(recent, (t.terminated | t.truncated) & ~t.partial, t.episode_costs)


def _is_known(constraint: Constraint, state: TrainState) -> jax.Array:
    """Return whether limits may act on the estimate of the limited costs, [] bool."""
    known = state.episode_cost.has_rate
    return known & risk.is_known(state.recent_costs, constraint.risk_level) if constraint.risk_level else known


def _risk_metrics(constraint: Constraint, state: TrainState, limited_costs: jax.Array) -> Metrics:
    """Name the CVaR of each limited cost [K], under limits on it."""
    if not constraint.risk_level:
        return {}
    names = [f"cost_cvar_{name}" for name in constraint.sources] or ["cost_cvar"]
    acts = {"limit_acts": _is_known(constraint, state).astype(jnp.float32)}
    return acts | {name: limited_costs[i] for i, name in enumerate(names)}


def _learn(
    constraint: Constraint,
    update: Update,
    config: TrainConfig,
    trajectory: Trajectory,
    limited_costs: jax.Array,
    key: jax.Array,
    state: TrainState,
) -> tuple[TrainState, Metrics]:
    """Run one update, and measure the critics before it.

    limited_costs: [K] estimated episode costs.
    """
    batch = make_batch(trajectory, state.normaliser, config, constraint.risk_level, key)
    value, cost_values, cost_targets = (
        flatten(trajectory.value),
        flatten(trajectory.cost_values),
        batch.cost_value_targets,
    )
    if constraint.risk_level:
        cost_values, cost_targets = jnp.mean(cost_values, axis=-1), jnp.mean(cost_targets, axis=-1)
    known, mean_length = _is_known(constraint, state), state.episode_cost.mean_length
    factor = leniency(config, state.num_rollouts)
    moved = constraint.update(state.constraint, limited_costs / factor)
    state = state.replace(constraint=optimize.select(known, moved, state.constraint))
    weights = constraint.weights(state.constraint)
    violations = factor * (limited_costs / factor - constraint.limits + weights.margins) / mean_length
    status = CostStatus(
        multipliers=weights.multipliers,
        violations=jnp.where(known, violations, -jnp.inf),
        cost_horizon=(1.0 - config.cost_discount * config.cost_gae_lambda)
        / jnp.maximum(1.0 - config.cost_discount, MIN_HORIZON_RATE),
        progress=jnp.minimum(state.num_rollouts / config.num_iterations, 1.0),
    )
    state, metrics = update(state, batch, status, key)
    fitness = {
        "explained_variance": returns.explained_variance(value, batch.value_target),
        "cost_explained_variance": returns.explained_variance(cost_values, cost_targets),
    }
    return state, metrics | fitness


def leniency(config: TrainConfig, num_rollouts: jax.Array) -> jax.Array:
    """Factor [] >= 1 by which the limits are higher than asked for. It falls linearly, then stays 1.

    A multiplier that rises before the task is learned teaches the policy to stand still. The limits d are fixed in the
    constraint, so `_learn` divides the costs by this factor f instead. Multipliers and margins then move as under
    limits f * d, because cost / f - d = (cost - f * d) / f. Violations are multiplied by f again: cost - f * d.
    """
    left = jnp.maximum(0.0, 1.0 - num_rollouts / (config.num_iterations * jnp.maximum(config.limit_fall, MIN_SHARE)))
    return jnp.where(jnp.isfinite(config.num_iterations), 1.0 + (config.limit_start - 1.0) * left, 1.0)


def make_batch(
    trajectory: Trajectory,
    normaliser: RunningStats,
    config: TrainConfig,
    risk_level: float = 0.0,
    key: jax.Array | None = None,
) -> Batch:
    """Estimate advantages along T and flatten [T, B] to M samples (see `flatten`).

    risk_level: as in `Constraint`; above 0 the cost values are quantiles, whose targets are drawn with `key`.
    """
    over_worlds = jax.vmap(returns.gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
    over_costs = jax.vmap(over_worlds, in_axes=(2, 2, 2, None, None, None, None), out_axes=2)
    t = trajectory
    ends = (t.terminated, t.truncated)
    of_costs = only_time_limits(t) if config.bootstrap_costs_at_ends else t
    advantage, target = over_worlds(t.reward, t.value, t.next_value, *ends, config.discount, config.gae_lambda)
    if risk_level and key is not None:
        target_key = jax.random.fold_in(key, TARGETS_KEY)
        cost_advantages, cost_targets = quantile_critic.advantages(of_costs, config, risk_level, target_key)
    else:
        cost_advantages, cost_targets = over_costs(
            t.costs,
            t.cost_values,
            t.next_cost_values,
            of_costs.terminated,
            of_costs.truncated,
            config.cost_discount,
            config.cost_gae_lambda,
        )
    batch = Batch(
        obs=running_stats.normalise(normaliser, t.obs),
        action=t.action,
        log_prob=t.log_prob,
        mean=t.mean,
        log_std=t.log_std,
        advantage=returns.standardise(advantage),
        cost_advantages=returns.centre(cost_advantages),
        value_target=target,
        cost_value_targets=cost_targets,
    )
    return jax.tree.map(flatten, batch)


def only_time_limits(trajectory: Trajectory) -> Trajectory:
    """Return the trajectory with every end marked as a time limit, at which values bootstrap."""
    t = trajectory
    return t.replace(terminated=jnp.zeros_like(t.terminated), truncated=t.terminated | t.truncated)


def flatten(leaf: jax.Array) -> jax.Array:
    """Line up [T, B, ...] as [B * T, ...]. World after world, so that those of a device stay together."""
    return leaf.swapaxes(0, 1).reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:])


def _skip(learn: Callable[[TrainState], tuple[TrainState, Any]], state: TrainState) -> tuple[TrainState, Metrics]:
    """Change nothing. All learner metrics are 0."""
    shapes = jax.eval_shape(learn, state)[1]
    return state, {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
