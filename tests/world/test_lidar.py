"""The lidars and the compass against check values of the reference and their definitions in plain loops."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mjx_safety.core.geometry import mat_from_quat, quat_from_yaw
from mjx_safety.core.shapes import Shape, add_to
from mjx_safety.world.lidar import Lidar, compass, goal_closeness, natural_lidar, pseudo_lidar

ROOT = np.array([0.0, 0.0, 0.1])
LIDAR = Lidar()
NATURAL = Lidar(kind="natural")
HAZARD = (Shape(kind="cylinder", size=(0.2, 0.01)),)
CUBE = (Shape(kind="box", size=(0.1, 0.1, 0.1)),)
PILLAR = (Shape(kind="cylinder", size=(0.2, 0.5)),)
POSTS = [Shape(kind="box", size=(0.1, 0.1, 0.2), pos=(x, y, 0.0)) for x in (-0.2, 0.2) for y in (-0.2, 0.2)]
PUSH_BOX = (Shape(kind="box", size=(0.2, 0.2, 0.2)), *POSTS)


def yaw_mat(yaw):
    return np.array([[math.cos(yaw), -math.sin(yaw), 0.0], [math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]])


def read(lidar, positions, root_pos=ROOT, root_mat=None):
    positions = jnp.asarray(positions, jnp.float32)
    root_mat = yaw_mat(0.3) if root_mat is None else root_mat
    args = (positions, jnp.asarray(root_pos, jnp.float32), jnp.asarray(root_mat, jnp.float32))
    return np.asarray(jax.jit(pseudo_lidar)(lidar, *args))


def loop_lidar(lidar, positions, root_pos, root_mat):
    """The definition, object by object, in double precision."""
    out = np.zeros(lidar.num_bins)
    for x, y in np.asarray(positions, float)[:, :2]:
        ego = (np.asarray(root_mat, float).T @ (np.array([x, y, 0.0]) - root_pos))[:2]
        reading = np.exp(-lidar.exp_gain * np.hypot(*ego))
        if lidar.max_dist is not None:
            reading = max(0.0, lidar.max_dist - np.hypot(*ego)) / lidar.max_dist
        turns = np.arctan2(ego[1], ego[0]) % (2 * np.pi) / (2 * np.pi / lidar.num_bins)
        index, alpha = int(turns), turns - int(turns)
        entries = {index: reading}
        if lidar.alias:
            entries = {index: reading, index + 1: alpha * reading, index - 1: (1 - alpha) * reading}
        for i, value in entries.items():
            out[i % lidar.num_bins] = max(out[i % lidar.num_bins], value)
    return out


TABLE = [
    ([(1, 0)], {15: 0.66666667, 14: 0.50929582, 0: 0.15737085}),
    ([(0.5, 0.5)], {1: 0.76429774, 0: 0.58388046, 2: 0.18041728}),
    ([(-1.2, 0.7)], {5: 0.53691853, 6: 0.47856931, 4: 0.05834923}),
    ([(0, -2.9)], {11: 0.03333333, 10: 0.02546479, 12: 0.00786854}),
    ([(1, 0), (0.5, 0.5), (0.9, 0.1)], {0: 0.58388046, 1: 0.76429774, 2: 0.18041728, 14: 0.50929582, 15: 0.69815383}),
]


@pytest.mark.parametrize("positions, bins", TABLE)
def test_check_values_of_the_reference(positions, bins):
    expected = np.zeros(16)
    expected[list(bins)] = list(bins.values())
    np.testing.assert_allclose(read(LIDAR, positions), expected, atol=1e-6)


@pytest.mark.parametrize("alias", [True, False])
@pytest.mark.parametrize(
    "num_bins, max_dist, exp_gain",
    [
        (16, 3.0, 1.0),
        (10, 6.0, 2.0),
        (3, 1.0, 1.0),
        (1, 3.0, 1.0),
        (2, 3.0, 1.0),
        (16, None, 1.0),
        (10, None, 0.5),
        (1, None, 2.0),
        (2, None, 0.0),
    ],
)
def test_equals_the_definition_in_plain_loops(num_bins, max_dist, exp_gain, alias):
    lidar = Lidar(num_bins=num_bins, max_dist=max_dist, exp_gain=exp_gain, alias=alias)
    rng = np.random.default_rng(num_bins)
    for _ in range(5):
        positions, root = rng.uniform(-2, 2, (7, 3)), np.array([*rng.uniform(-1, 1, 2), 0.1])
        mat = yaw_mat(rng.uniform(0, 2 * np.pi))
        np.testing.assert_allclose(
            read(lidar, positions, root, mat), loop_lidar(lidar, positions, root, mat), atol=5e-6, rtol=0
        )


def test_without_aliasing_one_object_fills_one_bin():
    reading = read(dataclasses.replace(LIDAR, alias=False), [(1, 0)])
    assert np.flatnonzero(reading).tolist() == [15]
    assert reading[15] == pytest.approx(2 / 3)


def test_bins_count_counter_clockwise_from_the_robots_x_axis():
    lidar = dataclasses.replace(LIDAR, alias=False)
    for index in range(16):
        angle = 2 * np.pi * (index + 0.5) / 16
        assert np.flatnonzero(read(lidar, [(np.cos(angle), np.sin(angle))], root_mat=np.eye(3))).tolist() == [index]


@pytest.mark.parametrize("distance, seen", [(2.99, True), (3.0, False), (3.01, False), (100.0, False)])
def test_nothing_is_seen_from_max_dist_on(distance, seen):
    assert np.any(read(LIDAR, [(distance, 0.0)]) > 0) == seen


def test_the_nearest_object_of_a_bin_decides():
    near, both = read(LIDAR, [(1.0, 0.0)]), read(LIDAR, [(2.0, 0.0), (1.0, 0.0)])
    np.testing.assert_array_equal(near, both)


def test_no_objects_read_zeros():
    reading = read(LIDAR, np.zeros((0, 3)))
    assert reading.shape == (16,)
    np.testing.assert_array_equal(reading, 0)


def test_heights_of_objects_are_ignored():
    low, high = read(LIDAR, [(1.0, 0.4, 0.0)]), read(LIDAR, [(1.0, 0.4, 5.0)])
    np.testing.assert_array_equal(low, high)


@pytest.mark.parametrize("y", [0.0, -1e-9, -1e-7, -3e-8, -1e-5, 1e-9])
def test_an_angle_just_below_a_full_turn_stays_within_the_bins(y):
    reading = read(LIDAR, [(1.0, y)], root_mat=np.eye(3))
    expected = np.zeros(16)
    expected[[0, 15]] = 2 / 3  # on the border of both
    if y >= 0:
        expected[1] = reading[1]
    np.testing.assert_allclose(reading, expected, atol=1e-4)
    plain = read(dataclasses.replace(LIDAR, alias=False), [(1.0, y)], root_mat=np.eye(3))
    assert np.flatnonzero(plain).tolist() in ([0], [15])


def test_without_tilt_the_height_of_the_robot_does_not_matter():
    low, high = (read(LIDAR, [(1.0, 0.4)], root_pos=(0, 0, z)) for z in (0.0, 0.5))
    np.testing.assert_array_equal(low, high)


def test_a_tilted_robot_sees_the_floor_shifted_by_its_height():
    tilt = jnp.array([np.cos(0.3), 0.0, np.sin(0.3), 0.0])
    mat = np.asarray(mat_from_quat(tilt)) @ yaw_mat(0.3)
    for height in (0.0, 0.1, 0.5):
        root = np.array([0.2, -0.1, height])
        expected = loop_lidar(LIDAR, [(0.6, 0.5)], root, mat)
        np.testing.assert_allclose(read(LIDAR, [(0.6, 0.5)], root, mat), expected, atol=5e-6)
    assert not np.allclose(
        read(LIDAR, [(0.6, 0.5)], (0.2, -0.1, 0.5), mat), read(LIDAR, [(0.6, 0.5)], (0.2, -0.1, 0), mat)
    )


@pytest.mark.parametrize("settings", [LIDAR, Lidar(max_dist=None)])
def test_readings_lie_between_zero_and_one(key, settings):
    lidar = jax.jit(jax.vmap(lambda positions, pos, mat: pseudo_lidar(settings, positions, pos, mat)))
    scales = 10.0 ** jax.random.uniform(key, (2000, 1, 1), minval=-6, maxval=8)
    positions = scales * jax.random.normal(key, (2000, 5, 3))
    mats = jax.vmap(lambda yaw: mat_from_quat(quat_from_yaw(yaw)))(jax.random.uniform(key, (2000,)) * 7)
    readings = np.asarray(lidar(positions, jnp.zeros((2000, 3)), mats))
    assert np.all((readings >= 0) & (readings <= 1))


def test_an_object_exactly_at_the_robot_reads_one():
    reading = read(LIDAR, [(0.0, 0.0)])
    assert np.all(np.isfinite(reading)) and reading.max() == 1


def test_max_dist_can_be_swept():
    readings = jax.vmap(lambda dist: _ahead(dataclasses.replace(LIDAR, max_dist=dist)))(jnp.array([2.0, 4.0]))
    np.testing.assert_allclose(readings, [0.5, 0.75], rtol=1e-6)


def test_exp_gain_can_be_swept():
    lidar = Lidar(max_dist=None)
    sweep = jax.vmap(lambda gain: _ahead(jax.tree.map(lambda _: gain, lidar)))  # its only leaf
    gains = jnp.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(sweep(gains), np.exp(-gains), rtol=1e-6)


def _ahead(lidar):
    """Reading of an object 1 m ahead."""
    return pseudo_lidar(lidar, jnp.array([[1.0, 0.0]]), jnp.zeros(3), jnp.eye(3))[0]


def test_without_max_dist_readings_never_end():
    near, far = (read(Lidar(max_dist=None), [(x, 0.0)]).max() for x in (1.0, 10.0))
    np.testing.assert_allclose([near, far], np.exp([-1.0, -10.0]), rtol=1e-5)


def test_a_distance_is_divided_by_max_dist_and_not_multiplied_with_its_inverse():
    distances = np.linspace(0.01, 2.99, 500, dtype=np.float32)
    ahead = jax.jit(jax.vmap(lambda x: pseudo_lidar(LIDAR, jnp.array([[x, 0.0]]), jnp.zeros(3), jnp.eye(3))[0]))
    np.testing.assert_array_equal(ahead(distances), (np.float32(3) - distances) / np.float32(3))


# natural


@jax.jit(static_argnames=("columns",))
def natural(lidar, shapes, pos, yaw, root_pos, root_mat, columns=False):
    args = (jnp.asarray(x, jnp.float32) for x in (pos, jax.vmap(quat_from_yaw)(yaw), root_pos, root_mat))
    return natural_lidar(lidar, shapes, *args, columns=columns)


def things_around(rng, num):
    """Places [num, 3] m at heights where the rays pass, and headings [num] rad."""
    angle, distance = rng.uniform(0, 2 * np.pi, num), rng.uniform(0.6, 3.0, num)
    places = np.stack([distance * np.cos(angle), distance * np.sin(angle), rng.uniform(0.05, 0.15, num)], axis=-1)
    return places, rng.uniform(0, 2 * np.pi, num)


def loop_natural(num_bins, scene, group, root_pos, root_mat):
    """The definition, ray by ray, with MuJoCo's rays."""
    model, data = scene
    groups, out = np.eye(6, dtype=np.uint8)[group], np.zeros(num_bins)
    for i in range(num_bins):
        angle = 2 * np.pi * i / num_bins
        way = root_mat @ np.array([np.cos(angle), np.sin(angle), 0.0])
        hit = mujoco.mj_ray(model, data, root_pos, way, groups, True, -1, np.zeros(1, np.int32))
        out[i] = np.exp(-hit) if hit >= 0 else 0.0
    return out


