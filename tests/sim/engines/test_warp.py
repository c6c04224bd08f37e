"""MJX-Warp against the C engine, and what only its batches need. On a CPU, where Warp's kernels run too."""

import collections
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import assert_close, close_by, plain, row

import mjx_safety
from mjx_safety import Buttons, Car, Doggo, EnvConfig, Goal, Gremlins, Pillars, Push, Vases
from mjx_safety.cli import throughput
from mjx_safety.env.env import build_env
from mjx_safety.sim.scene import build_scene

warp = pytest.importorskip("warp", reason="needs the extra 'warp'")

from mujoco import mjx

from mjx_safety.sim.engines import warp as engine

warp.config.optimization_level = 0  # compiles in half the time
B, T = 4, 12
SMALL = EnvConfig(
    task=Goal(), vases=Vases(num=2), pillars=Pillars(num=1), gremlins=Gremlins(num=1), episode_length=3, indicator=False
)


def on_warp(config):
    return build_env(config, engine.WarpPhysics.create(build_scene(config.robot, config.objects, engine="warp")))


class Pair:
    """One environment on both engines, with functions of B worlds; `traces` counts tracings of Warp's."""

    def __init__(self, env):
        self.exact = mjx_safety.make(env, physics="mujoco")
        self.env = on_warp(self.exact.config)
        self.traces = collections.Counter()
        self.resets, self.restores, self.steps = (self._compile(name) for name in ("reset", "restore", "step"))
        names = ("reset", "restore", "step")
        self.exact_resets, self.exact_restores, self.exact_steps = (
            jax.jit(jax.vmap(getattr(self.exact, name))) for name in names
        )

    def _compile(self, name):
        def traced(*args):
            self.traces[name] += 1
            return getattr(self.env, name)(*args)

        return jax.jit(jax.vmap(traced))

    def actions(self, num_steps):
        """Actions [num_steps, B, A], random but for Point's turns: near 0.7 its servo is chaotic."""
        shape = (num_steps, B, self.env.action_size)
        actions = jax.random.uniform(jax.random.key(1), shape, minval=-1, maxval=1)
        return actions.at[..., 1].set(-0.4) if self.env.config.robot.name == "Point" else actions

    def smooth(self, states):
        """Observations [B, O] without the accelerometer, which shows every force."""
        names = [name for name in self.env.obs_slices if name != "accelerometer"]
        return np.concatenate([np.asarray(states.obs)[:, self.env.obs_slices[name]] for name in names], axis=-1)


def contacts(env, states):
    """Contact points of the robot with each solid object [B, K]."""
    return np.asarray(jax.jit(jax.vmap(lambda data: env.physics.forward(data)[1].contacts))(states.data))


@pytest.fixture(scope="module")
def pair():
    return Pair(SMALL)


@pytest.fixture(scope="module")
def first(pair):
    return pair.resets(jax.random.split(jax.random.key(0), B))


@pytest.fixture(scope="module")
def posed(pair):
    """The robot in a vase, in a pillar, in the gremlin, in nothing; one vase leans on the other."""
    low = 0.1 - 4e-5  # as the floor carries a vase; at 0.1 rounding decides whether they touch
    far = {"vases": [[2.0, 0, low], [2.15, 0, 0.298]], "pillars": [[0, -2.0, 0.5]], "gremlins": [[-2.0, 0, 0.2]]}
    near = {"vases": (0, 0.18, low), "pillars": (0.05, 0.28, 0.5), "gremlins": (0.19, 0.05, 0.13)}
    rows = []
    for kind in (*near, None):
        pos = {f"{name}_pos": np.array(places) for name, places in far.items()}
        if kind is not None:
            pos[f"{kind}_pos"][0] = near[kind]
        rows.append(mjx_safety.Snapshot(root_pos=np.array([0, 0, 0.1]), root_quat=np.array([1.0, 0, 0, 0]), **pos))
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x), jnp.float32), *rows)


def test_an_episode_starts_as_on_the_c_engine(pair, first):
    expected = pair.exact_resets(jax.random.split(jax.random.key(0), B))
    np.testing.assert_allclose(first.obs, expected.obs, atol=1e-5)
    np.testing.assert_array_equal(first.costs, expected.costs)


