"""MJX against the C engine, and what only MJX offers. One compilation of PointGoal1 serves the module."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mujoco import mjx

import mjx_safety
from mjx_safety import Snapshot
from mjx_safety.cli.throughput import driving, in_mid_episode, share_with_objects
from mjx_safety.sim.engines.mjx import SMALL

B, T = 2, 30


@pytest.fixture(scope="module")
def traces():
    return collections.Counter()


@pytest.fixture(scope="module")
def env():
    return mjx_safety.make("SafetyPointGoal1-v0", physics="mjx")


@pytest.fixture(scope="module")
def reference():
    return mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")


@pytest.fixture(scope="module")
def reset(env, traces):
    def reset(key):
        traces["reset"] += 1
        return env.reset(key)

    return jax.jit(jax.vmap(reset))


@pytest.fixture(scope="module")
def step(env, traces):
    def step(state, action):
        traces["step"] += 1
        return env.step(state, action)

    return jax.jit(jax.vmap(step))


@pytest.fixture(scope="module")
def actions():
    """Forward at random; constant turns where the servo is periodic (at 0.7 it is chaotic and magnifies rounding)."""
    forward = jax.random.uniform(jax.random.key(1), (T, B), minval=-1, maxval=1)
    return jnp.stack([forward, jnp.broadcast_to(jnp.array([1.0, -0.4]), (T, B))], axis=-1)


@pytest.fixture(scope="module")
def run(reset, step, actions):
    """States after reset and after each of T steps on MJX."""
    states = [reset(jax.random.split(jax.random.key(0), B))]
    for action in actions:
        states.append(step(states[-1], action))
    return states


@pytest.fixture(scope="module")
def reference_run(reference, actions):
    states = [jax.jit(jax.vmap(reference.reset))(jax.random.split(jax.random.key(0), B))]
    step = jax.jit(jax.vmap(reference.step))
    for action in actions:
        states.append(step(states[-1], action))
    return states


def test_the_engine_is_the_default():
    assert mjx_safety.make("SafetyPointGoal0-v0").physics.name == "mjx"


@pytest.mark.thorough
def test_an_episode_starts_as_on_the_c_engine(run, reference_run):
    first, expected = run[0], reference_run[0]
    np.testing.assert_allclose(first.obs, expected.obs, atol=1e-5)
    np.testing.assert_allclose(first.data.qpos, expected.data.qpos, atol=1e-6)
    np.testing.assert_array_equal(first.costs, expected.costs)


def test_free_motion_is_that_of_the_c_engine(env, run, reference_run):
    others = np.concatenate([np.r_[where] for name, where in env.obs_slices.items() if name != "accelerometer"])
    for state, expected in zip(run, reference_run, strict=True):
        np.testing.assert_allclose(state.data.qpos, expected.data.qpos, atol=1e-4)
        np.testing.assert_allclose(state.reward, expected.reward, atol=1e-4)
        np.testing.assert_array_equal(state.cost, expected.cost)
        np.testing.assert_array_equal(state.goal_met, expected.goal_met)
        np.testing.assert_allclose(state.obs[:, others], expected.obs[:, others], atol=1e-3)


def test_reset_and_step_trace_and_compile_once(run, reset, step, traces):
    assert traces == {"reset": 1, "step": 1}
    assert reset._cache_size() == step._cache_size() == 1


def test_data_is_complete_and_current(env, run):
    data = jax.jit(jax.vmap(env.mjx_data))(run[-1])
    assert isinstance(data, mjx.Data)
    np.testing.assert_array_equal(data.qpos, run[-1].data.qpos)
    np.testing.assert_array_equal(data.qvel, run[-1].data.qvel)
    np.testing.assert_array_equal(data.time, run[-1].data.time)
    sensors = slice(0, env.obs_slices["magnetometer"].stop)
    np.testing.assert_allclose(jax.vmap(env.scene.sense)(data.sensordata), run[-1].obs[:, sensors], atol=1e-4)
    robot = env.mj_model.body("robot").id
    np.testing.assert_allclose(data.xpos[:, robot, :2], run[-1].data.qpos[:, :2], atol=1e-6)


def test_the_physics_model_is_a_leaf(env):
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(env)]
    assert any(name.endswith(".body_mass") for name in names)


def test_a_model_of_ones_own_serves_all_worlds(env):
    """The robot's own model, by which worlds without objects are stepped, would still have the old masses."""
    heavy = env.physics.model.replace(body_mass=2 * env.physics.model.body_mass)
    physics = env.physics.with_model(heavy)
    assert env.physics.alone is not None and physics.alone is None
    np.testing.assert_array_equal(physics.model.body_mass, 2 * env.physics.model.body_mass)


def test_data_on_the_c_engine_says_where_to_find_it(reference, reference_run):
    state = jax.tree.map(lambda leaf: leaf[0], reference_run[0])
    with pytest.raises(ValueError, match=r"not available with physics='mujoco'.*physics='mjx'"):
        reference.mjx_data(state)


def test_a_model_without_constraints_still_has_its_accelerometer(key):
    """MJX 3.17 leaves acceleration sensors at zero in such models."""
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mjx")
    state = jax.jit(env.reset)(key)
    where = env.obs_slices["accelerometer"]
    np.testing.assert_allclose(state.obs[where], [0, 0, 9.81], atol=1e-5)
    after = jax.jit(env.step)(state, jnp.array([1.0, 0.0]))
    assert after.obs[where][2] == pytest.approx(9.81, abs=1e-5)
    assert after.obs[where][0] == pytest.approx(2.7817469, rel=1e-3)


def test_check_values_of_the_reference_hold_on_mjx():
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mjx")
    start = Snapshot(root_pos=jnp.array([0, 0, 0.1]), root_quat=jnp.array([1.0, 0, 0, 0]))
    run = jax.jit(lambda: jax.lax.fori_loop(0, 10, lambda _, state: env.step(state, jnp.ones(2)), env.restore(start)))
    np.testing.assert_allclose(run().data.qpos, (0.052805809, 0.00078227435, 0.58341535), atol=1e-5)


@pytest.mark.slow
def test_a_sorted_batch_agrees_with_every_object_in_the_solver():
    """Robots have been driven into vases before, so that some worlds need their objects and most do not."""
    fast, whole = (mjx_safety.make("SafetyPointGoal2-v0", accuracy=name) for name in ("fast", "reference"))
    num = 4 * SMALL
    states = in_mid_episode(fast, num).env_state
    assert 0 < share_with_objects(fast, states.data) < 1
    actions = driving(jax.random.key(3), 3, num, fast.action_size)
    one, other = (
        jax.jit(lambda s, e=env: jax.lax.scan(lambda s, a: (jax.vmap(e.step)(s, a), s), s, actions))(states)[0]
        for env in (fast, whole)
    )
    np.testing.assert_allclose(one.data.qpos[:, :2], other.data.qpos[:, :2], atol=1e-4)
    assert np.mean(one.cost == other.cost) > 0.98
    assert np.median(np.abs(one.data.qpos - other.data.qpos).max(axis=-1)) < 1e-5