def scene_of(kinds):
    """A model of shapes, places, headings per kind; the kinds are told apart by their geom group."""
    spec = mujoco.MjSpec()
    for group, (shapes, places, headings) in enumerate(kinds):
        for place, yaw in zip(places, headings, strict=True):
            body = spec.worldbody.add_body(pos=place, quat=[np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])
            for shape in shapes:
                add_to(body, shape, group=group)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return model, data


@pytest.mark.parametrize("num_bins", [16, 10, 1])
@pytest.mark.parametrize("tilt", [0.0, 0.05])
def test_natural_equals_rays_of_mujoco_in_a_loop(num_bins, tilt):
    rng = np.random.default_rng(num_bins)
    lidar = dataclasses.replace(NATURAL, num_bins=num_bins)
    seen = 0
    for _ in range(4):
        kinds = [(shapes, *things_around(rng, num)) for shapes, num in ((CUBE, 10), (PILLAR, 4), (PUSH_BOX, 1))]
        scene = scene_of(kinds)
        lean = np.array([np.cos(tilt / 2), np.sin(tilt / 2), 0.0, 0.0])
        root, mat = np.array([*rng.uniform(-0.2, 0.2, 2), 0.1]), yaw_mat(rng.uniform(0, 7)) @ mat_from_quat(lean)
        mat = np.asarray(mat, float)
        for group, (shapes, places, headings) in enumerate(kinds):
            expected = loop_natural(num_bins, scene, group, root, mat)
            reading = natural(lidar, shapes, places, headings, root, mat)
            np.testing.assert_allclose(reading, expected, atol=1e-5, rtol=0)
            seen += np.count_nonzero(expected)
    assert seen >= num_bins


