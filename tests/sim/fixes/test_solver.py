"""Our Newton steps against MJX's: the same acceleration and forces, on the same problems."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx
from mujoco.mjx._src import smooth, solver

from mjx_safety.sim.fixes import mjx_solver, small_systems
from mjx_safety.sim.fixes.mjx_line_search import exact_line_search
from mjx_safety.sim.fixes.mjx_solver import newton, own_solver, solve_m
from tests.sim.fixes.test_line_search import XML


def problems(cone="pyramidal", loss=0.0, option=""):
    """Model and 16 states before the solver: a box on the floor, a welded ball, a hinge beyond its limit."""
    xml = XML.format(cone=cone, loss=loss).replace("<option ", f"<option {option} ")
    model = mujoco.MjModel.from_xml_string(xml)
    mx = mjx.put_model(model)
    qpos = jnp.asarray(model.qpos0).at[model.joint("hinge").qposadr[0]].set(0.3)
    qvel = jax.random.normal(jax.random.key(0), (16, model.nv))
    warm = 5.0 * jax.random.normal(jax.random.key(1), (16, model.nv))

    def at(qvel, warm):
        return mjx.forward(mx, mjx.make_data(mx).replace(qpos=qpos, qvel=qvel)).replace(qacc_warmstart=warm)

    return mx, jax.jit(jax.vmap(at))(qvel, warm)


def answers(mx, data, *solvers):
    """What each solver makes of the same states."""
    with exact_line_search():
        return [jax.jit(jax.vmap(lambda d, solve=solve: solve(mx, d)))(data) for solve in solvers]


@pytest.mark.thorough
@pytest.mark.parametrize("option", ["", 'iterations="1"', 'iterations="3"'])
def test_it_ends_where_mjx_ends(option):
    own, theirs = answers(*problems(option=option), newton, mjx_solver._SOLVE)
    scale = np.abs(theirs.qacc).max()
    np.testing.assert_allclose(own.qacc, theirs.qacc, atol=1e-4 * scale)
    np.testing.assert_allclose(own.qfrc_constraint, theirs.qfrc_constraint, atol=1e-4 * scale)
    np.testing.assert_allclose(own._impl.efc_force, theirs._impl.efc_force, atol=1e-4 * scale)


def test_so_does_it_with_systems_written_out(monkeypatch):
    monkeypatch.setattr(small_systems, "solve", small_systems.solve_by_blocks)  # what a GPU takes
    own, theirs = answers(*problems(), newton, mjx_solver._SOLVE)
    np.testing.assert_allclose(own.qacc, theirs.qacc, atol=1e-4 * np.abs(theirs.qacc).max())


def test_no_world_follows_rounding(monkeypatch):
    """With no tolerance at all, as with one below the last bit of the cost, steps end when gains are rounding."""
    mx, data = problems(option='iterations="100" tolerance="0"')
    steps, search = [], mjx_solver.line_search

    def counted(model, data, now):
        jax.debug.callback(lambda _: steps.append(1), now.cost)
        return search(model, data, now)

    monkeypatch.setattr(mjx_solver, "line_search", counted)
    (own,) = answers(mx, data, newton)
    jax.effects_barrier()
    assert 16 <= len(steps) <= 16 * 12
    theirs = answers(mx, data, mjx_solver._SOLVE)[0]
    np.testing.assert_allclose(own.qacc, theirs.qacc, atol=1e-4 * np.abs(theirs.qacc).max())


@pytest.mark.thorough
@pytest.mark.parametrize("arguments", [{"cone": "elliptic"}, {"loss": 0.1}, {"option": 'solver="CG"'}])
def test_what_it_does_not_cover_is_left_to_mjx(arguments, monkeypatch):
    calls = []
    monkeypatch.setattr(mjx_solver, "_SOLVE", lambda model, data: calls.append(model) or data)
    mx, data = problems(**arguments)
    newton(mx, jax.tree.map(lambda leaf: leaf[0], data))
    assert len(calls) == 1


def test_each_tree_of_the_mass_matrix_is_solved_for_by_itself():
    mx, data = problems()
    assert [size for _, size in mjx_solver._trees(mx)] == [6, 6, 1]
    vectors = jax.random.normal(jax.random.key(2), data.qacc.shape)
    own, theirs = (
        jax.jit(jax.vmap(lambda d, x, f=f: f(mx, d, x)))(data, vectors) for f in (solve_m, mjx_solver._SOLVE_M)
    )
    np.testing.assert_allclose(own, theirs, rtol=1e-4, atol=1e-4)


def test_mjx_gets_its_own_back():
    with own_solver():
        assert solver.solve is newton and smooth.solve_m is solve_m
    assert solver.solve is mjx_solver._SOLVE and smooth.solve_m is mjx_solver._SOLVE_M
