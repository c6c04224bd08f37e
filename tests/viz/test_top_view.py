"""Pictures from above show the right things in the right places; the documentation is up to date."""

import collections
import math
from types import SimpleNamespace

import jax
import mujoco
import numpy as np
import pytest
from matplotlib.figure import Figure
from worlds import world_of

import mjx_safety
from mjx_safety.types import Places
from mjx_safety.viz.top_view import MARGIN, Solid, draw_top_view, heading, outline

GEOM = mujoco.mjtGeom
PATCHES = {  # environment -> patches of each kind
    "SafetyPointGoal2-v0": {"robot": 2, "goal": 1, "hazards": 10, "vases": 10},
    "SafetyPointButton1-v0": {"robot": 2, "buttons": 4, "goal": 1, "hazards": 4, "gremlins": 4},
    "SafetyCarPush2-v0": {"robot": 8, "goal": 1, "push_box": 5, "hazards": 4, "pillars": 4},
    "SafetyDoggoCircle2-v0": {"robot": 14, "circle": 1, "boundary": 4},
    "SafetyPointRun0-v0": {"robot": 2, "boundary": 2},
}


@pytest.fixture(params=PATCHES)
def world(request):
    env = world_of(request.param)
    return SimpleNamespace(id=request.param, env=env.env, state=env.reset(jax.random.key(0)))


def patches(axes, name):
    return [patch for patch in axes.patches if patch.get_gid() == name]


def corners(patch):
    return np.asarray(patch.get_xy())[:-1]  # the last one closes the polygon


def centre(patch):
    return (corners(patch).min(axis=0) + corners(patch).max(axis=0)) / 2


def posed(world, *qpos):
    """The state with the robot's first coordinates changed."""
    data = world.state.data
    return world.state.replace(data=data.replace(qpos=data.qpos.at[: len(qpos)].set(np.array(qpos, np.float32))))


def test_number_of_patches(world):
    axes = draw_top_view(world.env, world.state)
    counts = collections.Counter(patch.get_gid().rstrip("0123456789") for patch in axes.patches)
    assert counts == {**PATCHES[world.id], "extents": 1, "heading": 1}


def test_outlines_stand_at_the_places_of_their_objects(world):
    axes, kinds = draw_top_view(world.env, world.state), world.env.config.objects
    qpos, mocap_pos = np.asarray(world.state.data.qpos), np.asarray(world.state.data.mocap_pos)
    rows = qpos[world.env.scene.robot_nq :].reshape(-1, 7)[:, :2]
    places = dict(world.state.places.markers)
    places |= world.env.scene.split(world.env.scene.moving_kinds, rows)
    mocaps = world.env.scene.split(world.env.scene.mocap_kinds, mocap_pos)
    places |= {name: xy for name, xy in mocaps.items() if kinds[name].body_kind == "fixed"}
    assert set(places) == set(kinds)
    for name, positions in places.items():
        for i, position in enumerate(np.asarray(positions)):
            np.testing.assert_allclose(centre(patches(axes, f"{name}{i}")[0]), position[:2], atol=1e-5)


def test_drawn_from_low_to_high(world):
    axes = draw_top_view(world.env, world.state)
    low = ("hazards", "circle")
    order = {patch.get_gid(): patch.get_zorder() for patch in axes.patches}
    assert order["extents"] == min(order.values())
    assert order["heading"] == max(order.values())
    for name in order:
        assert not name.startswith(low) or order[name] <= order["robot"]


def test_robot_and_its_heading_follow_the_state():
    env, yaw = world_of("SafetyPointGoal2-v0"), 0.7
    world = SimpleNamespace(env=env.env, state=env.reset(jax.random.key(0)))
    axes = draw_top_view(env.env, posed(world, 0.5, -0.3, yaw))
    ball, nose = patches(axes, "robot")
    np.testing.assert_allclose(centre(ball), (0.5, -0.3), atol=1e-6)
    ahead, left = np.array([math.cos(yaw), math.sin(yaw)]), np.array([-math.sin(yaw), math.cos(yaw)])
    expected = [
        (0.5, -0.3) + x * ahead + y * left for x, y in ((0.05, -0.05), (0.15, -0.05), (0.15, 0.05), (0.05, 0.05))
    ]
    for corner in expected:
        assert np.linalg.norm(corners(nose) - corner, axis=-1).min() < 1e-6
    tip = corners(patches(axes, "heading")[0])[2] - (0.5, -0.3)
    np.testing.assert_allclose(tip / np.linalg.norm(tip), ahead, atol=1e-6)


def test_car_drives_towards_its_minus_y():
    model = world_of("SafetyCarPush2-v0").env.mj_model
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    np.testing.assert_allclose(heading(model, data), (0, -1), atol=1e-6)


def test_goal_marks_the_target_button():
    env = world_of("SafetyPointButton1-v0")
    state = env.reset(jax.random.key(0))
    axes = draw_top_view(env.env, state)
    target = patches(axes, f"buttons{int(state.memory.target)}")[0]
    np.testing.assert_allclose(centre(patches(axes, "goal0")[0]), centre(target), atol=1e-6)


def test_picture_follows_a_robot_outside_the_extents():
    env = world_of("SafetyPointRun0-v0")
    world = SimpleNamespace(env=env.env, state=env.reset(jax.random.key(0)))
    axes = draw_top_view(env.env, posed(world, 0.1, 10.0))
    half = 2 + MARGIN
    np.testing.assert_allclose([*axes.get_xlim(), *axes.get_ylim()], [0.1 - half, 0.1 + half, 10 - half, 10 + half])
    at_home = draw_top_view(env.env, posed(world, 0.1, 1.0))
    np.testing.assert_allclose([*at_home.get_xlim(), *at_home.get_ylim()], [-half, half, -half, half])


