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

from mjx_safety.agents import optimize
from mjx_safety.agents.types import Costs, EpisodeCost, EpisodeSums


def init(episode_length: int, num_sources: int) -> EpisodeCost:
    """Return an estimate without data. episode_length: steps until truncation; num_sources: C."""
    zero, no = jnp.float32(0.0), jnp.bool_(False)
    costs = Costs(total=zero, sources=jnp.zeros(num_sources))
    return EpisodeCost(costs, zero, costs, zero, zero, jnp.float32(episode_length), no, no)


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

    def smooth(past: jax.Array, rate: jax.Array) -> jax.Array:
        return jnp.where(estimate.has_rate, decay * past + (1.0 - decay) * mean_length * rate, mean_length * rate)

    def newest(past: jax.Array, total: jax.Array) -> jax.Array:
        return jnp.where(any_completed, total / divisor, past)

    added = EpisodeCost(
        rate_costs=jax.tree.map(smooth, estimate.rate_costs, sums.cost_rates),
        rate_return=mean_length * sums.reward_rate,
        completed_costs=jax.tree.map(newest, estimate.completed_costs, sums.episode_costs),
        completed_return=newest(estimate.completed_return, sums.episode_return),
        completed_goals=newest(estimate.completed_goals, sums.episode_goals),
        mean_length=mean_length,
        has_rate=estimate.has_rate | covered,
        has_completed=estimate.has_completed | any_completed,
    )
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(sums)]))
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), added, estimate)


def from_completed(estimate: EpisodeCost) -> Costs:
    """Mean costs of completed episodes, or the rate until the first one ends."""
    return optimize.select(estimate.has_completed, estimate.completed_costs, estimate.rate_costs)


def limited(costs: Costs, sources: tuple[str, ...], cost_names: tuple[str, ...]) -> jax.Array:
    """Return the limited costs [..., K]: those of `sources`, or the total if there are none.

    cost_names: the environment's C sources. Raises ValueError for a source that is not one of them.
    """
    unknown = [name for name in sources if name not in cost_names]
    if unknown:
        allowed = ", ".join(cost_names) or "none, as this environment has no costs"
        raise ValueError(f"cost limit for {unknown[0]}: there is no such source of cost; it must be one of: {allowed}")
    if not sources:
        return costs.total[..., None]
    return costs.sources[..., jnp.array([cost_names.index(name) for name in sources])]
