"""Evaluates a policy over whole episodes on fresh worlds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mjx_safety.agents import running_stats
from mjx_safety.agents.types import Algorithm, RunningStats
from mjx_safety.core.precision import single_precision
from mjx_safety.types import VectorEnvironment

QUANTILES = (50, 90, 99)  # percent
CVAR_TAILS = (10, 1)  # percent of episodes, from the most costly on
NORMAL_95 = 1.96  # standard errors on either side of a mean that contain 95 %


@struct.dataclass
class Episodes:
    """Totals of B episodes, one per world."""

    episode_return: jax.Array  # [B]
    episode_cost: jax.Array  # [B]
    episode_costs: jax.Array  # [B, C] raw, per source
    episode_cost_steps: jax.Array  # [B, C] steps in which the source cost anything
    episode_goals: jax.Array  # [B] int32
    episode_length: jax.Array  # [B] int32, steps
    longest_cost_run: jax.Array  # [B] int32, longest run of costly steps; its mean is the EMCC of arXiv 2409.01245


@single_precision
def evaluate(
    venv: VectorEnvironment[Any],
    algorithm: Algorithm,
    params: Any,
    normaliser: RunningStats,
    key: jax.Array,
    sampled: jax.Array | bool,
) -> Episodes:
    """Run one whole episode in each of B fresh worlds. sampled: act by sampling as in training, else by the mean.

    Pass a venv without stagger. Its `cost_budget` ends episodes. A policy of Sauté or Simmer needs worlds with its
    budget, such as `BudgetWorlds`. The same key gives the same worlds for every policy and engine. Returns totals [B].
    Raises ValueError for a venv with stagger.
    """

    def act(obs: jax.Array, noise: jax.Array) -> jax.Array:
        obs = running_stats.normalise(normaliser, obs)
        return jnp.where(sampled, algorithm.act(params, obs, noise), algorithm.act(params, obs, None))

    return run_episodes(venv, act, key)


@single_precision
def run_episodes(
    venv: VectorEnvironment[Any], act_fn: Callable[[jax.Array, jax.Array], jax.Array], key: jax.Array
) -> Episodes:
    """Run one episode per world with any policy in JAX.

    act_fn: raw observations [B, O], normal noise [B, A] -> actions [B, A].
    """
    progress = _begin(venv, key)
    with jax.default_matmul_precision("highest"):
        return jax.lax.while_loop(
            lambda progress: jnp.any(~progress.finished),
            lambda progress: _advance(venv, progress, *_with_noise(venv, progress, act_fn)),
            progress,
        ).totals


def run_episodes_on_host(
    venv: VectorEnvironment[Any], act_fn: Callable[[np.ndarray], np.ndarray], key: jax.Array
) -> Episodes:
    """Run one episode per world with a policy on the host. Compiles the step.

    act_fn: raw observations [B, O] float32 -> actions [B, A].
    """
    begin = jax.jit(lambda key: _begin(venv, key))
    advance = jax.jit(lambda progress, actions: _advance(venv, progress, actions, progress.noise_key))
    progress = begin(key)
    while not np.all(progress.finished):
        progress = advance(progress, jnp.asarray(act_fn(np.array(progress.env_state.obs)), jnp.float32))
    return progress.totals


@struct.dataclass
class _Progress:
    """B episodes under way."""

    env_state: Any
    finished: jax.Array  # [B] bool
    totals: Episodes  # of finished episodes final, else so far
    cost_run: jax.Array  # [B] int32, costly steps in a row until now
    noise_key: jax.Array


@single_precision
def _begin(venv: VectorEnvironment[Any], key: jax.Array) -> _Progress:
    if getattr(venv, "stagger", False):
        raise ValueError("the worlds have stagger=True, which cuts first episodes short; evaluate takes whole episodes")
    reset_key, noise_key = jax.random.split(key)
    env_state, zero = venv.reset(reset_key), jnp.zeros(venv.num_envs, jnp.int32)
    return _Progress(env_state, jnp.zeros(venv.num_envs, bool), _episodes(env_state, zero), zero, noise_key)


def _with_noise(venv: VectorEnvironment[Any], progress: _Progress, act_fn: Callable) -> tuple[jax.Array, jax.Array]:
    """Actions [B, A], and the key for the next ones."""
    noise_key, step_key = jax.random.split(progress.noise_key)
    noise = jax.random.normal(step_key, (venv.num_envs, venv.action_size))
    return act_fn(progress.env_state.obs, noise), noise_key


@single_precision
def _advance(venv: VectorEnvironment[Any], progress: _Progress, actions: jax.Array, noise_key: jax.Array) -> _Progress:
    env_state = venv.step(progress.env_state, actions)
    cost_run = jnp.where(env_state.cost > 0.0, progress.cost_run + 1, 0)
    totals = _episodes(env_state, jnp.maximum(progress.totals.longest_cost_run, cost_run))
    totals = _keep(progress.finished, progress.totals, totals)
    return _Progress(env_state, progress.finished | env_state.done, totals, cost_run, noise_key)


def summarise(
    episodes: Episodes,
    cost_limit: float,
    cost_names: Sequence[str] = (),
    cost_limits: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Summarise N finished episodes as flat numbers (host).

    cost_names: of the C sources, whose raw cost and costly steps are described. cost_limits: limits of some sources, in
    costly steps. `_std` is the standard deviation over episodes. `_ci95` is half the 95 % interval of their mean.
    `_low` and `_high` are the ends of that interval for a share.
    """
    episodes = jax.tree.map(np.asarray, episodes)
    summary: dict[str, float] = {"num_episodes": float(episodes.episode_return.shape[0])}
    for name in ("episode_return", "episode_cost", "episode_goals", "episode_length"):
        values = np.asarray(getattr(episodes, name), np.float64)
        summary |= {f"{name}_mean": float(values.mean()), f"{name}_std": spread(values)}
        summary |= {f"{name}_ci95": half_width(values)}
        summary |= {f"{name}_q{q}": float(np.percentile(values, q)) for q in QUANTILES}
    costs = np.asarray(episodes.episode_cost, np.float64)
    for tail in CVAR_TAILS:
        summary[f"episode_cost_cvar{100 - tail}"] = cvar(costs, tail / 100.0)
    over, low, high = share(costs > cost_limit)
    summary |= {"cost_limit": float(cost_limit), "over_limit_share": over}
    summary |= {"over_limit_share_low": low, "over_limit_share_high": high}
    summary |= {"cost_free_share": float((costs == 0.0).mean())}
    summary |= {"longest_cost_run_mean": float(np.mean(episodes.longest_cost_run))}
    summary |= {"cost_rate": float(costs.sum() / np.sum(episodes.episode_length, dtype=np.float64))}
    for i, name in enumerate(cost_names):
        steps = np.asarray(episodes.episode_cost_steps, np.float64)[:, i]
        summary[f"cost_{name}_mean"] = float(np.mean(episodes.episode_costs[:, i], dtype=np.float64))
        summary[f"cost_steps_{name}_mean"] = float(steps.mean())
        if name in (cost_limits or {}):
            summary[f"over_limit_share_{name}"] = float((steps > (cost_limits or {})[name]).mean())
    return summary


