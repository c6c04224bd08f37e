"""A robot: a model file and a few facts about it. A new robot is one value in one file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import jax
import mujoco
import numpy as np

from mjx_safety.core.settings import freeze, require, require_bools, require_count, require_numbers, settings, static
from mjx_safety.world.placement.table import AbstractPlaced

ASSETS = Path(__file__).parent / "assets"


@settings
class Robot(AbstractPlaced):
    """A robot. Its model has one body named `robot`, actuators with control ranges, and named sensors."""

    name: str
    xml: str  # path of the MJCF model
    root_joint: Literal["planar", "free"]  # planar: slides x and y, then a hinge about z; free: one free joint
    start_height: float = static(default=0.1)  # m, of the root body at reset
    sensors: tuple[str, ...] = ("accelerometer", "velocimeter", "gyro", "magnetometer")  # observed, in this order
    angle_components: bool = True  # observe joint angles as (sin, cos), ball joints as 3x3 matrices; False: unchanged
    touches_floor: bool = True  # False: leave out contacts with the floor (mjx, warp)
    floor_points: int | None = None  # largest number of floor contacts for the solver (mjx); None: all
    self_contacts: tuple[tuple[str, str], ...] = ()  # pairs of its own geoms that collide (mjx; mujoco: all)
    keepout: float = static(default=0.4)  # m
    start_yaw: float | None = None  # rad, None: uniform in [0, 2 pi)

    def check(self) -> None:
        """Refuse wrong values."""
        super().check()
        freeze(self, "sensors", "self_contacts")
        names = isinstance(self.sensors, tuple) and all(isinstance(name, str) for name in self.sensors)
        require(names, self, "sensors", "a tuple of names of sensors")
        require(self.num == 1, self, "num", "1")
        require(isinstance(self.xml, (str, Path)) and Path(self.xml).is_file(), self, "xml", "the path of an MJCF file")
        require(self.root_joint in ("planar", "free"), self, "root_joint", "'planar' or 'free'")
        require_numbers(self, start_height=0.0)
        require_bools(self, "touches_floor", "angle_components")
        if self.floor_points is not None:
            require_count(self, "floor_points", 1)
        pairs = isinstance(self.self_contacts, tuple) and all(map(_is_pair, self.self_contacts))
        require(pairs, self, "self_contacts", "pairs of names of geoms")
        yaw = self.start_yaw
        is_angle = isinstance(yaw, jax.Array) or (isinstance(yaw, (int, float)) and math.isfinite(yaw))
        require(yaw is None or is_angle, self, "start_yaw", "None or an angle in rad")


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(name, str) for name in value)


def check_model(robot: Robot, model: mujoco.MjModel) -> None:
    """Raise ValueError if the robot's model does not match its value."""
    where = f"the model {robot.xml} of robot {robot.name}"
    missing = set(robot.sensors) - {model.sensor(i).name for i in range(model.nsensor)}
    if missing:
        raise ValueError(f"{where} has no sensor named {sorted(missing)[0]!r}")
    joint = mujoco.mjtJoint
    roots = {"planar": [joint.mjJNT_SLIDE, joint.mjJNT_SLIDE, joint.mjJNT_HINGE], "free": [joint.mjJNT_FREE]}
    first, num = model.body("robot").jntadr[0], model.body("robot").jntnum[0]
    if list(model.jnt_type[first : first + num]) != [int(kind) for kind in roots[robot.root_joint]]:
        wanted = {"planar": "two slides and a hinge", "free": "one free joint"}[robot.root_joint]
        raise ValueError(f"{where} has other joints at its body 'robot' than root_joint={robot.root_joint!r}: {wanted}")
    for index in np.flatnonzero(~model.actuator_ctrllimited.astype(bool)):
        raise ValueError(f"{where} has no ctrlrange for its actuator {model.actuator(index).name!r}")
