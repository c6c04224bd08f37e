"""Advantages and value targets. Arrays are [T] of one trajectory by default."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    discount: jax.Array | float,
    gae_lambda: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantage estimation (arXiv 1506.02438) that separates time limits from true ends.

    reward: [T]; value: [T] V(s_t); next_value: [T] V of the result of step t, before any reset; terminated: [T] bool, a
    true end; truncated: [T] bool, the time limit, at which values bootstrap.
    Pass cost and cost values to get cost advantages. Returns advantage [T] and target [T] = advantage + value.
    Raises ValueError for other shapes.
    """
    shapes = [jnp.shape(x) for x in (reward, value, next_value, terminated, truncated)]
    if len(shapes[0]) != 1 or len(set(shapes)) > 1:
        raise ValueError(f"gae takes five arrays [T] of one trajectory, got {', '.join(map(str, shapes))}")
    bootstrap = jnp.where(terminated, 0.0, next_value)
    td_error = reward + discount * bootstrap - value
    decay = jnp.where(terminated | truncated, 0.0, discount * gae_lambda)

    def accumulate(future: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        td_error_t, decay_t = step
        advantage = td_error_t + decay_t * future
        return advantage, advantage

    _, advantage = jax.lax.scan(accumulate, jnp.zeros_like(td_error[-1]), (td_error, decay), reverse=True)
    return advantage, advantage + value


def standardise(x: jax.Array) -> jax.Array:
    """Subtract the mean and divide by the standard deviation, over all entries of x [...]."""
    return (x - jnp.mean(x)) / (jnp.std(x) + 1e-8)


def centre(x: jax.Array) -> jax.Array:
    """Subtract the mean over all but the last axis of x [..., K]. The unit stays, so multipliers keep their meaning."""
    return x - jnp.mean(x, axis=tuple(range(x.ndim - 1)), keepdims=True)


def explained_variance(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Share of the variance of target [...] that prediction [...] explains: 1 perfect, 0 no better than the mean."""
    return 1.0 - jnp.var(target - prediction) / (jnp.var(target) + 1e-8)