def test_the_first_ray_goes_along_the_robots_x_axis_and_the_rest_counter_clockwise():
    for index in range(16):
        angle = 0.3 + 2 * np.pi * index / 16
        place = np.array([[np.cos(angle), np.sin(angle), 0.1]])
        reading = natural(NATURAL, PILLAR, place, np.zeros(1), ROOT, yaw_mat(0.3))
        assert np.flatnonzero(reading).tolist() == [index]
        np.testing.assert_allclose(reading[index], np.exp(-0.8), rtol=1e-5)


def test_rays_have_no_end_and_share_nothing():
    reading = natural(NATURAL, PILLAR, np.array([[8.2, 0.0, 0.5]]), np.zeros(1), ROOT, np.eye(3))
    np.testing.assert_allclose(reading, np.eye(16)[0] * np.exp(-8.0), rtol=1e-5)


def test_rays_pass_above_a_hazard_and_meet_its_column():
    places = np.array([[1.5, 0.0, 0.02], [0.0, 0.7, 0.02], [0.0, 1.0, 0.02]])
    args = (NATURAL, HAZARD, places, np.zeros(3), ROOT, np.eye(3))
    np.testing.assert_array_equal(natural(*args, columns=False), np.zeros(16))
    seen = natural(*args, columns=True)
    assert np.flatnonzero(seen).tolist() == [0, 4]
    np.testing.assert_allclose(seen[np.array([0, 4])], np.exp([-1.3, -0.5]), rtol=1e-5)


