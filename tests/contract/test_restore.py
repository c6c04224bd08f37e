"""Snapshots: any part of a world may be given, the rest is that of a reset; what does not fit is refused by name."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from worlds import assert_close, assert_same_snapshot, world_of

import mjx_safety
from mjx_safety import EnvConfig, Gremlins, Hazards, Snapshot
from mjx_safety.world.placement import layout


@pytest.fixture(scope="module")
def goal1():
    return world_of("SafetyPointGoal1-v0")


@pytest.fixture(scope="module")
def button1():
    return world_of("SafetyPointButton1-v0")


@pytest.fixture(scope="module")
def push1():
    return world_of("SafetyDoggoPush1-v0")


def test_a_partial_snapshot_keeps_the_default_for_the_rest(goal1):
    place = jnp.array([0.5, -0.5, 0.1])
    given, default = (goal1.snapshot(goal1.env.restore(s)) for s in (Snapshot(root_pos=place), Snapshot()))
    np.testing.assert_allclose(given.root_pos, place)
    changed = {"root_pos", "last_dist_goal"}
    for field in dataclasses.fields(Snapshot):
        if field.name not in changed:
            np.testing.assert_array_equal(getattr(given, field.name), getattr(default, field.name), field.name)
    distance = np.linalg.norm(place[:2] - given.goal_pos[0, :2])
    assert given.last_dist_goal == pytest.approx(distance, abs=1e-6)


def test_the_default_is_drawn_with_the_key(goal1):
    first, second = (goal1.env.restore(Snapshot(), jax.random.key(seed)) for seed in (1, 2))
    assert_close(first.obs, goal1.env.restore(Snapshot(), jax.random.key(1)).obs, 0)
    assert not np.allclose(first.data.qpos, second.data.qpos)


def test_a_given_memory_of_the_reward_is_used(goal1, key):
    snapshot = goal1.snapshot(goal1.reset(key))
    rewards = [
        float(goal1.step(goal1.restore(snapshot.replace(last_dist_goal=d)), jnp.zeros(2)).reward)
        for d in (snapshot.last_dist_goal, snapshot.last_dist_goal + 2.0)
    ]
    assert rewards[1] - rewards[0] == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize("name", ["goal1", "button1", "push1"])
def test_missing_memories_are_computed_from_the_positions(name, request, key):
    world = request.getfixturevalue(name)
    state = world.reset(key)
    for action in world.actions(3):
        state = world.step(state, action)
    snapshot = world.snapshot(state)
    memories = {field: None for field in vars(snapshot) if field.startswith("last_")}
    assert_same_snapshot(world.snapshot(world.restore(snapshot.replace(**memories))), snapshot, 1e-5)


def test_goal_pos_may_have_a_leading_axis_or_none(goal1, key):
    snapshot = goal1.snapshot(goal1.reset(key))
    flat = goal1.restore(snapshot.replace(goal_pos=snapshot.goal_pos[0]))
    np.testing.assert_array_equal(flat.places.markers["goal"], snapshot.goal_pos)
    np.testing.assert_array_equal(flat.obs, goal1.restore(snapshot).obs)


def test_what_drives_the_gremlins_follows_from_the_time(button1, key):
    snapshot = button1.snapshot(button1.step(button1.reset(key), jnp.zeros(2)))
    elsewhere = snapshot.replace(gremlin_mocaps_pos=snapshot.gremlin_mocaps_pos + 9.0)
    assert_same_snapshot(button1.snapshot(button1.restore(elsewhere)), snapshot, 1e-6)


def test_quaternions_need_not_be_of_unit_length(push1, key):
    snapshot = push1.snapshot(push1.reset(key))
    fields = ("root_quat", "push_box_quat")
    longer = snapshot.replace(**{field: 3.0 * getattr(snapshot, field) for field in fields})
    assert_same_snapshot(push1.snapshot(push1.restore(longer)), snapshot, 1e-6)


@pytest.mark.parametrize(
    "env_id, snapshot, words",
    [
        ("PointGoal1", Snapshot(hazards_pos=np.zeros((3, 3))), ("snapshot.hazards_pos", "(3, 3)", "(8, 3)")),
        ("PointGoal1", Snapshot(root_pos=np.zeros(2)), ("snapshot.root_pos", "(2,)", "(3,)")),
        ("PointGoal1", Snapshot(vases_quat=np.zeros(4)), ("snapshot.vases_quat", "(4,)", "(1, 4)")),
        ("PointGoal1", Snapshot(goal_pos=np.zeros((2, 3))), ("snapshot.goal_pos", "(2, 3)", "(1, 3)")),
        ("PointGoal1", Snapshot(ctrl=np.zeros(3)), ("snapshot.ctrl", "(3,)", "(2,)")),
        ("CarGoal1", Snapshot(joint_qpos=np.zeros(3)), ("snapshot.joint_qpos", "(3,)", "(6,)")),
        ("PointPush1", Snapshot(pillars_pos=np.zeros((2, 3))), ("snapshot.pillars_pos", "(2, 3)", "(1, 3)")),
        ("PointButton1", Snapshot(gremlins_pos=np.zeros((2, 3))), ("snapshot.gremlins_pos", "(2, 3)", "(4, 3)")),
        ("PointButton1", Snapshot(gremlins_start_pos=np.zeros((2, 3))), ("snapshot.gremlins_start_pos", "(4, 3)")),
        ("PointButton1", Snapshot(gremlins_start_quat=np.zeros(4)), ("snapshot.gremlins_start_quat", "(4, 4)")),
        ("PointButton1", Snapshot(goal_button=np.zeros(2)), ("snapshot.goal_button",)),
        ("PointButton1", Snapshot(last_dist_goal=np.zeros(2)), ("snapshot.last_dist_goal",)),
    ],
)
def test_a_snapshot_of_the_wrong_shape_is_refused_by_name(env_id, snapshot, words):
    env = mjx_safety.make(f"Safety{env_id}-v0", physics="mujoco")
    with pytest.raises(ValueError) as error:
        jax.eval_shape(env.restore, snapshot)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "field, value",
    [("hazards_pos", np.zeros((8, 3))), ("push_box_quat", np.zeros((1, 4))), ("circle_pos", np.zeros(3))],
)
def test_a_snapshot_of_things_that_are_not_there_is_refused_by_name(field, value):
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")
    with pytest.raises(ValueError, match=rf"snapshot\.{field} is given, but this environment has no such thing"):
        jax.eval_shape(env.restore, Snapshot(**{field: value}))


BAD = [
    ({"qpos": np.full(15, np.nan)}, "snapshot.qpos holds nan; restore takes finite numbers below 1e.10"),
    ({"qpos": jnp.zeros(15).at[3].set(1.0).at[9].set(jnp.inf)}, "snapshot.qpos holds inf"),
    ({"qpos": np.full(15, 1e20)}, "snapshot.qpos holds 1e.20"),
    ({"qpos": np.zeros(15)}, "snapshot.qpos holds a quaternion of length 0"),
    ({"qvel": np.full(14, -np.inf)}, "snapshot.qvel holds -inf"),
    ({"qvel": [np.nan] * 14}, "snapshot.qvel holds nan"),
    ({"ctrl": np.full(8, np.nan)}, "snapshot.ctrl holds nan"),
    ({"time": np.nan}, "snapshot.time holds nan"),
    ({"qacc_warmstart": np.full(14, np.nan)}, "snapshot.qacc_warmstart holds nan"),
    ({"qpos": np.zeros(3)}, r"snapshot.qpos has shape \(3,\)"),
    ({"qpos": [0.0] * 15}, "snapshot.qpos holds a quaternion of length 0"),
    ({"qpos": [[1.0], [2.0, 3.0]]}, "snapshot.qpos is .*; restore takes an array of numbers"),
    ({"qvel": np.zeros(14, complex)}, "snapshot.qvel is .*; restore takes an array of numbers"),
    ({"qvel": "fast"}, "snapshot.qvel is 'fast'; restore takes an array of numbers"),
]


@pytest.fixture(scope="module")
def ant():
    return world_of("SafetyAntVelocity-v1")


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_a_world_that_cannot_be_is_refused(ant, fields, message):
    with pytest.raises(ValueError, match=message) as error:
        ant.env.restore(Snapshot(**fields))
    assert len(str(error.value)) < 200


BAD_SCENES = [
    ("PointGoal1", {"root_quat": np.zeros(4)}, "snapshot.root_quat holds a quaternion of length 0"),
    ("PointGoal1", {"root_quat": [0, 0, 0, 0]}, "snapshot.root_quat holds a quaternion of length 0"),
    ("PointGoal1", {"root_pos": [np.nan, 0, 0.1]}, "snapshot.root_pos holds nan"),
    ("PointGoal1", {"hazards_pos": np.full((8, 3), np.inf)}, "snapshot.hazards_pos holds inf"),
    ("PointGoal1", {"vases_quat": np.zeros((1, 4))}, "snapshot.vases_quat holds a quaternion of length 0"),
    ("CarGoal1", {"joint_qpos": np.zeros(6)}, "snapshot.joint_qpos holds a quaternion of length 0"),
    *(
        ("PointButton1", {"goal_button": x}, f"goal_button is {x}; it must be a whole.* 0 to 3")
        for x in (99, -1, 1.5, 4)
    ),
    *(("PointButton1", {"buttons_timer": x}, f"timer is {x}; it must be a whole.* at least 0") for x in (-5, 0.5)),
]


@pytest.mark.parametrize(("name", "fields", "message"), BAD_SCENES)
def test_a_scene_that_cannot_be_is_refused(name, fields, message):
    with pytest.raises(ValueError, match=message):
        world_of(f"Safety{name}-v0").env.restore(Snapshot(**fields))


def test_lists_are_arrays(ant):
    qpos = [0, 0, 0.75, 1, *[0] * 11]
    restored, same = (ant.env.restore(Snapshot(qpos=value)) for value in (qpos, np.array(qpos, np.float32)))
    np.testing.assert_array_equal(restored.obs, same.obs)


def test_a_large_first_guess_is_none_of_the_pose(ant):
    guess = np.full(14, 1e12, np.float32)
    np.testing.assert_array_equal(ant.env.restore(Snapshot(qacc_warmstart=guess)).data.qacc_warmstart, guess)


def test_a_traced_quaternion_without_a_length_is_no_turn(ant):
    state = ant.restore(Snapshot(qpos=jnp.zeros(15).at[2].set(0.75)))
    np.testing.assert_array_equal(state.data.qpos[3:7], [1, 0, 0, 0])
    assert np.all(np.isfinite(state.obs))


def test_traced_quaternions_of_a_scene_without_a_length_are_no_turn(goal1, push1, key):
    snapshot = push1.snapshot(push1.reset(key))
    nothing = {field: jnp.zeros_like(getattr(snapshot, field)) for field in ("root_quat", "push_box_quat")}
    posed = push1.snapshot(push1.restore(snapshot.replace(**nothing)))
    for field in nothing:
        np.testing.assert_array_equal(getattr(posed, field).ravel(), [1, 0, 0, 0])
    default = goal1.snapshot(goal1.reset(key))
    posed = goal1.restore(default.replace(root_quat=jnp.zeros(4)))
    assert posed.data.qpos[2] == 0.0 and np.all(np.isfinite(posed.obs))


def test_a_planar_robot_takes_quaternions_of_any_length(goal1):
    turned = np.array([np.cos(0.4), 0.0, 0.0, np.sin(0.4)])  # by 0.8 rad
    for length in (1e-3, 1.0, 7.0):
        state = goal1.scene(root_quat=length * turned)
        np.testing.assert_allclose(state.data.qpos[2], 0.8, atol=1e-6)


def test_a_planar_robot_cannot_be_tilted(goal1, push1):
    tilted = Snapshot(root_quat=np.array([np.cos(0.1), np.sin(0.1), 0.0, 0.0]))
    with pytest.raises(
        ValueError, match=r"snapshot\.root_quat is \[0\.995, .* tilts the robot Point; its root is planar"
    ):
        goal1.env.restore(tilted)
    assert push1.env.config.robot.root_joint == "free" and push1.env.restore(tilted).obs.shape


def test_ball_joints_of_a_scene_take_quaternions_of_any_length():
    world = world_of("SafetyCarGoal1-v0")
    default = world.snapshot(world.reset(jax.random.key(0)))
    start = world.env.scene.joint_quaternions[0]
    for given, expected in (([0.0, 0.0, 3.0, 4.0], [0.0, 0.0, 0.6, 0.8]), ([0.0] * 4, [1.0, 0.0, 0.0, 0.0])):
        joints = default.joint_qpos.at[start : start + 4].set(jnp.array(given))
        posed = world.snapshot(world.restore(default.replace(joint_qpos=joints)))
        np.testing.assert_allclose(posed.joint_qpos[start : start + 4], expected, atol=1e-6)


def test_velocities_of_objects_are_in_the_world_frame(goal1):
    """Against MuJoCo's own account of the state that the snapshot becomes."""
    rng = np.random.default_rng(0)
    quat = rng.normal(size=(1, 4))
    quat /= np.linalg.norm(quat, axis=-1, keepdims=True)
    linvel, angvel = rng.normal(size=(2, 1, 3))
    pos = np.array([[0.5, 9.0, 5.0]])
    state = goal1.scene(vases_pos=pos, vases_quat=quat, vases_linvel=linvel, vases_angvel=angvel)
    assert_moves_as_given(goal1, state, "vases0", pos[0], linvel[0], angvel[0])
    np.testing.assert_allclose(goal1.snapshot(state).vases_angvel, angvel, atol=1e-5)


