"""Correction of Warp's collision of a capsule with a plane."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false
# A kernel has the types of Warp's compiler, not of Python.

from __future__ import annotations

import warp as wp
from mujoco.mjx.third_party.mujoco_warp._src import collision_primitive
from mujoco.mjx.third_party.mujoco_warp._src.collision_primitive_core import mat23f, plane_sphere

from mjx_safety.sim.fixes.known import require_known

require_known()

NORMAL_ONLY = wp.constant(1e-6)  # smallest horizontal part of an axis at which a capsule has a direction on the plane


@wp.func
def plane_capsule(
    normal: wp.vec3, plane_pos: wp.vec3, pos: wp.vec3, axis: wp.vec3, radius: float, half_length: float
) -> tuple[wp.vec2, mat23f, wp.mat33]:
    """Two contacts between a plane and a capsule: dist [2] m, pos [2, 3] m, their frame [3, 3].

    The first tangent is the capsule's axis along the plane, as in C. Warp's own function, like MJX's, takes a world
    axis if the capsule is steeper than 60 degrees. Pyramidal friction depends on the tangents.
    """
    along = axis - normal * wp.dot(normal, axis)
    length = wp.length(along)
    tangent = along / wp.max(length, NORMAL_ONLY)
    if length < NORMAL_ONLY:
        tangent = wp.where(wp.abs(normal[1]) < 0.5, wp.vec3(0.0, 1.0, 0.0), wp.vec3(0.0, 0.0, 1.0))
    other = wp.cross(normal, tangent)
    frame = wp.matrix_from_rows(normal, tangent, other)
    reach = axis * half_length
    dist1, pos1 = plane_sphere(normal, plane_pos, pos + reach, radius)
    dist2, pos2 = plane_sphere(normal, plane_pos, pos - reach, radius)
    return wp.vec2(dist1, dist2), wp.matrix_from_rows(pos1, pos2), frame


def correct_colliders() -> None:
    """Use the corrected function in all kernels that Warp builds later in this process."""
    collision_primitive.plane_capsule = plane_capsule
