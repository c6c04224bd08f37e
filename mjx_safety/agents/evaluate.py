"""Judging a policy by whole episodes on fresh worlds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mjx_safety.agents import running_stats
from mjx_safety.agents.types import Algorithm, RunningStats
from mjx_safety.types import VectorEnvironment

QUANTILES = (50, 90, 99)  # percent
CVAR_TAILS = (10, 1)  # percent of episodes, those that cost most


@struct.dataclass
class Episodes:
    """Totals of B episodes, one per world."""

    episode_return: jax.Array  # [B]
    episode_cost: jax.Array  # [B]
    episode_costs: jax.Array  # [B, C] raw, per source
    episode_cost_steps: jax.Array  # [B, C] steps in which the source cost anything
    episode_goals: jax.Array  # [B] int32
    episode_length: jax.Array  # [B] int32, steps


def evaluate(
    venv: VectorEnvironment,
    algorithm: Algorithm,
    params: Any,
    normaliser: RunningStats,
    key: jax.Array,
    sampled: bool,
) -> Episodes:
    """Run one whole episode in each of the B fresh worlds. sampled: act at random as in training, or by the mean.

    Pass a venv that does not stagger. Returns totals [B].
    """
    reset_key, noise_key = jax.random.split(key)

    def any_running(carry: tuple) -> jax.Array:
        return jnp.any(~carry[1])

    def step(carry: tuple) -> tuple:
        env_state, finished, totals, noise_key = carry
        noise_key, step_key = jax.random.split(noise_key)
        noise = jax.random.normal(step_key, (venv.num_envs, venv.action_size)) if sampled else None
        action = algorithm.act(params, running_stats.normalise(normaliser, env_state.obs), noise)
        env_state = venv.step(env_state, action)
        totals = _keep(finished, totals, _episodes(env_state))
        return env_state, finished | env_state.done, totals, noise_key

    env_state = venv.reset(reset_key)
    nobody = jnp.zeros(venv.num_envs, bool)
    with jax.default_matmul_precision("highest"):
        return jax.lax.while_loop(any_running, step, (env_state, nobody, _episodes(env_state), noise_key))[2]


def summarise(episodes: Episodes, cost_limit: float) -> dict[str, float]:
    """Describe N finished episodes by flat numbers (on the host)."""
    summary: dict[str, float] = {"num_episodes": float(episodes.episode_return.shape[0])}
    for name in ("episode_return", "episode_cost", "episode_goals", "episode_length"):
        values = np.asarray(getattr(episodes, name), np.float64)
        summary |= {f"{name}_mean": float(values.mean()), f"{name}_std": float(values.std())}
        summary |= {f"{name}_q{q}": float(np.percentile(values, q)) for q in QUANTILES}
    costs = np.asarray(episodes.episode_cost, np.float64)
    for tail in CVAR_TAILS:
        summary[f"episode_cost_cvar{100 - tail}"] = cvar(costs, tail / 100.0)
    return summary | {"cost_limit": float(cost_limit), "over_limit_share": float((costs > cost_limit).mean())}


def cvar(values: np.ndarray, tail: float) -> float:
    """Mean of the highest share `tail` of values [N] (conditional value at risk); the last one counts in part."""
    highest = np.sort(values)[::-1]
    weights = np.clip(tail * len(values) - np.arange(len(values)), 0.0, 1.0)
    return float(highest @ weights / weights.sum())


def _episodes(env_state: Any) -> Episodes:
    return Episodes(
        episode_return=env_state.episode_return,
        episode_cost=env_state.episode_cost,
        episode_costs=env_state.episode_costs,
        episode_cost_steps=env_state.episode_cost_steps,
        episode_goals=env_state.episode_goals,
        episode_length=env_state.episode_length,
    )


def _keep(finished: jax.Array, old: Episodes, new: Episodes) -> Episodes:
    """Take the old totals of worlds that have finished. finished: [B]."""

    def choose(before: jax.Array, after: jax.Array) -> jax.Array:
        return jnp.where(finished.reshape(finished.shape + (1,) * (before.ndim - 1)), before, after)

    return jax.tree.map(choose, old, new)
