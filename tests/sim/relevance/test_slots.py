"""When objects need the solver at all."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import EnvConfig, Gremlins, Point, Snapshot, Vases

SLOW = ("SafetyCarPush2-v0", "SafetyPointPush1-v0", "SafetyDoggoGoal2-v0", "SafetyCarButton1-v0")


def nearby_of(env_id):
    return mjx_safety.make(env_id, physics="mjx").physics.near.nearby


@pytest.fixture(scope="module")
def goal():
    """PointGoal1: its world at rest, the vase 1 m ahead of the robot."""
    nearby = nearby_of("SafetyPointGoal1-v0")
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")
    start = Snapshot(time=jnp.float32(1.0), root_pos=jnp.array([0, 0, 0.1]), vases_pos=jnp.array([[1.0, 0.0, 0.09996]]))
    return nearby, jax.jit(env.restore)(start).data


def test_nothing_is_needed_far_from_an_object_at_rest(goal):
    nearby, data = goal
    assert not nearby.needs_objects(data, 0.02)


def test_objects_within_reach_are_needed(goal):
    """The robot reaches 0.187 m (its arrow's far corner), the vase 0.141 m (its corner)."""
    nearby, data = goal
    for gap, needed in ((0.34, False), (0.325, True)):
        assert bool(nearby.needs_objects(data.replace(qpos=data.qpos.at[0].set(1.0 - gap)), 0.02)) is needed


def test_objects_that_the_robot_is_fast_enough_to_reach_are_needed(goal):
    nearby, data = goal
    moving = data.replace(qpos=data.qpos.at[0].set(0.6), qvel=data.qvel.at[0].set(5.0))
    assert nearby.needs_objects(moving, 0.02)
    assert not nearby.needs_objects(moving.replace(qvel=data.qvel), 0.02)


def test_an_object_that_moves_or_leans_is_needed(goal):
    nearby, data = goal
    assert nearby.needs_objects(data.replace(qvel=data.qvel.at[3].set(0.01)), 0.02)
    assert nearby.needs_objects(data.replace(qpos=data.qpos.at[5].add(0.01)), 0.02)


def test_a_gremlin_that_was_turned_is_needed_until_it_is_back():
    env = mjx_safety.make("SafetyPointButton1-v0", physics="mujoco")
    nearby = nearby_of("SafetyPointButton1-v0")
    state = jax.jit(env.reset)(jax.random.key(0))
    snapshot = env.snapshot(state)
    assert not nearby.needs_objects(state.data, 0.02)
    turned = snapshot.replace(gremlins_angvel=snapshot.gremlins_angvel.at[0, 2].set(0.1))
    assert nearby.needs_objects(env.scene.to_physics(turned), 0.02)


@pytest.mark.parametrize("env_id", ["SafetyPointGoal2-v0", pytest.param("SafetyCarPush2-v0", marks=pytest.mark.slow)])
def test_nothing_is_touched_in_a_step_without_need(env_id):
    """On the C engine, whose solver always has all objects."""
    env, nearby = mjx_safety.make(env_id, physics="mujoco"), nearby_of(env_id)
    nearby = dataclasses.replace(nearby, full=env.scene)
    key, num = jax.random.key(1), 64
    states = jax.jit(lambda key: env.reset_many(key, num))(key)

    @jax.jit
    def advance(states, key):
        needed = jax.vmap(lambda data: nearby.needs_objects(data, env.dt))(states.data)
        actions = jax.random.uniform(key, (num, env.action_size), minval=-1, maxval=1)
        after = jax.vmap(env.step)(states, actions.at[:, 0].add(0.7))
        start = env.scene.robot_nq
        moved = (
            jnp.abs(after.data.qpos - states.data.qpos)[:, start:].max(axis=-1) > 1e-4
        )  # m; at rest they sag a little
        return after, needed, moved

    needs, moves = [], []
    for index in range(150):
        states, needed, moved = advance(states, jax.random.fold_in(key, index))
        if index:  # in its first step a push box sinks in by 0.2 mm
            needs.append(needed)
            moves.append(moved)
    needs, moves = np.array(needs), np.array(moves)
    assert not np.any(moves & ~needs)
    assert moves.any()  # something was pushed
    assert needs.mean() < 0.5


def test_a_gremlin_beside_a_resting_vase_is_needed():
    """However far the robot is: it would push the vase. Two metres away it would not."""
    config = EnvConfig(robot=Point(), gremlins=Gremlins(num=1, keepout=0.1), vases=Vases(num=1))
    env = mjx_safety.make(config, physics="mujoco")
    for gap, needed in ((0.25, True), (2.0, False)):
        places = {"gremlins_pos": jnp.array([[5.0, 5.0, 0.2]]), "vases_pos": jnp.array([[5.0 + gap, 5.0, 0.09996]])}
        data = env.restore(Snapshot(time=jnp.float32(1.0), root_pos=jnp.array([0, 0, 0.1]), **places)).data
        data = data.replace(qacc_warmstart=jnp.zeros_like(data.qacc_warmstart))  # at rest for all that is asked here
        assert bool(env.physics.nearby.needs_objects(data, env.dt)) is needed


@pytest.mark.parametrize(
    "env_id",
    ["SafetyPointGoal2-v0", "SafetyPointButton1-v0", *(pytest.param(i, marks=pytest.mark.slow) for i in SLOW)],
)
def test_the_robot_alone_makes_no_difference_in_c(env_id):
    """From the same states, step by step; a push box is laid into a pillar in some layouts, which push it out."""
    fast, whole = (mjx_safety.make(env_id, physics="mujoco", accuracy=name) for name in ("fast", "reference"))
    key, num = jax.random.key(2), 64
    states = jax.jit(lambda key: fast.reset_many(key, num))(key)

    @jax.jit
    def advance(states, key):
        actions = jax.random.uniform(key, (num, fast.action_size), minval=-1, maxval=1).at[:, 0].add(0.7)
        return tuple(jax.vmap(env.step)(states, actions) for env in (fast, whole))

    alone = 0
    for index in range(100):
        alone += num - int(jnp.sum(jax.vmap(lambda d: fast.physics.nearby.needs_objects(d, fast.dt))(states.data)))
        states, expected = advance(states, jax.random.fold_in(key, index))
        np.testing.assert_allclose(states.data.qpos, expected.data.qpos, atol=2e-6)
        np.testing.assert_allclose(states.obs, expected.obs, atol=1e-3)  # accelerations
        np.testing.assert_array_equal(states.costs > 0, expected.costs > 0)
    assert 0 < alone < 100 * num
