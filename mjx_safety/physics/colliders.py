"""A correction of MJX's collisions: the tangents of an upright capsule on a plane."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax.numpy as jnp
import mujoco
from mujoco.mjx._src import collision_driver, collision_primitive

NORMAL_ONLY = 1e-6  # horizontal part of an axis from which on a capsule has a direction on the plane


def plane_capsule(plane: collision_primitive.GeomInfo, capsule: collision_primitive.GeomInfo) -> tuple:
    """Two contacts between a plane and a capsule: dist [2] m, pos [2, 3] m, frame [2, 3, 3].

    The first tangent is the capsule's axis along the plane, as in C. MJX 3.17 takes a world axis instead as soon as the
    capsule is steeper than 60 degrees, and pyramidal friction depends on the tangents.
    """
    normal, axis = plane.mat[:, 2], capsule.mat[:, 2]
    along = axis - normal * jnp.dot(normal, axis)
    length = jnp.sqrt(jnp.sum(along * along))
    across = jnp.where(jnp.abs(normal[1]) < 0.5, jnp.array([0.0, 1.0, 0.0]), jnp.array([0.0, 0.0, 1.0]))
    tangent = jnp.where(length > NORMAL_ONLY, along / jnp.maximum(length, NORMAL_ONLY), across)
    frame = jnp.stack([normal, tangent, jnp.cross(normal, tangent)])
    ends = capsule.pos + jnp.array([[1.0], [-1.0]]) * axis * capsule.size[1]  # [2, 3]
    centre_dist = jnp.sum((ends - plane.pos) * normal, axis=-1)
    dist = centre_dist - capsule.size[0]
    pos = ends - normal * (capsule.size[0] + 0.5 * dist)[:, None]
    return dist, pos, jnp.stack([frame, frame])


_COLLIDER = collision_primitive.collider(ncon=2)(plane_capsule)  # the same for all pairs of a model


@contextlib.contextmanager
def corrected() -> Iterator[None]:
    """Use the corrected collider while MJX is being traced, and no longer."""
    table = collision_driver._COLLISION_FUNC
    key = next(k for k in table if k == (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_CAPSULE))
    original = table[key]
    table[key] = _COLLIDER
    try:
        yield
    finally:
        table[key] = original
