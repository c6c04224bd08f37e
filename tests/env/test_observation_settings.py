"""Settings of the builder for observations: lidars, compasses, sensors, extras."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import World, built

import mjx_safety
from mjx_safety import (
    Boundary,
    Car,
    Doggo,
    EnvConfig,
    Goal,
    GoalArea,
    Gremlins,
    Hazards,
    Lidar,
    Pillars,
    Point,
    Push,
    PushBox,
    Vases,
    Walls,
)


def entries(env):
    return {name: where.stop - where.start for name, where in env.obs_slices.items()}


SENSORS = {"accelerometer": 3, "velocimeter": 3, "gyro": 3, "magnetometer": 3}


def test_observed_kinds_have_a_lidar_and_others_none():
    env = built(hazards=Hazards(num=2, observed=False), vases=Vases(num=1), walls=Walls(num=1))
    assert entries(env) == {**SENSORS, "goal_lidar": 16, "walls_lidar": 16, "vases_lidar": 16}
    env = built(task=Goal(goal=GoalArea(observed=False)), boundary=Boundary(num=4, observed=True))
    assert entries(env) == {**SENSORS, "boundary_lidar": 16}


def test_sensors_are_chosen_and_ordered_by_the_robot():
    env = built(robot=Point(sensors=("gyro", "accelerometer")))
    assert entries(env) == {"gyro": 3, "accelerometer": 3, "goal_lidar": 16}
    obs = env.reset(jax.random.key(0)).obs
    np.testing.assert_allclose(obs[:6], (0, 0, 0, 0, 0, 9.81), atol=1e-5)


def test_a_robot_may_observe_no_sensor():
    env = built(robot=Point(sensors=()))
    assert entries(env) == {"goal_lidar": 16}
    assert jax.eval_shape(env.reset, jax.random.key(0)).obs.shape == (16,)


@pytest.mark.parametrize("robot, apart, whole", [(Car, 24, 19), (Doggo, 56, 44)])
def test_angles_are_taken_apart_or_left_whole(robot, apart, whole):
    for angle_components, size in ((True, apart), (False, whole)):
        env = built(robot=robot(angle_components=angle_components), task=Goal(goal=GoalArea(observed=False)))
        assert env.obs_size == size
        assert jax.eval_shape(env.reset, jax.random.key(0)).obs.shape == (size,)


@pytest.fixture(scope="module")
def detailed():
    """A world with all extras, both compasses and a lidar of its own, and a state of it after three steps."""
    world = World(
        EnvConfig(
            robot=Car(),
            task=Push(goal=GoalArea(compass=True), push_box=PushBox(compass=True)),
            lidar=Lidar(num_bins=8, max_dist=None, exp_gain=2.0, alias=False),
            compass_size=3,
            extras=("remaining", "goal_dist", "qpos", "qvel", "ctrl", "freejoint", "com"),
            episode_length=12,
        )
    )
    state = world.reset(jax.random.key(0))
    for action in ([0.5, -0.25], [0.5, 0.5], [0.01, -0.02]):
        state = world.step(state, jnp.array(action))
    return world, state, world.snapshot(state)


def test_entries_stand_where_the_options_put_them(detailed):
    world, _, _ = detailed
    robot = {**SENSORS, "ballangvel_rear": 3, "ballquat_rear": 9}
    objects = {"goal_lidar": 8, "goal_comp": 3, "push_box_lidar": 8, "push_box_comp": 3}
    extras = {"remaining": 1, "goal_dist": 1, "qpos": 20, "qvel": 17, "ctrl": 2, "freejoint": 7, "com": 3}
    assert list(entries(world.env).items()) == list({**robot, **objects, **extras}.items())


def test_extras_are_what_they_say(detailed):
    world, state, snapshot = detailed
    distance = np.linalg.norm(snapshot.goal_pos[0, :2] - snapshot.root_pos[:2])
    assert world.seen(state, "goal_dist")[0] == pytest.approx(np.exp(-distance), abs=1e-6)
    assert world.seen(state, "remaining")[0] == pytest.approx(3 / 12)
    np.testing.assert_array_equal(world.seen(state, "qpos"), state.data.qpos)
    np.testing.assert_array_equal(world.seen(state, "qvel"), state.data.qvel)
    np.testing.assert_allclose(world.seen(state, "ctrl"), (0.01, -0.02))
    np.testing.assert_array_equal(world.seen(state, "freejoint"), state.data.qpos[:7])
    np.testing.assert_allclose(world.seen(state, "freejoint")[:3], snapshot.root_pos)
    # the Car's centre of mass: root 0.0239 kg at (0, 0.004, 0.001), wheels and ball 0.05 m lower
    com = world.seen(state, "com")
    assert np.linalg.norm((com - snapshot.root_pos)[:2]) < 0.02
    assert com[2] - snapshot.root_pos[2] == pytest.approx(-0.0099, abs=1e-3)


def rotation(quat):
    w, x, y, z = np.float64(quat)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_compasses_point_at_goal_and_box(detailed):
    world, state, snapshot = detailed
    for name, place in (("goal_comp", snapshot.goal_pos[0]), ("push_box_comp", snapshot.push_box_pos[0])):
        ego = rotation(snapshot.root_quat).T @ np.float64(place - snapshot.root_pos)
        np.testing.assert_allclose(world.seen(state, name), ego / (np.linalg.norm(ego) + 0.001), atol=1e-5)


def test_the_lidar_has_its_bins_its_gain_and_no_neighbours(detailed):
    world, state, snapshot = detailed
    for name, place in (("goal_lidar", snapshot.goal_pos[0]), ("push_box_lidar", snapshot.push_box_pos[0])):
        ego = (rotation(snapshot.root_quat).T @ np.append(place[:2] - snapshot.root_pos[:2], -snapshot.root_pos[2]))[:2]
        lidar = np.zeros(8)
        lidar[int(np.arctan2(ego[1], ego[0]) % (2 * np.pi) / (2 * np.pi / 8))] = np.exp(-2.0 * np.linalg.norm(ego))
        np.testing.assert_allclose(world.seen(state, name), lidar, atol=1e-5)


def test_compasses_have_two_components_unless_told_otherwise():
    env = built(task=Goal(goal=GoalArea(compass=True)))
    assert entries(env)["goal_comp"] == 2
    old = dataclasses.replace(env.config, profile="2019", task=Push(push_box=PushBox(compass=True)))
    assert "box_compass" in mjx_safety.make(old, physics="mujoco").obs_slices


def test_the_2019_profile_is_a_permutation_of_the_observation():
    settings = {"hazards": Hazards(num=2), "extras": ("qvel", "remaining"), "task": Push(goal=GoalArea(compass=True))}
    new, old = (World(EnvConfig(profile=profile, **settings)) for profile in ("1.0.0", "2019"))
    snapshot = new.snapshot(new.reset(jax.random.key(0)))
    states = new.restore(snapshot), old.restore(snapshot)
    names = {"push_box_lidar": "box_lidar", "goal_comp": "goal_compass"}
    assert list(old.env.obs_slices) == sorted(names.get(name, name) for name in new.env.obs_slices)
    for name in new.env.obs_slices:
        old_name = names.get(name, name)
        np.testing.assert_allclose(old.seen(states[1], old_name), new.seen(states[0], name), atol=1e-6, err_msg=name)


@pytest.mark.parametrize("see_markers", [True, False])
def test_natural_lidars_see_surfaces(see_markers):
    """Rays at the Point's height, 0.1 m: over hazards unless they count as columns."""
    world = World(
        EnvConfig(
            hazards=Hazards(num=1),
            pillars=Pillars(num=1),
            vases=Vases(num=1),
            lidar=Lidar(kind="natural", num_bins=8, see_markers=see_markers),
        )
    )
    state = world.scene(
        root_pos=(0, 0, 0.1),
        root_quat=(1, 0, 0, 0),
        hazards_pos=(1.0, 0, 0.02),
        pillars_pos=(0, 1.5, 0.5),
        vases_pos=(-1, 0, 0.1),
        vases_quat=(1, 0, 0, 0),
        goal_pos=(0, -2, 0.16),
    )
    closest = {"hazards": (0, 0.8), "pillars": (2, 1.3), "vases": (4, 0.9), "goal": (6, 1.7)}
    for kind, (direction, distance) in closest.items():
        lidar = world.seen(state, f"{kind}_lidar")
        unseen = kind == "hazards" and not see_markers
        assert lidar[direction] == pytest.approx(0.0 if unseen else np.exp(-distance), abs=1e-5), kind
        assert np.all(np.delete(lidar, direction) == 0), kind


def test_kinds_without_a_member_are_no_kinds():
    env = built(hazards=Hazards(num=0), vases=Vases(num=0), gremlins=Gremlins(num=0))
    assert entries(env) == {**SENSORS, "goal_lidar": 16}
    assert env.cost_names == () and env.mj_model.nq == 3
