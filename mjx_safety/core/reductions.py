"""Sums and maxima of a few numbers in each world, which XLA fuses with what surrounds them.

On a CPU it hands `jnp.sum` and `jnp.max` over floats to a library. With a few numbers per world, such a call takes
longer than the arithmetic around it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp


def add(terms: Iterable[jax.Array]) -> jax.Array:
    """Sum of a few terms of one shape, in their order."""
    return functools.reduce(operator.add, terms)


def total(numbers: jax.Array) -> jax.Array:
    """Sum [...] of N numbers [N, ...]."""
    return _by_halves(jnp.add, numbers)


def largest(numbers: jax.Array) -> jax.Array:
    """Largest [...] of N numbers [N, ...] of at least 0; 0 for none."""
    return _by_halves(jnp.maximum, numbers)


def _by_halves(combine: Callable[[jax.Array, jax.Array], jax.Array], rows: jax.Array) -> jax.Array:
    """Combine N rows [N, ...] to one [...], by about log2(N) operations; zeros for none."""
    while len(rows) > 1:
        half = len(rows) // 2
        rows = jnp.concatenate([combine(rows[:half], rows[half : 2 * half]), rows[2 * half :]])
    return rows[0] if len(rows) else jnp.zeros(rows.shape[1:], rows.dtype)
