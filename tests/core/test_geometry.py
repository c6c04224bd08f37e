"""Frames and angles against MuJoCo's own functions."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mjx_safety.core.geometry import (
    from_frame,
    mat_from_quat,
    norm,
    planar_distance,
    quat_from_yaw,
    to_frame,
    yaw_from_quat,
)

N = 50


@pytest.fixture(scope="module")
def quats():
    quats = np.random.default_rng(0).normal(size=(N, 4))
    return quats / np.linalg.norm(quats, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(1).normal(size=(N, 3))


@pytest.fixture(scope="module")
def mats(quats):
    return jax.jit(jax.vmap(mat_from_quat))(jnp.asarray(quats, jnp.float32))


def mujoco_rotate(quats, vectors, inverse=False):
    out, used = np.zeros(3), np.zeros(4)
    rows = []
    for quat, vector in zip(quats, vectors, strict=True):
        used[:] = quat
        if inverse:
            mujoco.mju_negQuat(used, quat)
        mujoco.mju_rotVecQuat(out, vector, used)
        rows.append(out.copy())
    return np.array(rows)


def test_matrices_are_mujocos(quats, mats):
    expected = np.zeros(9)
    for quat, mat in zip(quats, np.asarray(mats), strict=True):
        mujoco.mju_quat2Mat(expected, quat)
        np.testing.assert_allclose(mat.ravel(), expected, atol=1e-6)


def test_from_frame_rotates_as_mujoco_does(quats, mats, vectors):
    rotated = jax.vmap(from_frame)(jnp.asarray(vectors, jnp.float32), mats)
    np.testing.assert_allclose(rotated, mujoco_rotate(quats, vectors), atol=2e-6)


def test_to_frame_rotates_back_as_mujoco_does(quats, mats, vectors):
    rotated = jax.vmap(to_frame)(jnp.asarray(vectors, jnp.float32), mats)
    np.testing.assert_allclose(rotated, mujoco_rotate(quats, vectors, inverse=True), atol=2e-6)


def test_frames_invert_each_other(mats, vectors):
    vectors = jnp.asarray(vectors, jnp.float32)
    np.testing.assert_allclose(jax.vmap(to_frame)(jax.vmap(from_frame)(vectors, mats), mats), vectors, atol=2e-6)


def test_frames_take_any_leading_axes(mats, vectors):
    many = jnp.asarray(vectors, jnp.float32).reshape(5, 10, 3)
    for function in (to_frame, from_frame):
        flat = jnp.stack([function(vector, mats[0]) for vector in many.reshape(-1, 3)])
        np.testing.assert_allclose(function(many, mats[0]).reshape(-1, 3), flat, atol=1e-6)


@pytest.mark.parametrize("yaw", [0.0, 0.3, -2.0, 3.1, 7.0, -100.0])
def test_a_turn_about_the_vertical_is_mujocos(yaw):
    expected = np.zeros(4)
    mujoco.mju_axisAngle2Quat(expected, np.array([0.0, 0.0, 1.0]), yaw)
    np.testing.assert_allclose(quat_from_yaw(jnp.float32(yaw)), expected, atol=4e-6)


def test_yaw_survives_the_way_through_a_quaternion():
    yaw = jnp.linspace(-3.1, 3.1, 100)
    np.testing.assert_allclose(jax.vmap(yaw_from_quat)(quat_from_yaw(yaw)), yaw, atol=1e-6)


def test_yaw_is_the_heading_of_the_rotated_x_axis(quats, mats):
    yaw = jax.vmap(yaw_from_quat)(jnp.asarray(quats, jnp.float32))
    expected = np.arctan2(mats[:, 1, 0], mats[:, 0, 0])
    np.testing.assert_allclose(yaw, expected, atol=1e-5)


def test_opposite_quaternions_are_the_same_frame(quats):
    quat = jnp.asarray(quats[0], jnp.float32)
    np.testing.assert_array_equal(mat_from_quat(quat), mat_from_quat(-quat))
    np.testing.assert_allclose(yaw_from_quat(quat), yaw_from_quat(-quat), rtol=1e-6)


def test_lengths_and_planar_distances_are_numpys(vectors):
    np.testing.assert_allclose(norm(jnp.asarray(vectors)), np.linalg.norm(vectors, axis=-1), rtol=1e-6)
    expected = np.linalg.norm(vectors[:, :2] - vectors[0, :2], axis=-1)
    np.testing.assert_allclose(planar_distance(jnp.asarray(vectors), jnp.asarray(vectors[0])), expected, atol=1e-6)
