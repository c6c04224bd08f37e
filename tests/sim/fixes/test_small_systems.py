"""Small systems written out against double precision, as exact as the library's answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_safety.sim.fixes.small_systems import UNROLLED, solve, solve_by_blocks, solve_by_library

pytestmark = pytest.mark.usefixtures("strict_ranks")

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile, not to run


def systems(num_unknowns, batch=16, spread=1e3):
    """Matrices whose eigenvalues lie between 1 and `spread`, and vectors."""
    rng = np.random.default_rng(num_unknowns)
    turned = np.linalg.qr(rng.normal(size=(batch, num_unknowns, num_unknowns)))[0]
    scale = np.geomspace(1.0, spread, num_unknowns)
    return (turned * scale) @ turned.swapaxes(1, 2), rng.normal(size=(batch, num_unknowns))


def worst(answer, matrices, vectors):
    """Largest error of each answer, relative to its size."""
    exact = np.linalg.solve(matrices, vectors[..., None])[..., 0]
    return np.max(np.abs(answer - exact), axis=-1) / np.max(np.abs(exact), axis=-1)


@pytest.mark.parametrize("num_unknowns", [1, 6, UNROLLED + 1, 27])
def test_as_exact_as_the_library(num_unknowns):
    matrices, vectors = systems(num_unknowns)
    single = jnp.asarray(matrices, jnp.float32), jnp.asarray(vectors, jnp.float32)
    own = jax.jit(jax.vmap(solve_by_blocks)).lower(*single).compile(compiler_options=QUICK)(*single)
    library = jax.jit(jax.vmap(solve_by_library))(*single)
    assert np.max(worst(own, matrices, vectors)) < 2 * np.max(worst(library, matrices, vectors)) + 1e-6


def test_a_known_system():
    x = solve_by_blocks(jnp.array([[4.0, 2.0], [2.0, 3.0]]), jnp.array([8.0, 8.0]))
    np.testing.assert_allclose(x, [1.0, 2.0], rtol=1e-6)


def test_a_system_without_unknowns_has_an_empty_solution():
    assert solve(jnp.zeros((0, 0)), jnp.zeros(0)).shape == (0,)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_only_a_cpu_calls_the_library(platform):
    shapes = jax.ShapeDtypeStruct((8, 9, 9), jnp.float32), jax.ShapeDtypeStruct((8, 9), jnp.float32)
    text = jax.jit(jax.vmap(solve)).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
    assert ("custom_call" in text or "cholesky" in text) == (platform == "cpu")