@pytest.mark.thorough
def test_contacts_and_sensors_of_posed_worlds_are_those_of_the_c_engine(pair, posed):
    states, expected = pair.restores(posed), pair.exact_restores(posed)
    counts = contacts(pair.env, states)
    np.testing.assert_array_equal(counts, contacts(pair.exact, expected))
    kinds = pair.env.scene.split(pair.env.scene.solid_kinds, counts.T)
    touched = [[bool(kinds[kind][0, world]) for kind in ("vases", "pillars", "gremlins")] for world in range(B)]
    assert touched == [[True, False, False], [False, True, False], [False, False, True], [False] * 3]
    np.testing.assert_allclose(pair.smooth(states), pair.smooth(expected), atol=1e-5)


@pytest.mark.thorough
def test_whole_runs_are_those_of_the_c_engine(pair, posed):
    """From touching worlds on: pushed vases, the pillar that pushes back, the gremlin on its circle."""
    states, expected = pair.restores(posed), pair.exact_restores(posed)
    for action in pair.actions(T):
        states, expected = pair.steps(states, action), pair.exact_steps(expected, action)
        np.testing.assert_allclose(states.data.qpos, expected.data.qpos, atol=1e-4)
        np.testing.assert_allclose(states.costs, expected.costs, atol=1e-4)
        np.testing.assert_allclose(pair.smooth(states), pair.smooth(expected), atol=1e-3)


def test_reset_restore_and_step_agree_in_type_and_are_traced_once(pair, first, posed):
    after = pair.steps(first, pair.actions(1)[0])
    pair.steps(after, pair.actions(1)[0])
    kinds = [jax.tree.map(jax.typeof, plain(state)) for state in (first, pair.restores(posed), after)]
    assert kinds[0] == kinds[1] == kinds[2]
    assert pair.traces == {"reset": 1, "restore": 1, "step": 1}


@pytest.mark.slow
def test_batches_of_any_size_and_nested_ones_step_each_world_alike(pair, posed):
    states, action = pair.restores(posed), pair.actions(1)[0]
    expected = pair.steps(states, action)
    two = jax.jit(jax.vmap(pair.env.step))(*jax.tree.map(lambda x: x[:2], (states, action)))
    nested = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (states, action))
    nested = jax.tree.map(lambda x: x.reshape(B, *x.shape[2:]), jax.jit(jax.vmap(jax.vmap(pair.env.step)))(*nested))
    one = jax.jit(pair.env.step)(*row((states, action), 1))
    assert_close(row(two, 1), row(expected, 1), 1e-4)
    assert_close(one, row(expected, 1), 1e-4)
    assert_close(nested, expected, 1e-4)


@pytest.mark.slow
def test_the_model_may_differ_between_worlds(pair, first):
    """Two masses under four states: as each mass by itself."""
    physics, ctrl = pair.env.physics, jnp.array([1.0, 0.0])
    masses = physics.model.body_mass * jnp.array([[1.0], [2.0]])

    def step(mass, data):
        return physics.replace(model=physics.model.replace(body_mass=mass)).step(data, ctrl, 10)[0].qvel

    both = jax.jit(jax.vmap(jax.vmap(step, (None, 0)), (0, None)))(masses, first.data)
    alone = jax.jit(jax.vmap(step, (None, 0)))
    for index in range(2):
        np.testing.assert_allclose(both[index], alone(masses[index], first.data), atol=1e-5)
    assert np.all(np.linalg.norm(both[0, :, :2], axis=-1) > 1.5 * np.linalg.norm(both[1, :, :2], axis=-1))


def test_each_world_takes_as_many_substeps_as_it_wants(pair, posed):
    data, ctrl = pair.restores(posed).data, jnp.array([1.0, -0.4])
    wanted = jnp.array([0, 1, 2, 1])

    def step(env):
        return jax.jit(jax.vmap(lambda data, num: env.physics.step(data, ctrl, 2, num)[0]))(data, wanted)

    after = step(pair.env)
    np.testing.assert_allclose(after.time, 0.002 * wanted, atol=1e-6)
    np.testing.assert_allclose(after.qpos, step(pair.exact).qpos, atol=1e-5)
    np.testing.assert_array_equal(after.qpos[0], data.qpos[0])


