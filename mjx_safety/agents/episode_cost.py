"""Estimates the cost of an episode from rollouts much shorter than an episode.

There are two estimates (T_ep: time limit of an episode in steps):
- rate: the mean length of an episode times the mean cost per step of the rollout, smoothed over rollouts. It follows
  the policy at once. It is correct if the worlds are at evenly spread phases of their episodes
  (`vectorize(..., stagger=True)`).
- completed: the mean over episodes that ended in the rollout. It is T_ep / (2 T) rollouts old on average, and noisier.
First episodes shortened by a staggered start count for the rate, but not for `completed`.

The mean length is that of completed episodes. Before T_ep steps all completed episodes are short, because they ended
early. Until then, the length follows from the share h of steps that end an episode early, as if h were constant:
(1 - (1 - h)^T_ep) / h.

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
    length = jnp.float32(episode_length)
    return EpisodeCost(costs, zero, costs, zero, zero, zero, length, length, no, no, no)


EPS = 1e-7  # smallest share of steps that shortens episodes; a smoothed share falls below it
COVERED = 0.5  # share of an episode that the oldest worlds must have lived


def expected_length(termination_rate: jax.Array, time_limit: jax.Array) -> jax.Array:
    """Mean length [] of episodes that end early with the same probability in each step. time_limit: [] steps."""
    rate = jnp.clip(termination_rate, 0.0, 1.0)
    ended = -jnp.expm1(time_limit * jnp.log1p(-jnp.minimum(rate, 1.0 - EPS)))  # share of episodes that end early
    return jnp.where(rate > EPS, ended / jnp.maximum(rate, EPS), time_limit)


def update(
    estimate: EpisodeCost, sums: EpisodeSums, decay: jax.Array | float, num_steps: jax.Array | int
) -> EpisodeCost:
    """Add one rollout, or nothing if its sums are not finite.

    decay: weight of the past in the smoothed rate, in [0, 1). num_steps: [] steps of each world since its start. The
    smoothed rate begins with the first rollout after half an episode. Before that, the rate is that of the last rollout
    alone. Three ages of the worlds matter:

    - before half an episode (`has_rate` is False): estimates are only reported;
    - before a whole one (not `is_settled`): only short episodes can have ended, so the length follows from their rate;
    - later: the length, and the completed costs if asked for, are those of episodes that ended (`has_whole`).
    """
    limit, any_completed = estimate.time_limit, sums.num_completed > 0.0
    covered, is_settled = num_steps >= COVERED * limit, num_steps >= limit
    divisor = jnp.maximum(sums.num_completed, 1.0)

    def mix(past: jax.Array, now: jax.Array | float) -> jax.Array:
        return jnp.where(estimate.has_rate, decay * past + (1.0 - decay) * now, now)

    termination_rate = mix(estimate.termination_rate, sums.termination_rate)
    measured = jnp.where(any_completed, sums.episode_length / divisor, estimate.mean_length)
    mean_length = jnp.where(is_settled, measured, expected_length(termination_rate, limit))

    def smooth(past: jax.Array, rate: jax.Array) -> jax.Array:
        return mix(past, mean_length * rate)

    def newest(past: jax.Array, total: jax.Array) -> jax.Array:
        return jnp.where(any_completed, total / divisor, past)

    added = EpisodeCost(
        rate_costs=jax.tree.map(smooth, estimate.rate_costs, sums.cost_rates),
        rate_return=mean_length * sums.reward_rate,
        completed_costs=jax.tree.map(newest, estimate.completed_costs, sums.episode_costs),
        completed_return=newest(estimate.completed_return, sums.episode_return),
        completed_goals=newest(estimate.completed_goals, sums.episode_goals),
        termination_rate=termination_rate,
        mean_length=mean_length,
        time_limit=limit,
        has_rate=estimate.has_rate | covered,
        has_completed=estimate.has_completed | any_completed,
        has_whole=estimate.has_whole | (any_completed & is_settled),
    )
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(sums)]))
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), added, estimate)


def from_completed(estimate: EpisodeCost) -> Costs:
    """Mean costs of completed episodes, or the rate while these cannot include long ones."""
    return optimize.select(estimate.has_whole, estimate.completed_costs, estimate.rate_costs)


def limited(costs: Costs, sources: tuple[str, ...], cost_names: tuple[str, ...]) -> jax.Array:
    """Return the limited costs [..., K]: those of `sources`, or the total if there are none.

    cost_names: the environment's C sources. Raises ValueError for a source that is not one of them.
    """
    check_sources(sources, cost_names)
    if not sources:
        return costs.total[..., None]
    return costs.sources[..., jnp.array([cost_names.index(name) for name in sources])]


def check_sources(sources: tuple[str, ...], cost_names: tuple[str, ...]) -> None:
    """Raise ValueError for a limited source that is not one of the environment's C sources."""
    unknown = [name for name in sources if name not in cost_names]
    if unknown:
        allowed = ", ".join(cost_names) or "none, as this environment has no costs"
        raise ValueError(f"cost limit for {unknown[0]}: there is no such source of cost; it must be one of: {allowed}")
