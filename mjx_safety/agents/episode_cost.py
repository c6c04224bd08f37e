"""Estimates the cost of an episode from rollouts much shorter than an episode.

There are two estimates (T_ep: episode length in steps):
- rate: T_ep times the mean cost per step of the rollout, smoothed over rollouts. It follows the policy at once. It is
  correct if the worlds are at evenly spread phases of their episodes (`vectorize(..., stagger=True)`).
- completed: the mean over episodes that ended in the rollout. It is T_ep / (2 T) rollouts old on average, and noisier.
First episodes shortened by a staggered start count for the rate, but not for `completed`.

A staggered start spreads the step counters, not the worlds. After t steps no world is older than t. Young worlds cost
less, because no episode begins in danger. Worlds of age t stand for all older ones. Before T_ep / 2 this is too
inaccurate, so no limit acts until then (`has_rate`), and the smoothed rate begins there.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mjx_safety.agents.types import EpisodeCost, EpisodeSums


def init(episode_length: int, num_sources: int) -> EpisodeCost:
    """Return an estimate without data. episode_length: steps until truncation; num_sources: C."""
    zero, zeros, no = jnp.float32(0.0), jnp.zeros(1 + num_sources), jnp.bool_(False)
    return EpisodeCost(zeros, zero, zeros, zero, zero, jnp.float32(episode_length), no, no)


COVERED = 0.5  # share of an episode that the oldest worlds must have lived


def covers_episodes(num_steps: jax.Array, episode_length: int) -> jax.Array:
    """Return whether the worlds' phases represent whole episodes, num_steps [] steps after their start, [] bool."""
    return num_steps >= COVERED * episode_length


def update(
    estimate: EpisodeCost, sums: EpisodeSums, decay: jax.Array | float, covered: jax.Array | bool
) -> EpisodeCost:
    """Add one rollout, or nothing if its sums are not finite.

    decay: weight of the past in the smoothed rate, in [0, 1). covered: from `covers_episodes`. The smoothed rate begins
    with the first covered rollout. Before that, the rate is that of the last rollout alone.
    """
    any_completed = sums.num_completed > 0.0
    divisor = jnp.maximum(sums.num_completed, 1.0)
    mean_length = jnp.where(any_completed, sums.episode_length / divisor, estimate.mean_length)
    rate_costs = mean_length * sums.cost_rates
    smoothed = decay * estimate.rate_costs + (1.0 - decay) * rate_costs
    added = EpisodeCost(
        rate_costs=jnp.where(estimate.has_rate, smoothed, rate_costs),
        rate_return=mean_length * sums.reward_rate,
        completed_costs=jnp.where(any_completed, sums.episode_costs / divisor, estimate.completed_costs),
        completed_return=jnp.where(any_completed, sums.episode_return / divisor, estimate.completed_return),
        completed_goals=jnp.where(any_completed, sums.episode_goals / divisor, estimate.completed_goals),
        mean_length=mean_length,
        has_rate=estimate.has_rate | covered,
        has_completed=estimate.has_completed | any_completed,
    )
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(sums)]))
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), added, estimate)


def from_completed(estimate: EpisodeCost) -> jax.Array:
    """Mean costs of completed episodes [1 + C], or the rate until the first one ends."""
    return jnp.where(estimate.has_completed, estimate.completed_costs, estimate.rate_costs)


def columns(sources: tuple[str, ...], cost_names: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the limited costs among the scalar cost and the environment's C sources."""
    unknown = [name for name in sources if name not in cost_names]
    if unknown:
        allowed = ", ".join(cost_names) or "none, as this environment has no costs"
        raise ValueError(f"cost limit for {unknown[0]}: there is no such source of cost; it must be one of: {allowed}")
    return tuple(1 + cost_names.index(name) for name in sources) or (0,)