def test_data_is_complete_and_current(pair, posed):
    states = pair.restores(posed)
    data = jax.jit(jax.vmap(pair.env.mjx_data))(states)
    assert isinstance(data, mjx.Data)
    np.testing.assert_array_equal(data.qpos, states.data.qpos)
    robot = pair.env.mj_model.body("robot").id
    np.testing.assert_allclose(data.xpos[:, robot, :2], states.data.qpos[:, :2], atol=1e-6)
    num_sensors = pair.env.mj_model.nsensordata - len(pair.env.scene.solid_bodies)
    np.testing.assert_array_equal(data.sensordata[:, num_sensors:], contacts(pair.env, states))


def test_buffers_hold_what_lies_on_the_floor_and_more(pair):
    """Two vases and a gremlin have four points each; a point has ten rows, a weld six."""
    assert throughput.buffers(pair.env) == {"nv": 21, "contacts": 28, "constraint_rows": 286}


def test_a_full_buffer_is_reported_once_with_what_to_do(pair, posed, caplog):
    data = pair.restores(posed).data
    tight = pair.env.physics.with_buffers(contacts=4, rows=60)
    forward = jax.jit(jax.vmap(lambda data: tight.forward(data)[1].contacts))
    with caplog.at_level(logging.WARNING, logger=engine.__name__):
        for _ in range(2):
            jax.block_until_ready(forward(data))
        jax.effects_barrier()
    messages = sorted(record.getMessage() for record in caplog.records)
    assert len(messages) == 2 and "contacts=4 a world is too small" in messages[0] and "rows=60" in messages[1]
    assert "env.replace(physics=env.physics.with_buffers(rows=" in messages[1]


def test_vectorized_worlds_start_again_in_fresh_layouts(pair):
    venv = mjx_safety.vectorize(pair.env, B)
    states = jax.jit(venv.reset)(jax.random.key(0))
    first, step = states.env_state.data.qpos, jax.jit(venv.step)
    for _ in range(3):
        states = step(states, jnp.zeros((B, 2)))
    assert np.all(states.truncated) and np.all(states.env_state.step_count == 0)
    assert np.all(np.isfinite(states.obs))
    assert np.all(np.abs(states.env_state.data.qpos[:, :2] - first[:, :2]).max(axis=1) > 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("robot", [Car(), Doggo()], ids=lambda robot: robot.name)
def test_other_robots_touch_and_move_as_on_the_c_engine(robot):
    """Car's wheels and Doggo's trunk are cylinders, as pillars are; what they touch are boxes, too."""
    objects = {"vases": Vases(num=2), "pillars": Pillars(num=1), "buttons": Buttons(num=1), "gremlins": Gremlins(num=1)}
    pair = Pair(EnvConfig(robot=robot, task=Push(), indicator=False, **objects))
    snapshots = close_by(pair.exact, 24)
    pair.env = pair.env.replace(physics=pair.env.physics.with_buffers(contacts=120, rows=1300))
    states, expected = pair.restores(snapshots), pair.exact_restores(snapshots)
    counts, wanted = contacts(pair.env, states), contacts(pair.exact, expected)
    assert np.mean(counts == wanted) > 0.97 and np.mean((counts > 0) == (wanted > 0)) > 0.99
    assert np.any(wanted[:, 0] > 0)  # the pillar

    states = pair.exact_resets(jax.random.split(jax.random.key(0), B))
    for index, action in enumerate(pair.actions(T)):
        after, states = pair.steps(states, action), pair.exact_steps(states, action)
        if index:  # Car's wheels begin tangent to the floor, on either side of which rounding may put them
            np.testing.assert_allclose(after.data.qpos, states.data.qpos, atol=1e-4)
            np.testing.assert_array_equal(after.costs > 0, states.costs > 0)
