"""The solids of a world for drawing: the geoms of its model in the pose of a state, and its markers."""

from __future__ import annotations

import dataclasses
import math

import mujoco
import numpy as np

from mjx_safety.core.shapes import GEOMS
from mjx_safety.env.base import AbstractEnv
from mjx_safety.types import State

MAX_GROUP = 2  # geoms of higher groups are helpers; MuJoCo's own viewer hides them too
PRIMITIVES = {
    int(getattr(mujoco.mjtGeom, f"mjGEOM_{name.upper()}")): name
    for name in ("sphere", "capsule", "ellipsoid", "cylinder", "box")
}


@dataclasses.dataclass(frozen=True)
class Solid:
    """A convex body in the world."""

    name: str  # of its body
    rgba: tuple[float, ...]
    geom_type: int  # of `mujoco.mjtGeom`
    size: np.ndarray  # [3] m, as in MuJoCo for the type
    pos: np.ndarray  # [3] m, world frame
    mat: np.ndarray  # [3, 3] own frame to world
    vertices: np.ndarray | None = None  # [V, 3] m, own frame, if its type is not a primitive
    geom: int = -1  # its index in the model; -1 for a marker


def pose(model: mujoco.MjModel, state: State) -> mujoco.MjData:
    """Return the model's data in the pose of a state."""
    data = mujoco.MjData(model)
    data.qpos[:] = np.asarray(state.data.qpos)
    data.mocap_pos[:] = np.asarray(state.data.mocap_pos)
    data.mocap_quat[:] = np.asarray(state.data.mocap_quat)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    return data


def geoms(model: mujoco.MjModel, data: mujoco.MjData) -> list[Solid]:
    """Return all visible geoms without planes, which have no outline."""
    solids = []
    for i in range(model.ngeom):
        rgba, kind = _geom_rgba(model, i), int(model.geom_type[i])
        if rgba[3] == 0 or model.geom_group[i] > MAX_GROUP or kind == mujoco.mjtGeom.mjGEOM_PLANE:
            continue
        name = model.body(model.body_rootid[model.geom_bodyid[i]]).name  # limbs are parts of the robot
        vertices = None if kind in PRIMITIVES else _vertices(model, i)
        mat = data.geom_xmat[i].reshape(3, 3)
        solids.append(Solid(name, rgba, kind, model.geom_size[i], data.geom_xpos[i], mat, vertices, i))
    return solids


def _geom_rgba(model: mujoco.MjModel, geom: int) -> tuple[float, ...]:
    """Colour of a geom: its own, else that of its material."""
    rgba, material = model.geom_rgba[geom], model.geom_matid[geom]
    has_own = not np.allclose(rgba, (0.5, 0.5, 0.5, 1.0))  # MuJoCo's default
    return tuple(float(x) for x in (rgba if has_own or material < 0 else model.mat_rgba[material]))


def _vertices(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Points [V, 3] m that span a geom: a mesh's own, else the corners of its bounding box."""
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        start = model.mesh_vertadr[mesh]
        return model.mesh_vert[start : start + model.mesh_vertnum[mesh]]
    centre, half = model.geom_aabb[geom].reshape(2, 3)
    return centre + half * np.stack(np.meshgrid(*[(-1, 1)] * 3), axis=-1).reshape(-1, 3)


def markers(env: AbstractEnv, state: State) -> list[Solid]:
    """Return the shapes of all kinds without a body in the physics."""
    solids = []
    for name, positions in state.places.markers.items():
        kind = env.objects[name]
        yaws = (0.0,) * kind.num if kind.turned else kind.yaws  # no state holds the heading of a marker
        for i, (position, yaw) in enumerate(zip(np.asarray(positions, float), yaws, strict=True)):
            mat = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
            for shape in kind.shapes:
                size = np.array([*shape.size, 0.0, 0.0][:3], float)
                centre = position + mat @ np.array(shape.pos, float)
                solids.append(Solid(f"{name}{i}", kind.rgba, int(GEOMS[shape.kind]), size, centre, mat))
    return solids
