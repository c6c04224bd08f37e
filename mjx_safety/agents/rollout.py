"""Acting: T steps of B worlds to learn from. Parameters and normaliser stay fixed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mjx_safety.agents import distributions, running_stats
from mjx_safety.agents.types import EpisodeSums, Networks, Params, RunningStats, Trajectory
from mjx_safety.types import VectorEnvironment


def collect(
    venv: VectorEnvironment,
    networks: Networks,
    params: Params,
    normaliser: RunningStats,
    env_state: Any,
    key: jax.Array,
    unroll_length: int,
) -> tuple[Any, Trajectory, EpisodeSums]:
    """Act for T = unroll_length steps. Returns the new B worlds, what happened, and its sums."""

    def step(env_state: Any, noise: jax.Array) -> tuple[Any, tuple]:
        obs = env_state.obs
        dist = networks.policy(params.policy, running_stats.normalise(normaliser, obs))
        action = distributions.sample(dist, noise)
        env_state = venv.step(env_state, jnp.clip(action, -1.0, 1.0))
        return env_state, (obs, action, dist, _outcome(env_state))

    noise = jax.random.normal(key, (unroll_length, venv.num_envs, venv.action_size))
    with jax.default_matmul_precision("highest"):
        env_state, (obs, action, dist, outcome) = jax.lax.scan(step, env_state, noise)
    normalised, next_normalised = (running_stats.normalise(normaliser, x) for x in (obs, outcome["final_obs"]))
    trajectory = Trajectory(
        obs=obs,
        action=action,
        log_prob=distributions.log_prob(dist, action),
        mean=dist.mean,
        log_std=dist.log_std,
        reward=outcome["reward"],
        cost=outcome["cost"],
        terminated=outcome["terminated"],
        truncated=outcome["truncated"],
        value=networks.value(params.value, normalised),
        next_value=networks.value(params.value, next_normalised),
        cost_value=networks.value(params.cost_value, normalised),
        next_cost_value=networks.value(params.cost_value, next_normalised),
    )
    return env_state, trajectory, _sum_episodes(outcome)


def _outcome(env_state: Any) -> dict[str, jax.Array]:
    """What one step produced, [B, ...] each."""
    names = ("final_obs", "reward", "cost", "terminated", "truncated", "done", "partial")
    episode = ("episode_return", "episode_cost", "episode_goals", "episode_length")
    return {name: getattr(env_state, name) for name in names + episode}


def _sum_episodes(outcome: dict[str, jax.Array]) -> EpisodeSums:
    """Add up a rollout; outcome fields: [T, B, ...]."""
    completed = outcome["done"] & ~outcome["partial"]

    def total(name: str) -> jax.Array:
        return jnp.sum(jnp.where(completed, outcome[name].astype(jnp.float32), 0.0))

    return EpisodeSums(
        reward_rate=jnp.mean(outcome["reward"]),
        cost_rate=jnp.mean(outcome["cost"]),
        num_completed=jnp.sum(completed.astype(jnp.float32)),
        episode_return=total("episode_return"),
        episode_cost=total("episode_cost"),
        episode_goals=total("episode_goals"),
        episode_length=total("episode_length"),
    )