def test_helpers_of_the_mjx_model_are_not_drawn():
    world = world_of("SafetyCarPush2-v0")
    state, config = world.reset(jax.random.key(0)), world.env.config
    env = mjx_safety.make(config, physics="mjx")
    assert env.mj_model.ngeom > world.env.mj_model.ngeom
    gids = [sorted(patch.get_gid() for patch in draw_top_view(each, state).patches) for each in (world.env, env)]
    assert gids[0] == gids[1]


def test_given_axes_are_used_and_a_batch_is_refused():
    env = world_of("SafetyPointRun0-v0")
    state, axes = env.reset(jax.random.key(0)), Figure().add_subplot()
    assert draw_top_view(env.env, state, axes) is axes
    with pytest.raises(ValueError, match="one world"):
        draw_top_view(env.env, jax.tree.map(lambda x: x[None], state))


ALONG_X = [[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]  # turns z to x
TILTED = [[math.sqrt(0.5), 0, math.sqrt(0.5)], [0, 1, 0], [-math.sqrt(0.5), 0, math.sqrt(0.5)]]  # 45 degrees about y
TETRAHEDRON = np.array([[0.0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("kind", "size", "mat", "half"),
    [
        (GEOM.mjGEOM_SPHERE, (0.3, 0, 0), ALONG_X, (0.3, 0.3)),
        (GEOM.mjGEOM_CAPSULE, (0.1, 0.4, 0), np.eye(3), (0.1, 0.1)),
        (GEOM.mjGEOM_CAPSULE, (0.1, 0.4, 0), ALONG_X, (0.5, 0.1)),
        (GEOM.mjGEOM_CYLINDER, (0.1, 0.4, 0), np.eye(3), (0.1, 0.1)),
        (GEOM.mjGEOM_CYLINDER, (0.1, 0.4, 0), ALONG_X, (0.4, 0.1)),
        (GEOM.mjGEOM_CYLINDER, (0.1, 0.4, 0), TILTED, (0.5 * math.sqrt(0.5), 0.1)),
        (GEOM.mjGEOM_ELLIPSOID, (0.1, 0.2, 0.3), ALONG_X, (0.3, 0.2)),
        (GEOM.mjGEOM_BOX, (0.1, 0.2, 0.3), np.eye(3), (0.1, 0.2)),
        (GEOM.mjGEOM_BOX, (0.1, 0.2, 0.1), TILTED, (0.2 * math.sqrt(0.5), 0.2)),
    ],
)
def test_outlines(kind, size, mat, half):
    middle = np.array([1.0, -2.0, 0.5])
    points = outline(Solid("thing", (1, 0, 0, 1), int(kind), np.array(size), middle, np.array(mat)))
    np.testing.assert_allclose(points.max(axis=0), middle[:2] + half, atol=1e-6)
    np.testing.assert_allclose(points.min(axis=0), middle[:2] - half, atol=1e-6)


def test_outline_of_a_mesh():
    mesh = Solid("thing", (1, 0, 0, 1), int(GEOM.mjGEOM_MESH), np.zeros(3), np.zeros(3), np.eye(3), TETRAHEDRON)
    assert {tuple(point) for point in outline(mesh)} == {(0.0, 0.0), (3.0, 0.0), (0.0, 2.0)}


OWN_ROBOT = """
<mujoco>
  <asset>
    <material name="paint" rgba="0.1 0.9 0.1 1"/>
    <mesh name="wedge" vertex="0 0 0  0.3 0 0  0 0.2 0  0 0 0.1"/>
  </asset>
  <worldbody>
    <body name="robot" pos="0 0 0.1">
      <freejoint/>
      <site name="robot"/>
      <geom type="mesh" mesh="wedge" material="paint"/>
      <geom type="ellipsoid" size="0.1 0.05 0.05" rgba="1 0 0 1"/>
      <geom type="box" size="1 1 1" group="3" contype="0" conaffinity="0"/>
      <body pos="0 0 0.1"><joint name="hinge" type="hinge"/><geom type="sphere" size="0.05"/></body>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" ctrllimited="true" ctrlrange="-1 1"/></actuator>
  <sensor><gyro name="gyro" site="robot"/></sensor>
</mujoco>
"""


def test_a_robot_of_ones_own(tmp_path):
    (tmp_path / "own.xml").write_text(OWN_ROBOT)
    robot = mjx_safety.Robot(name="Own", xml=str(tmp_path / "own.xml"), root_joint="free", sensors=("gyro",))
    env = mjx_safety.make(mjx_safety.EnvConfig(robot=robot), physics="mujoco")
    model = env.mj_model
    key = jax.random.key(0)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape), jax.eval_shape(lambda: env.reset(key).replace(key=None)))
    state = state.replace(data=state.data.replace(qpos=model.qpos0), places=Places({"goal": np.ones((1, 3))}, {}))
    axes = draw_top_view(env, state)
    mesh, *others = patches(axes, "robot")
    assert len(others) == 2
    np.testing.assert_allclose(mesh.get_facecolor(), (0.1, 0.9, 0.1, 1), atol=1e-6)
    np.testing.assert_allclose(np.ptp(corners(mesh), axis=0), (0.3, 0.2), atol=1e-6)
    np.testing.assert_allclose(corners(patches(axes, "heading")[0])[2][1], 0, atol=1e-6)