def compare(first: Episodes, second: Episodes, cost_limit: float) -> dict[str, dict[str, float]]:
    """Second minus first, over N episodes from the same worlds: mean difference, and half its 95 % interval.

    The interval is that of paired differences, for these two policies and engines. It does not cover other seeds of the
    training.
    """

    def measure(episodes: Episodes) -> dict[str, np.ndarray]:
        names = ("episode_return", "episode_cost", "episode_goals")
        values = {name: np.asarray(getattr(episodes, name), np.float64) for name in names}
        return values | {"over_limit_share": (values["episode_cost"] > cost_limit).astype(np.float64)}

    before, after = measure(first), measure(second)
    differences = {name: after[name] - before[name] for name in before}
    return {name: {"mean": float(d.mean()), "ci95": half_width(d)} for name, d in differences.items()}


def cvar(values: np.ndarray, tail: float) -> float:
    """Mean of the highest share `tail` of values [N] (conditional value at risk). The last value counts in part."""
    highest = np.sort(values)[::-1]
    weights = np.clip(tail * len(values) - np.arange(len(values)), 0.0, 1.0)
    return float(highest @ weights / weights.sum())


def spread(values: np.ndarray) -> float:
    """Sample standard deviation of values [N]; 0 for one value."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def half_width(values: np.ndarray) -> float:
    """Half the 95 % interval of the mean of values [N], by normal approximation; nan for one value."""
    return NORMAL_95 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def share(holds: np.ndarray) -> tuple[float, float, float]:
    """Share of true values of [N] bool, and its 95 % Wilson interval, which has a width even at 0 and 1."""
    num, mean, z = len(holds), float(holds.mean()), NORMAL_95
    centre = (mean + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * math.sqrt(mean * (1 - mean) / num + z**2 / (4 * num**2))
    return mean, max(0.0, centre - half), min(1.0, centre + half)


def _episodes(env_state: Any, longest_cost_run: jax.Array) -> Episodes:
    return Episodes(
        episode_return=env_state.episode_return,
        episode_cost=env_state.episode_cost,
        episode_costs=env_state.episode_costs,
        episode_cost_steps=env_state.episode_cost_steps,
        episode_goals=env_state.episode_goals,
        episode_length=env_state.episode_length,
        longest_cost_run=longest_cost_run,
    )


def _keep(finished: jax.Array, old: Episodes, new: Episodes) -> Episodes:
    """Keep the old totals of finished worlds. finished: [B]."""

    def choose(before: jax.Array, after: jax.Array) -> jax.Array:
        return jnp.where(finished.reshape(finished.shape + (1,) * (before.ndim - 1)), before, after)

    return jax.tree.map(choose, old, new)
