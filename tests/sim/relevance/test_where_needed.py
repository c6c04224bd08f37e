"""Worlds that need the expensive function get it, all others the cheap one, in whatever batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_safety.sim.relevance.where_needed import CHUNKS, SMALL, where_needed

CALLS = []


def full(scale, x, extra):
    CALLS.append(x)
    return {"value": scale * x, "by": jnp.int32(1)}


def cheap(scale, x, extra):
    return {"value": -x, "by": jnp.int32(0)}


def needs(scale, x, extra):
    return x > 0.5


@pytest.fixture
def choose():
    return where_needed(needs, full, cheap)


def expected(x, scale=2.0):
    return np.where(x > 0.5, scale * x, -x)


def test_a_single_world_is_stepped_in_full(choose):
    out = jax.jit(choose)(2.0, jnp.float32(0.1), None)
    assert out["value"] == pytest.approx(0.2)


def test_a_small_batch_is_stepped_in_full(choose):
    x = jnp.linspace(0, 1, SMALL - 1)
    np.testing.assert_allclose(jax.vmap(choose, (None, 0, None))(2.0, x, None)["value"], 2 * x)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("num", [SMALL, 100, 256])
def test_each_world_of_a_batch_gets_what_it_needs(choose, key, share, num):
    needed = jax.random.uniform(key, (num,)) < share
    x = jnp.where(needed, 0.6, 0.1) + 0.01 * jnp.arange(num) / num
    out = jax.jit(jax.vmap(choose, (None, 0, None)))(2.0, x, None)
    np.testing.assert_allclose(out["value"], expected(x), rtol=1e-6)
    np.testing.assert_array_equal(out["by"], needed)


def test_the_expensive_function_runs_on_chunks_only(choose):
    CALLS.clear()
    shapes = jax.make_jaxpr(jax.vmap(choose, (None, 0, None)))(2.0, jnp.zeros(256), None)
    assert f"f32[{256 // CHUNKS}]" in str(shapes)
    assert len(CALLS) <= 2  # traced for one world, and for a chunk


def test_nested_batches(choose, key):
    x = jax.random.uniform(key, (3, 64))
    scales = jnp.array([1.0, 2.0, 3.0])
    same = jax.vmap(jax.vmap(choose, (None, 0, None)), (None, 0, None))(2.0, x, None)
    np.testing.assert_allclose(same["value"], expected(x), rtol=1e-6)
    own = jax.vmap(jax.vmap(choose, (None, 0, None)), (0, 0, None))(scales, x, None)
    np.testing.assert_allclose(own["value"], expected(x, scales[:, None]), rtol=1e-6)


def test_worlds_with_contexts_of_their_own_are_stepped_in_full(choose):
    scales, x = jnp.linspace(1, 2, 64), jnp.linspace(0, 1, 64)
    np.testing.assert_allclose(jax.vmap(choose, (0, 0, None))(scales, x, None)["value"], scales * x, rtol=1e-6)


def test_what_is_the_same_for_all_worlds_is_shared():
    choose = where_needed(lambda _, x, y: x > y, lambda _, x, y: x * y, lambda _, x, y: jnp.float32(0))
    x = jnp.linspace(0, 1, 64)
    np.testing.assert_allclose(jax.vmap(choose, (None, 0, None))(None, x, 0.5), jnp.where(x > 0.5, 0.5 * x, 0))


def test_each_device_has_its_own_group(choose, key, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    x = jax.random.uniform(key, (128,))
    text = str(jax.make_jaxpr(jax.vmap(choose, (None, 0, None)))(2.0, x, None))
    assert "f32[4,32]" in text
    np.testing.assert_allclose(jax.vmap(choose, (None, 0, None))(2.0, x, None)["value"], expected(x), rtol=1e-6)
