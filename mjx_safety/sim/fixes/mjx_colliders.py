"""Corrections of MJX's collisions: tilted bodies on a plane, and boxes that meet in few points."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.mjx._src import collision_convex, collision_driver, collision_primitive, math

from mjx_safety.sim.fixes.known import require_known

require_known()
CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)), np.float32)
FIRST = np.tri(8, k=-1, dtype=bool)  # order of two equally low corners
COINCIDENT = 1e-4  # m; nearer contact points count as one, because MJX is not more exact at coincident edges
NORMAL_ONLY = 1e-6  # smallest sine of the tilt at which an axis has a direction along the plane


def plane_capsule(plane: collision_primitive.GeomInfo, capsule: collision_primitive.GeomInfo) -> tuple[jax.Array, ...]:
    """Two contacts between a plane and a capsule: dist [2] m, pos [2, 3] m, frame [2, 3, 3].

    The first tangent is the capsule's axis along the plane, as in C. MJX 3.17 takes a world axis if the capsule is
    steeper than 60 degrees. Pyramidal friction depends on the tangents.
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


def plane_box(plane: collision_primitive.GeomInfo, box: collision_primitive.GeomInfo) -> tuple[jax.Array, ...]:
    """Four contacts between a plane and a box, at its lowest corners: dist [4] m, pos [4, 3] m, frame [4, 3, 3].

    As in C, each corner below the plane counts. MJX 3.17 takes only corners within 1 mm of the lowest one. A box that
    lands on an edge then meets the floor with one end of it.
    """
    normal = plane.mat[:, 2]
    corners = box.pos + (CORNERS * box.size) @ box.mat.T  # [8, 3]
    dist = (corners - plane.pos) @ normal
    is_lower = (dist < dist[:, None]) | ((dist == dist[:, None]) & FIRST)  # comparisons fuse, a sort would not
    lowest = jnp.sum(is_lower, axis=-1) == jnp.arange(4)[:, None]  # [4, 8]
    dist = jnp.sum(jnp.where(lowest, dist, 0.0), axis=-1)
    pos = jnp.sum(jnp.where(lowest[..., None], corners, 0.0), axis=1) - 0.5 * dist[:, None] * normal
    return dist, pos, jnp.broadcast_to(math.make_frame(normal), (4, 3, 3))


def plane_cylinder(
    plane: collision_primitive.GeomInfo, cylinder: collision_primitive.GeomInfo
) -> tuple[jax.Array, ...]:
    """Three contacts between a plane and a cylinder: dist [3] m, pos [3, 3] m, frame [3, 3, 3].

    They are those of C. The first is the lowest point of the lower rim. The second is the lowest point of the upper
    rim, or the point of the lower rim at 120 degrees if that is lower. The third is the point at 240 degrees. MJX 3.17
    drops the upper rim if the ends of the axis differ in height by more than 2 mm. A wheel on both rims then rests on
    one. If a cylinder is so deep in the plane that all four points touch, C has all four.
    """
    normal, axis = plane.mat[:, 2], cylinder.mat[:, 2]
    axis = jnp.where(jnp.dot(axis, normal) > 0.0, -axis, axis)
    steepest = axis * jnp.dot(axis, normal) - normal
    length = jnp.sqrt(jnp.sum(steepest * steepest))
    radial = jnp.where(length > NORMAL_ONLY, steepest / jnp.maximum(length, NORMAL_ONLY), cylinder.mat[:, 0])
    radial, across = cylinder.size[0] * radial, cylinder.size[0] * np.float32(np.sqrt(0.75)) * jnp.cross(radial, axis)
    lower, upper = cylinder.pos + axis * cylinder.size[1], cylinder.pos - axis * cylinder.size[1]
    on_upper, beside = upper + radial, lower - 0.5 * radial + across
    second = jnp.where(jnp.dot(on_upper - beside, normal) < 0.0, on_upper, beside)
    pos = jnp.stack([lower + radial, second, lower - 0.5 * radial - across])
    dist = (pos - plane.pos) @ normal
    pos = pos - 0.5 * dist[:, None] * normal
    return dist, pos, jnp.broadcast_to(math.make_frame(normal), (3, 3, 3))


def box_box(first: collision_convex.ConvexInfo, second: collision_convex.ConvexInfo) -> tuple[jax.Array, ...]:
    """Up to four contacts between two boxes: dist [4] m, 1 for absent ones, pos [4, 3] m, frame [4, 3, 3].

    As in C, a point counts once and lies halfway between the two surfaces. MJX 3.17 repeats points if two faces share
    fewer than four. Each copy adds stiffness and counts as a contact. It also leaves the points on one surface.
    """
    dist, pos, normals = collision_convex._box_box(first, second)
    normal = normals[0]  # from the first to the second, the same for all
    apart = jnp.sum((pos[:, None] - pos) ** 2, axis=-1)
    is_before = (dist < dist[:, None]) | ((dist == dist[:, None]) & FIRST[:4, :4])
    is_copy = jnp.any((apart < COINCIDENT**2) & is_before, axis=-1)
    end = jnp.max((first.pos + first.vert @ first.mat.T) @ normal)
    start = jnp.min((second.pos + second.vert @ second.mat.T) @ normal)
    along = pos @ normal
    inwards = jnp.where(jnp.abs(along - end) < jnp.abs(along - start), 0.5, -0.5)  # from the surface of the point
    pos = pos + (inwards * dist)[:, None] * normal
    return jnp.where(is_copy, 1.0, dist), pos, jnp.broadcast_to(math.make_frame(normal), (4, 3, 3))


_PLANE = mujoco.mjtGeom.mjGEOM_PLANE
_BOX = mujoco.mjtGeom.mjGEOM_BOX
_CORRECTED = {  # the same functions for all pairs of a model
    (_PLANE, mujoco.mjtGeom.mjGEOM_CAPSULE): collision_primitive.collider(ncon=2)(plane_capsule),
    (_PLANE, mujoco.mjtGeom.mjGEOM_CYLINDER): collision_primitive.collider(ncon=3)(plane_cylinder),
    (_PLANE, _BOX): collision_primitive.collider(ncon=4)(plane_box),
    (_BOX, _BOX): collision_convex.collider(ncon=4)(box_box),
}


@contextlib.contextmanager
def corrected() -> Iterator[None]:
    """Use the corrected colliders only while MJX is traced."""
    table = collision_driver._COLLISION_FUNC
    original = dict(table)
    table.update({key: _CORRECTED.get(key, function) for key, function in original.items()})
    try:
        yield
    finally:
        table.update(original)