def test_on_a_marker_each_ray_reads_how_far_it_reaches():
    reading = natural(NATURAL, HAZARD, np.array([[0.1, 0.0, 0.02]]), np.zeros(1), ROOT, np.eye(3), columns=True)
    np.testing.assert_allclose(reading[np.array([0, 8])], np.exp([-0.3, -0.1]), rtol=1e-5)
    assert np.all(reading > 0)


def test_natural_without_objects_reads_zeros():
    reading = natural(NATURAL, CUBE, np.zeros((0, 3)), np.zeros(0), ROOT, np.eye(3))
    np.testing.assert_array_equal(reading, np.zeros(16))


def test_natural_is_the_same_for_many_worlds_at_once():
    rng = np.random.default_rng(3)
    worlds = [things_around(rng, 3) for _ in range(5)]
    places, headings = (np.stack(values) for values in zip(*worlds, strict=True))
    args = (PUSH_BOX, places, headings, np.tile(ROOT, (5, 1)), np.stack([yaw_mat(x) for x in rng.uniform(0, 7, 5)]))
    many = jax.vmap(natural, in_axes=(None, None, 0, 0, 0, 0))(NATURAL, *args)
    each = [natural(NATURAL, PUSH_BOX, *(x[i] for x in args[1:])) for i in range(5)]
    np.testing.assert_allclose(many, np.stack(each), atol=1e-6)


