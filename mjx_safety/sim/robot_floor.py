"""Finds robots that lie in the floor, or that their joints can press on it."""

from __future__ import annotations

import mujoco
import numpy as np

from mjx_safety.world.model_parts import SUNK
from mjx_safety.world.robots.base import Robot

_JOINT = mujoco.mjtJoint
PRESSED = 1e-6  # m; a shape that lies deeper in the floor touches it
FLOOR_TRIALS = 100  # random positions of a robot's inner joints
FAR = 10.0  # m, tried for a slide without a range


def wrong_on_floor(robot: Robot, spec: mujoco.MjSpec) -> str | None:
    """Say whether a robot starts deep in the floor, or with `touches_floor=False` can reach it. None: neither."""
    spec = spec.copy()
    floor = spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3.5, 3.5, 0.1], contype=1, conaffinity=1)
    data = mujoco.MjData(spec.compile())

    def depth() -> float:
        mujoco.mj_fwdPosition(data.model, data)
        return max((-contact.dist for contact in data.contact if floor.id in contact.geom), default=0.0)

    _take_start(robot, data)
    deep = depth()
    if robot.touches_floor:
        return f"starts {deep:.2g} m in the floor: raise start_height" if deep > SUNK else None
    if deep > PRESSED:
        return f"lies {deep:g} m in the floor, but touches_floor is False"
    joints, rng = _inner_joints(data.model), np.random.default_rng(0)
    for _ in range(FLOOR_TRIALS if joints else 0):
        for joint in joints:
            _turn(data, joint, rng)
        if (deep := depth()) > PRESSED:
            return f"has joints that can bring it {deep:.2g} m into the floor, but touches_floor is False"
    return None


def _turn(data: mujoco.MjData, joint: int, rng: np.random.Generator) -> None:
    """Put an inner joint somewhere in its range. A slide gets to one of its ends, where it is lowest."""
    model, start = data.model, data.model.jnt_qposadr[joint]
    limits = model.jnt_range[joint] if model.jnt_limited[joint] else None
    if model.jnt_type[joint] == _JOINT.mjJNT_SLIDE:
        data.qpos[start] = rng.choice([-FAR, FAR] if limits is None else limits)
    elif model.jnt_type[joint] == _JOINT.mjJNT_HINGE:
        low, high = (-np.pi, np.pi) if limits is None else limits
        data.qpos[start] = rng.uniform(low, high)
    else:
        axis, angle = rng.normal(size=3), rng.uniform(0, np.pi if limits is None else limits[1])
        mujoco.mju_axisAngle2Quat(data.qpos[start : start + 4], axis / np.linalg.norm(axis), angle)


def _take_start(robot: Robot, data: mujoco.MjData) -> None:
    """Put a robot in the pose of a reset, at the origin and without noise."""
    if robot.root_joint == "free":
        data.qpos[2] = robot.start_height
    if robot.start_joints:
        data.qpos[-len(robot.start_joints) :] = robot.start_joints


def _inner_joints(model: mujoco.MjModel) -> list[int]:
    """Joints beyond the robot's root."""
    return np.flatnonzero(model.jnt_bodyid != model.body("robot").id).tolist()