def test_velocities_of_a_free_robot_are_in_the_world_frame(push1):
    rng = np.random.default_rng(1)
    quat = rng.normal(size=4)
    quat /= np.linalg.norm(quat)
    linvel, angvel = rng.normal(size=(2, 3))
    state = push1.scene(root_pos=(9, 9, 9), root_quat=quat, root_linvel=linvel, root_angvel=angvel)
    assert_moves_as_given(push1, state, "robot", (9, 9, 9), linvel, angvel)
    np.testing.assert_allclose(push1.seen(state, "velocimeter"), to_body(quat, linvel), atol=1e-5)
    np.testing.assert_allclose(push1.seen(state, "gyro"), to_body(quat, angvel), atol=1e-5)


def to_body(quat, vector):
    inverse, turned = np.zeros(4), np.zeros(3)
    mujoco.mju_negQuat(inverse, quat)
    mujoco.mju_rotVecQuat(turned, vector, inverse)
    return turned


def assert_moves_as_given(world, state, body, pos, linvel, angvel):
    model = world.env.mj_model
    data = mujoco.MjData(model)
    data.qpos, data.qvel = state.data.qpos, state.data.qvel
    mujoco.mj_forward(model, data)
    velocity = np.zeros(6)
    index = model.body(body).id
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, index, velocity, 0)
    np.testing.assert_allclose(velocity, np.concatenate([angvel, linvel]), atol=1e-5)
    np.testing.assert_allclose(data.xpos[index], pos, atol=1e-5)


