"""The pseudo lidar against check values of the reference and against its definition in plain loops."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_safety.geometry import mat_from_quat, quat_from_yaw
from mjx_safety.lidar import Lidar, pseudo_lidar

ROOT = np.array([0.0, 0.0, 0.1])
LIDAR = Lidar()


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
@pytest.mark.parametrize("num_bins, max_dist", [(16, 3.0), (10, 6.0), (3, 1.0), (1, 3.0), (2, 3.0)])
def test_equals_the_definition_in_plain_loops(num_bins, max_dist, alias):
    lidar = Lidar(num_bins=num_bins, max_dist=max_dist, alias=alias)
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


def test_readings_lie_between_zero_and_one(key):
    lidar = jax.jit(jax.vmap(lambda positions, pos, mat: pseudo_lidar(LIDAR, positions, pos, mat)))
    scales = 10.0 ** jax.random.uniform(key, (2000, 1, 1), minval=-6, maxval=8)
    positions = scales * jax.random.normal(key, (2000, 5, 3))
    mats = jax.vmap(lambda yaw: mat_from_quat(quat_from_yaw(yaw)))(jax.random.uniform(key, (2000,)) * 7)
    readings = np.asarray(lidar(positions, jnp.zeros((2000, 3)), mats))
    assert np.all((readings >= 0) & (readings <= 1))


def test_an_object_exactly_at_the_robot_reads_one():
    reading = read(LIDAR, [(0.0, 0.0)])
    assert np.all(np.isfinite(reading)) and reading.max() == 1


def test_max_dist_can_be_swept():
    lidars = jax.vmap(
        lambda dist: pseudo_lidar(_with_max_dist(dist), jnp.array([[1.0, 0.0]]), jnp.zeros(3), jnp.eye(3))
    )
    readings = lidars(jnp.array([2.0, 4.0]))
    np.testing.assert_allclose(readings[:, 0], [0.5, 0.75], rtol=1e-6)


def _with_max_dist(value):
    return jax.tree.map(lambda _: value, LIDAR)  # its only leaf
