"""Worlds that need the expensive function get it, all others the cheap one, in whatever batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from mjx_safety.sim.relevance import where_needed as module
from mjx_safety.sim.relevance.where_needed import SMALLEST_CHUNK, chunk_size, vary_like, where_needed

SMALL = 32
CALLS = []
ALL = jnp.bool_(True)
BATCH = (None, None, 0, None)


def full(scale, active, hint, x, extra):
    CALLS.append(x)
    return {"value": scale * x, "by": jnp.int32(1), "hint": hint}


def cheap(scale, active, x, extra):
    return {"value": -x, "by": jnp.int32(0), "hint": jnp.float32(0)}, 10 * x


def needs(scale, hint, x, extra):
    """Surely above 0.9; above 0.5 by what `cheap` has found out."""
    return (x > 0.9) | (hint > 5)


@pytest.fixture
def choose():
    return where_needed(needs, full, cheap, smallest=SMALL, share=0.1)


def expected(x, scale=2.0):
    return np.where(x > 0.5, scale * x, -x)


def test_a_single_world_is_stepped_in_full(choose):
    out = jax.jit(choose)(2.0, ALL, jnp.float32(0.1), None)
    assert out["value"] == pytest.approx(0.2) and jnp.isnan(out["hint"])


@pytest.mark.parametrize("x", [0.1, 0.6, 0.95])
def test_a_single_world_is_sorted_where_that_is_wanted(x):
    choose = where_needed(needs, full, cheap, smallest=1)
    out = jax.jit(choose)(2.0, ALL, jnp.float32(x), None)
    assert out["value"] == pytest.approx(float(expected(x)))


def test_a_small_batch_is_stepped_in_full(choose):
    x = jnp.linspace(0, 1, SMALL - 1)
    np.testing.assert_allclose(jax.vmap(choose, BATCH)(2.0, ALL, x, None)["value"], 2 * x)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("num", [SMALL, 100, 256])
def test_each_world_of_a_batch_gets_what_it_needs(choose, key, share, num):
    needed = jax.random.uniform(key, (num,)) < share
    x = jnp.where(needed, 0.6, 0.1) + 0.01 * jnp.arange(num) / num
    out = jax.jit(jax.vmap(choose, BATCH))(2.0, ALL, x, None)
    np.testing.assert_allclose(out["value"], expected(x), rtol=1e-6)
    np.testing.assert_array_equal(out["by"], needed)
    np.testing.assert_allclose(out["hint"], np.where(needed, 10 * x, 0), rtol=1e-6)


def test_worlds_that_do_not_matter_need_nothing(choose):
    active, x = jnp.arange(64) < 10, jnp.full(64, 0.7)
    out = jax.jit(jax.vmap(choose, (None, 0, 0, None)))(2.0, active, x, None)
    np.testing.assert_array_equal(out["by"], active)


def test_the_expensive_function_runs_on_chunks_only(choose):
    CALLS.clear()
    shapes = jax.make_jaxpr(jax.vmap(choose, BATCH))(2.0, ALL, jnp.zeros(256), None)
    assert "f32[26]" in str(shapes)  # a tenth of the worlds
    assert len(CALLS) <= 2  # traced for one world, and for a chunk


def test_nested_batches(choose, key):
    x = jax.random.uniform(key, (3, 64))
    scales = jnp.array([1.0, 2.0, 3.0])
    same = jax.vmap(jax.vmap(choose, BATCH), BATCH)(2.0, ALL, x, None)
    np.testing.assert_allclose(same["value"], expected(x), rtol=1e-6)
    own = jax.vmap(jax.vmap(choose, BATCH), (0, None, 0, None))(scales, ALL, x, None)
    np.testing.assert_allclose(own["value"], expected(x, scales[:, None]), rtol=1e-6)


def test_worlds_with_contexts_of_their_own_are_stepped_in_full(choose):
    scales, x = jnp.linspace(1, 2, 64), jnp.linspace(0, 1, 64)
    out = jax.vmap(choose, (0, None, 0, None))(scales, ALL, x, None)
    np.testing.assert_allclose(out["value"], scales * x, rtol=1e-6)


def test_what_is_the_same_for_all_worlds_is_shared():
    choose = where_needed(
        lambda _, hint, x, y: x > y,
        lambda _, active, hint, x, y: x * y,
        lambda _, active, x, y: (jnp.float32(0), jnp.float32(0)),
        smallest=SMALL,
    )
    x = jnp.linspace(0, 1, 64)
    np.testing.assert_allclose(jax.vmap(choose, BATCH)(None, ALL, x, 0.5), jnp.where(x > 0.5, 0.5 * x, 0))


def test_each_device_has_its_own_group(choose, key, monkeypatch):
    monkeypatch.setattr(module.jax, "device_count", lambda: 4)
    x = jax.random.uniform(key, (128,))
    text = str(jax.make_jaxpr(jax.vmap(choose, BATCH))(2.0, ALL, x, None))
    assert "f32[4,32]" in text
    np.testing.assert_allclose(jax.vmap(choose, BATCH)(2.0, ALL, x, None)["value"], expected(x), rtol=1e-6)


def mesh_of(axis_type):
    return jax.make_mesh((1,), ("worlds",), axis_types=(axis_type,))


def test_it_works_inside_shard_map(choose, key):
    x = jax.random.uniform(key, (128,))
    each = jax.vmap(lambda x: choose(2.0, jnp.bool_(True), x, None)["value"])
    spread = jax.shard_map(each, mesh=mesh_of(AxisType.Auto), in_specs=P("worlds"), out_specs=P("worlds"))
    np.testing.assert_allclose(jax.jit(spread)(x), expected(x), rtol=1e-6)


@pytest.mark.parametrize("num", [1, 8])
def test_a_callback_works_inside_shard_map(num, key):
    def full(_, active, hint, x):
        out = jax.ShapeDtypeStruct((), x.dtype)
        return vary_like(x, jax.pure_callback(np.asarray, out, x, vmap_method="expand_dims"))

    def cheap(_, active, x):
        return jnp.float32(0), jnp.float32(0)

    choose = where_needed(lambda _, hint, x: x > 0.5, full, cheap, smallest=1)
    one = functools.partial(choose, None, ALL)
    each = jax.vmap(one) if num > 1 else lambda x: one(x[0])[None]
    spread = jax.shard_map(each, mesh=mesh_of(AxisType.Auto), in_specs=P("worlds"), out_specs=P("worlds"))
    x = jax.random.uniform(key, (num,))
    np.testing.assert_array_equal(jax.jit(spread)(x), jnp.where(x > 0.5, x, 0))


def test_a_mesh_with_explicit_axes_is_refused(choose, key, monkeypatch):
    monkeypatch.setattr(module.jax, "device_count", lambda: 4)
    x = jax.device_put(jax.random.uniform(key, (128,)), NamedSharding(mesh_of(AxisType.Explicit), P("worlds")))
    with pytest.raises(ValueError, match=r"mesh with explicit axes; build it with jax.make_mesh"):
        jax.jit(jax.vmap(lambda x: choose(2.0, jnp.bool_(True), x, None)["value"]))(x)


def test_a_chunk_has_room_for_the_expected_share():
    assert chunk_size(1024, 0.1) == 103
    assert chunk_size(64, 0.01) == SMALLEST_CHUNK
    assert chunk_size(64, 1.0) == 64
