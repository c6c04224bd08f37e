"""Running mean and variance of observations."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mjx_safety.agents.types import RunningStats

STD_FLOOR = 1e-2  # keeps rare lidar readings from blowing up
CLIP = 5.0  # normalised observations stay in [-CLIP, CLIP]


def init(size: int) -> RunningStats:
    """Return statistics without data, with which `normalise` only clips. size: O."""
    zero = jnp.uint32(0)
    return RunningStats(mean=jnp.zeros(size), var=jnp.ones(size), count_low=zero, count_high=zero)


def count(stats: RunningStats) -> jax.Array:
    """Number of observations so far [], rounded to float32."""
    return stats.count_high.astype(jnp.float32) * 2.0**32 + stats.count_low.astype(jnp.float32)


def merge(stats: RunningStats, obs: jax.Array) -> RunningStats:
    """Add a batch of raw observations [..., O] (Chan, Golub and LeVeque 1979), or nothing if one is not finite."""
    axes, num = tuple(range(obs.ndim - 1)), obs.size // obs.shape[-1]
    batch_mean, batch_var = jnp.mean(obs, axis=axes), jnp.var(obs, axis=axes)
    weight = num / (count(stats) + num)
    shift = batch_mean - stats.mean
    low = stats.count_low + jnp.uint32(num)
    merged = RunningStats(
        mean=stats.mean + weight * shift,
        # (1 - weight) old + weight new + weight (1 - weight) shift^2.
        # As a change of the old variance: after 1e9 observations 1 - weight rounds, and the variance would drift.
        var=stats.var + weight * (batch_var - stats.var + (1.0 - weight) * jnp.square(shift)),
        count_low=low,
        count_high=stats.count_high + (low < stats.count_low).astype(jnp.uint32),
    )
    finite = jnp.all(jnp.isfinite(batch_var))
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), merged, stats)


def normalise(stats: RunningStats, obs: jax.Array) -> jax.Array:
    """Shift, scale and clip observations [..., O]."""
    mean = jnp.broadcast_to(stats.mean, obs.shape)
    return jnp.clip((obs - mean) / jnp.broadcast_to(std(stats), obs.shape), -CLIP, CLIP)


def std(stats: RunningStats) -> jax.Array:
    """The scale [O] of `normalise`: standard deviations, at least STD_FLOOR."""
    return jnp.maximum(jnp.sqrt(stats.var), STD_FLOOR)