# compass and closeness

COMPASS_TABLE = [
    ((1, 0), (0.95438211, -0.29522498)),
    ((0.5, 0.5), (0.88324016, 0.46590168)),
    ((-1.2, 0.7), (-0.67580898, 0.73610064)),
    ((0, -2.9), (-0.29541834, -0.95500718)),
]


@pytest.mark.parametrize("position, expected", COMPASS_TABLE)
@pytest.mark.parametrize("height", [0.0, 0.16, 3.0])
def test_compass_has_the_check_values_of_the_reference(position, expected, height):
    place = jnp.array([*position, height])
    np.testing.assert_allclose(compass(place, jnp.asarray(ROOT), jnp.asarray(yaw_mat(0.3))), expected, atol=1e-6)


@pytest.mark.parametrize("num_components", [2, 3])
def test_compass_is_its_definition_for_any_pose(key, num_components):
    rng = np.random.default_rng(4)
    for _ in range(20):
        place, root = rng.uniform(-2, 2, (2, 3))
        quat = rng.normal(size=4)
        mat = np.asarray(mat_from_quat(jnp.asarray(quat / np.linalg.norm(quat))), float)
        ego = (mat.T @ (place - root))[:num_components]
        args = (jnp.asarray(x, jnp.float32) for x in (place, root, mat))
        np.testing.assert_allclose(
            jax.jit(compass, static_argnums=3)(*args, num_components), ego / (np.linalg.norm(ego) + 0.001), atol=2e-6
        )


def test_compass_at_the_object_itself_is_zero():
    np.testing.assert_array_equal(compass(jnp.ones(3), jnp.ones(3), jnp.eye(3), 3), np.zeros(3))


def test_goal_closeness_falls_with_the_horizontal_distance():
    goals = jnp.array([[0.0, 0.0, 0.16], [3.0, 4.0, 0.16], [3.0, 4.0, 9.0]])
    closeness = jax.vmap(goal_closeness, in_axes=(0, None))(goals, jnp.asarray(ROOT))
    np.testing.assert_allclose(closeness, np.exp([0.0, -5.0, -5.0]), rtol=1e-6)


# settings


@pytest.mark.parametrize(
    "field, value, allowed",
    [
        *(("max_dist", value, "finite number of at least") for value in (0.0, -1.0, math.nan, math.inf, True, "3")),
        *(("exp_gain", value, "finite number of at least 0") for value in (-0.1, math.nan, math.inf, True, "1", None)),
        *(("kind", value, "'pseudo' or 'natural'") for value in ("Pseudo", "real", None, 1, True)),
        *((field, value, "True or False") for field in ("alias", "see_markers") for value in (1, 0, None, "yes")),
    ],
)
def test_a_wrong_option_is_refused_by_name(field, value, allowed):
    with pytest.raises(ValueError) as error:
        Lidar(**{field: value})
    message = str(error.value)
    assert message.startswith(f"Lidar.{field} is {value!r}; it must be ") and allowed in message


def test_max_dist_may_be_none():
    assert Lidar(max_dist=None) == dataclasses.replace(LIDAR, max_dist=None)
    with pytest.raises(ValueError, match="None or a finite number"):
        Lidar(max_dist=0.0)


def test_defaults_are_the_benchmarks():
    options = {name: getattr(LIDAR, name) for name in ("num_bins", "max_dist", "alias", "kind")}
    assert options == {"num_bins": 16, "max_dist": 3.0, "alias": True, "kind": "pseudo"}


def test_exp_gain_is_the_only_leaf():
    leaves = jax.tree_util.tree_leaves_with_path(Lidar(max_dist=None, kind="natural", see_markers=False))
    assert [jax.tree_util.keystr(path) for path, _ in leaves] == [".exp_gain"]
