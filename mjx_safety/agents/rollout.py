"""Rollouts: T steps of B worlds with fixed parameters and normaliser, and their metrics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mjx_safety.agents import distributions, episode_cost, running_stats
from mjx_safety.agents.checks import check_same
from mjx_safety.agents.types import Constraint, Costs, EpisodeSums, Metrics, Networks, TrainState, Trajectory
from mjx_safety.types import VectorEnvironment


def collect(
    venv: VectorEnvironment[Any],
    networks: Networks,
    sources: tuple[str, ...],
    state: TrainState,
    key: jax.Array,
    unroll_length: int,
) -> tuple[Any, Trajectory, EpisodeSums]:
    """Act for T = unroll_length steps. sources: as in `Constraint`.

    Returns the new B worlds, the trajectory, and its sums.
    """
    params, normaliser = state.params, state.normaliser

    def step(env_state: Any, noise: jax.Array) -> tuple[Any, tuple]:
        obs = env_state.obs
        dist = networks.policy(params.policy, running_stats.normalise(normaliser, obs))
        action = distributions.sample(dist, noise)
        env_state = step_worlds(venv, env_state, jnp.clip(action, -1.0, 1.0))
        return env_state, (obs, action, dist, outcome_of(env_state))

    noise = jax.random.normal(key, (unroll_length, venv.num_envs, venv.action_size))
    with jax.default_matmul_precision("highest"):
        env_state, (obs, action, dist, outcome) = jax.lax.scan(step, state.env_state, noise)
    normalised, next_normalised = (running_stats.normalise(normaliser, x) for x in (obs, outcome["final_obs"]))
    trajectory = Trajectory(
        obs=obs,
        action=action,
        log_prob=distributions.log_prob(dist, action),
        mean=dist.mean,
        log_std=dist.log_std,
        reward=outcome["reward"],
        costs=episode_cost.limited(outcome["costs"], sources, venv.cost_names),
        terminated=outcome["terminated"],
        truncated=outcome["truncated"],
        value=networks.value(params.value, normalised),
        next_value=networks.value(params.value, next_normalised),
        cost_values=networks.cost_values(params.cost_values, normalised),
        next_cost_values=networks.cost_values(params.cost_values, next_normalised),
        partial=outcome["partial"],
        episode_costs=episode_cost.limited(outcome["episode_costs"], sources, venv.cost_names),
    )
    return env_state, trajectory, sum_episodes(outcome)


def step_worlds(venv: VectorEnvironment[Any], env_state: Any, action: jax.Array) -> Any:
    """Advance B worlds inside a scan. Raises ValueError for a step that changes the types of the state."""
    stepped = venv.step(env_state, action)
    check_same(env_state, stepped)
    return stepped


def outcome_of(env_state: Any) -> dict[str, Any]:
    """Outcome of one step, [B, ...] each. `costs` and `episode_costs` are `Costs`."""
    names = ("final_obs", "reward", "terminated", "truncated", "done", "partial")
    episode = ("episode_return", "episode_goals", "episode_length")
    return {name: getattr(env_state, name) for name in names + episode} | {
        "placement_failed": getattr(env_state, "placement_failed", jnp.zeros_like(env_state.done)),
        "blew_up": getattr(env_state, "blew_up", jnp.zeros_like(env_state.done)),
        "costs": Costs(env_state.cost, (env_state.costs > 0.0).astype(jnp.float32)),
        "episode_costs": Costs(env_state.episode_cost, env_state.episode_cost_steps),
    }


def sum_episodes(outcome: dict[str, Any]) -> EpisodeSums:
    """Sum a rollout. outcome fields: [T, B, ...]."""
    completed = outcome["done"] & ~outcome["partial"]

    def total(name: str) -> Any:
        weights = completed.astype(jnp.float32)
        return jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf.astype(jnp.float32), axes=2), outcome[name])

    return EpisodeSums(
        reward_rate=jnp.mean(outcome["reward"]),
        cost_rates=jax.tree.map(lambda leaf: jnp.mean(leaf, axis=(0, 1)), outcome["costs"]),
        num_completed=jnp.sum(completed.astype(jnp.float32)),
        episode_return=total("episode_return"),
        episode_costs=total("episode_costs"),
        episode_goals=total("episode_goals"),
        episode_length=total("episode_length"),
        termination_rate=jnp.mean((outcome["done"] & ~outcome["truncated"]).astype(jnp.float32)),
        placement_failures=jnp.sum(outcome["placement_failed"].astype(jnp.float32)),
        blow_ups=jnp.sum(outcome["blew_up"].astype(jnp.float32)),
    )


def summary_metrics(
    venv: VectorEnvironment[Any],
    constraint: Constraint,
    state: TrainState,
    sums: EpisodeSums,
    limited_costs: jax.Array,
) -> Metrics:
    """Return metrics of the worlds and the limits. limited_costs: [K] costs with limits."""
    estimate = state.episode_cost
    weights = constraint.weights(state.constraint)
    metrics = {
        "num_rollouts": state.num_rollouts.astype(jnp.float32),
        "episode_return": estimate.completed_return,
        "episode_cost": estimate.completed_costs.total,
        "episode_goals": estimate.completed_goals,
        "episode_length": estimate.mean_length,
        "num_completed": sums.num_completed,
        "placement_failures": jnp.float32(sums.placement_failures),
        "blow_ups": jnp.float32(sums.blow_ups),
        "has_completed": estimate.has_completed.astype(jnp.float32),
        "return_estimate": estimate.rate_return,
        "cost_estimate": estimate.rate_costs.total,
        "cost_rate": sums.cost_rates.total,
        "limit_acts": estimate.has_rate.astype(jnp.float32),
        "violation": jnp.max(jnp.nan_to_num(limited_costs - constraint.limits, neginf=0.0)),
        "multiplier": jnp.sum(weights.multipliers),
        "margin": jnp.sum(weights.margins),
    }
    for i, name in enumerate(venv.cost_names):
        metrics[f"cost_estimate_{name}"] = estimate.rate_costs.sources[i]
    if hasattr(venv, "report"):
        metrics |= venv.report(state.env_state)
    for i, name in enumerate(constraint.sources):
        metrics[f"multiplier_{name}"] = weights.multipliers[i]
    return metrics
