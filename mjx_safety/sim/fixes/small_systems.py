"""Solves small symmetric positive definite systems without library calls, which launch many GPU kernels.

On a GPU a library's Cholesky factor and each of its two substitutions are several launches, copies around them
included, and each ends the CUDA graph that holds its neighbours. Written out, a small system is one or two kernels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

UNROLLED = 12  # unknowns of the largest system that is written out whole; n^3 / 6 products are traced and compiled


def solve(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Solve matrix @ x = vector. matrix: [n, n] symmetric, positive definite; vector: [n]. Returns x [n].

    On a CPU it calls the library, because calls are cheap there and written-out systems take long to compile.
    """
    return jax.lax.platform_dependent(matrix, vector, cpu=solve_by_library, default=solve_by_blocks)


def solve_by_library(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Solve by JAX's Cholesky factor and substitutions. Arguments as in `solve`."""
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), vector)


@jax.jit
def solve_by_blocks(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Solve by blocks of at most `UNROLLED` unknowns, of about the same size. Arguments as in `solve`.

    A block is eliminated from those below it at once, and filled in once these are known.
    """
    num = len(vector)
    num_blocks = max(1, -(-num // UNROLLED))
    ends = [num * (index + 1) // num_blocks for index in range(num_blocks)]
    rest = jnp.concatenate([matrix, vector[:, None]], axis=1)  # [unknowns left, unknowns left + 1]
    blocks, start = [], 0
    for end in ends:
        size = end - start
        block = _solve_written_out(rest[:size, :size], rest[:size, size:])  # [size, what is left + 1]
        blocks.append(block)
        rest = rest[size:, size:] - sum(rest[size:, k, None] * block[k][None] for k in range(size))
        start = end
    found = jnp.zeros(0, vector.dtype)
    for block in reversed(blocks):
        found = jnp.concatenate([block[:, -1] - jnp.sum(block[:, :-1] * found[None], axis=-1), found])
    return found


def _solve_written_out(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Solve matrix @ x = right by L D L^T, each number an operation of its own. matrix: [n, n]; right: [n, m]."""
    num = len(matrix)
    a = [[matrix[i, j] for j in range(i + 1)] for i in range(num)]
    low: list[list[jax.Array]] = [[] for _ in range(num)]  # L below its diagonal of ones
    inverse: list[jax.Array] = []  # of D
    for i in range(num):
        scaled: list[jax.Array] = []  # L times D
        for j in range(i):
            scaled.append(_minus(a[i][j], scaled, low[j]))
        low[i] = [value * inverse[j] for j, value in enumerate(scaled)]
        inverse.append(1.0 / _minus(a[i][i], scaled, low[i]))
    x = [right[i] for i in range(num)]
    for i in range(num):
        x[i] = _minus(x[i], low[i], x)
    for i in reversed(range(num)):
        x[i] = _minus(x[i] * inverse[i], [low[k][i] for k in range(i + 1, num)], x[i + 1 :])
    return jnp.stack(x)


def _minus(start: jax.Array, left: list[jax.Array], right: list[jax.Array]) -> jax.Array:
    """Return start - left . right, as far as the shorter of the two goes."""
    for a, b in zip(left, right, strict=False):
        start = start - a * b
    return start
