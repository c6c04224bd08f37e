"""The exact line search against the solver's cost along the line, and against MJX's own search."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx
from mujoco.mjx._src import solver

from mjx_safety.sim.fixes import mjx_line_search
from mjx_safety.sim.fixes.mjx_line_search import exact_line_search, line_search

XML = """<mujoco><option cone="{cone}" jacobian="dense"/><worldbody><geom type="plane" size="1 1 1"/>
  <body pos="0 0 0.099"><freejoint/><geom type="box" size="0.1 0.1 0.1" mass="1"/></body>
  <body name="ball" pos="0.6 0 0.099"><freejoint/><geom size="0.1" mass="0.5" condim="6"/></body>
  <body pos="1.2 0 0.5"><joint name="hinge" axis="0 1 0" range="-10 10" limited="true" frictionloss="{loss}"/>
    <geom type="capsule" size="0.05 0.2" mass="2"/></body>
  </worldbody><equality><weld body1="ball"/></equality></mujoco>"""


@functools.cache
def problem(cone="pyramidal", loss=0.0):
    """A box on the floor, a welded ball, a hinge beyond its limit, all moving: model, data, 32 states of the solver."""
    model = mujoco.MjModel.from_xml_string(XML.format(cone=cone, loss=loss))
    data = mujoco.MjData(model)
    data.qpos[model.joint("hinge").qposadr] = 0.3
    data.qvel[:] = np.random.default_rng(0).normal(size=model.nv)
    mx = mjx.put_model(model)
    start = mjx.make_data(mx).replace(qpos=jnp.asarray(data.qpos), qvel=jnp.asarray(data.qvel))
    guesses = 20.0 * jax.random.normal(jax.random.key(1), (32, model.nv))

    @jax.jit
    def states(dx):
        dx = mjx.forward(mx, dx)
        return dx, jax.vmap(lambda qacc: solver.Context.create(mx, dx.replace(qacc=qacc)))(guesses)

    return mx, *states(start)


def cost_along(mx, dx, contexts, alphas):
    """Cost [32, len(alphas)] at qacc + alpha * search."""

    def cost(ctx, alpha):
        moved = dx.replace(qacc=ctx.qacc + alpha * ctx.search)
        return solver.Context.create(mx, moved, grad=False).cost

    at = jax.vmap(cost, (0, None))
    return np.asarray(jax.jit(lambda contexts: jax.lax.map(lambda alpha: at(contexts, alpha), alphas))(contexts)).T


@pytest.mark.parametrize("few_rows", [0, mjx_line_search.FEW_ROWS])
def test_the_cost_is_smallest_where_it_ends(few_rows, monkeypatch):
    """With few_rows 0 the sorted search runs, which otherwise only larger scenes use."""
    monkeypatch.setattr(mjx_line_search, "FEW_ROWS", few_rows)
    mx, dx, contexts = problem()
    assert dx._impl.ne == 6 and dx._impl.nl == 1 and dx._impl.efc_J.shape[0] > 20
    grid = cost_along(mx, dx, contexts, jnp.linspace(0.0, 3.0, 3001))
    found, theirs = (
        np.asarray(
            jax.jit(
                jax.vmap(
                    lambda ctx, f=f: solver.Context.create(mx, dx.replace(qacc=f(mx, dx, ctx).qacc), grad=False).cost
                )
            )(contexts)
        )
        for f in (line_search, solver._linesearch)
    )
    start = grid[:, 0]
    assert np.all(found < 0.9 * start)
    np.testing.assert_array_less(found, grid.min(axis=1) + 1e-5 * start)
    np.testing.assert_array_less(found, theirs + 1e-5 * start)


def test_what_it_carries_on_belongs_to_the_new_acceleration():
    mx, dx, contexts = problem()
    after = jax.jit(jax.vmap(lambda ctx: line_search(mx, dx, ctx)))(contexts)
    afresh = jax.jit(jax.vmap(lambda qacc: solver.Context.create(mx, dx.replace(qacc=qacc), grad=False)))(after.qacc)
    np.testing.assert_allclose(after.Ma, afresh.Ma, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(after.Jaref, afresh.Jaref, rtol=1e-4, atol=1e-2)


def test_it_stays_where_nothing_is_to_be_gained():
    """Along a line that only rises, and at the solution."""
    mx, dx, contexts = problem()
    solved = jax.jit(lambda dx: solver.Context.create(mx, dx))(dx)
    after = jax.jit(lambda ctx: line_search(mx, dx, ctx))(solved)
    np.testing.assert_allclose(after.qacc, solved.qacc, rtol=1e-3, atol=1e-3)
    uphill = contexts.replace(search=-contexts.search)
    after = jax.jit(jax.vmap(lambda ctx: line_search(mx, dx, ctx)))(uphill)
    np.testing.assert_array_equal(after.qacc, uphill.qacc)


@pytest.mark.parametrize("settings", [{"loss": 0.5}, {"cone": "elliptic"}])
def test_friction_loss_and_elliptic_cones_keep_the_search_of_mjx(settings):
    mx, dx, contexts = problem(**settings)
    ours, theirs = (
        jax.jit(jax.vmap(lambda ctx, f=f: f(mx, dx, ctx).qacc))(contexts) for f in (line_search, solver._linesearch)
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("num", [1, 2, 3, 9, 10, 100, 151, 700])
def test_a_sorted_search_finds_what_reading_all_slopes_finds(num):
    """Minimum before, between and after the points, and points that do not count."""
    keys = jax.random.split(jax.random.key(num), 200)

    def both(key):
        place, which, minimum, *_ = jax.random.split(key, 4)
        points = jnp.round(jax.random.uniform(place, (num,), minval=0.1, maxval=9.0), 1)  # some of them equal
        counts = jax.random.bernoulli(which, 0.7, (num,))
        minimum = jax.random.uniform(minimum, minval=-1.0, maxval=11.0)
        searches = mjx_line_search._read_all, mjx_line_search._search_sorted
        return [search(lambda alpha: alpha - minimum, points, counts) for search in searches]

    theirs, ours = jax.jit(jax.vmap(both))(keys)
    np.testing.assert_array_equal(ours, theirs)
    if num > 100:
        assert set(np.isinf(theirs[1]).tolist()) == {True, False} and np.any(theirs[0] == 0.0)


def test_the_work_for_many_rows_is_far_below_their_square():
    num, read = 6400, []

    def slope(alpha):
        read.append(alpha.size)
        return alpha - 0.5

    points = jnp.linspace(0.0, 1.0, num)
    low, high = mjx_line_search._around_the_minimum(slope, points, points > 0.0)
    assert low <= 0.5 < high and high - low < 2 / num
    assert sum(read) <= 2 * num**0.5 + 2


def test_mjx_is_left_as_it_was():
    before = solver._linesearch
    with exact_line_search():
        assert solver._linesearch is line_search
    assert solver._linesearch is before