@pytest.fixture(scope="module")
def crowded():
    """An environment for which no layout can be found; the search is soon given up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "MAX_LAYOUTS", 3)
        patch.setattr("mjx_safety.env.env.require_room", lambda *_: None)  # `make` would refuse it
        hazards = Hazards(num=9, keepout=0.5, observed=False)
        env = mjx_safety.make(EnvConfig(hazards=hazards, extents=(-1, -1, 1, 1)), physics="mujoco")
        reset, restore = jax.jit(env.reset), jax.jit(env.restore)
        state = reset(jax.random.key(0))
        yield env, state, restore(env.snapshot(state))


def test_a_world_without_a_layout_ends_at_once(crowded):
    env, state, _ = crowded
    assert state.placement_failed and state.terminated
    after = jax.jit(env.step)(state, jnp.zeros(2))
    assert after.placement_failed and after.terminated and not after.truncated


def test_a_whole_snapshot_needs_no_layout(crowded):
    _, _, restored = crowded
    assert not restored.placement_failed and not restored.terminated


# -- the clock of driven objects ---------------------------------------------------------------------------------------


def test_an_episode_too_long_for_the_clock_of_gremlins_is_refused_at_make():
    """On MJX they would circle 2.3 % too slowly after 1024 s, and stand still after 70 000 s."""
    gremlins = Gremlins(num=1)
    assert mjx_safety.make(EnvConfig(gremlins=gremlins, episode_length=50_000), physics="mujoco").dt == 0.02
    assert mjx_safety.make(EnvConfig(episode_length=10_000_000), physics="mujoco").episode_length == 10_000_000
    with pytest.raises(ValueError, match=r"episode_length is 50001, which takes 1000\.02 s, but with gremlins"):
        mjx_safety.make(EnvConfig(gremlins=gremlins, episode_length=50_001), physics="mujoco")


def test_so_is_a_snapshot_at_a_time_beyond_it(button1, goal1, key):
    late = Snapshot(time=jnp.float32(1001.0))
    with pytest.raises(ValueError, match=r"snapshot\.time is 1001 s, but with gremlins it may be at most 1000 s"):
        button1.env.restore(late)
    assert goal1.env.restore(late).data.time == 1001.0
