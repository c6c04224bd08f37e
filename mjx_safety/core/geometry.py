"""Frames and angles. Quaternions are (w, x, y, z); `_w` is the world frame, `_r` the robot's."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mjx_safety.core.reductions import add


def quat_from_yaw(yaw: jax.Array) -> jax.Array:
    """Quaternion [4] of a turn by `yaw` [] rad about the vertical."""
    zero = jnp.zeros_like(yaw)
    return jnp.stack([jnp.cos(yaw / 2), zero, zero, jnp.sin(yaw / 2)], axis=-1)


def yaw_from_quat(quat: jax.Array) -> jax.Array:
    """Heading [] rad of the rotated x axis, in (-pi, pi]. quat: [4]."""
    w, x, y, z = quat
    return jnp.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def mat_from_quat(quat: jax.Array) -> jax.Array:
    """Rotation matrix [3, 3], body to world, of a unit quaternion [4]."""
    w, x, y, z = quat
    return jnp.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def to_frame(vector_w: jax.Array, mat: jax.Array) -> jax.Array:
    """World vectors [..., 3] in the frame whose body-to-world matrix is `mat` [3, 3]."""
    return add(vector_w[..., i, None] * mat[i] for i in range(3))  # no matmul: exact float32 on every device


def from_frame(vector_r: jax.Array, mat: jax.Array) -> jax.Array:
    """Vectors [..., 3] of the frame `mat` [3, 3] in the world frame."""
    return add(vector_r[..., i, None] * mat[:, i] for i in range(3))


def norm(vector: jax.Array) -> jax.Array:
    """Euclidean length over the last axis."""
    return jnp.sqrt(add(vector[..., i] ** 2 for i in range(vector.shape[-1])))


def planar_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Horizontal distance, m. a, b: [..., 2 or 3] m."""
    return norm(a[..., :2] - b[..., :2])
