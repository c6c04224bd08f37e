"""A robot: a model file and a few facts about it. A new robot is one value in one file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from mjx_safety.core.settings import (
    freeze,
    is_at_least,
    is_finite_number,
    require,
    require_at_least,
    require_bools,
    require_count,
    settings,
    static,
)
from mjx_safety.world.placement.table import AbstractPlaced

ASSETS = Path(__file__).parent / "assets"


@settings
class Robot(AbstractPlaced):
    """A robot. Its model holds one body named `robot`, actuators with control ranges, and named sensors.

    Actions in [-1, 1] are scaled to the control ranges. `sim.robot_file` lists the parts that a model must not have.
    """

    name: str
    """Name of the robot."""
    xml: str
    """Path of the MJCF model."""
    root_joint: Literal["planar", "free"]
    """planar: slides x and y, then a hinge about z; free: one free joint."""
    start_height: float = static(default=0.1)
    """Height of the root body at reset, in m."""
    start_joints: tuple[float, ...] = ()
    """Coordinates of the inner joints at reset, in model order: rad, m, quaternions; (): as in the model."""
    joint_noise: float = static(default=0.0)
    """Half width of the uniform noise on these coordinates, in rad or m. Quaternions are then normalised."""
    lowest: float | None = None
    """The episode terminates with the root at this height or below, in m; None: never."""
    sensors: tuple[str, ...] = ("accelerometer", "velocimeter", "gyro", "magnetometer")
    """Sensors in the observation, in this order."""
    angle_components: bool = True
    """Observe angles of hinges as (sin, cos), quaternions of sensors as 3x3 matrices; False: unchanged."""
    heights: tuple[str, ...] = ()
    """Position sensors among `sensors` that are observed as the height only."""
    touches_floor: bool = True
    """False: leave out contacts with the floor (mjx, warp)."""
    floor_points: int | None = None
    """Largest number of floor contacts for the solver (mjx); None: all."""
    self_contacts: tuple[tuple[str, str], ...] = ()
    """Pairs of its own geoms that collide (mjx; mujoco: all)."""
    keepout: float = static(default=0.4)
    """Radius of the keepout circle, in m."""
    asset_folder: str | None = None
    """Folder that holds all files that the model asks for, such as meshes; None: the folder of the model."""
    start_yaw: float | None = None
    """Heading at reset, in rad; None: uniform in [0, 2 pi)."""

    def check(self) -> None:
        """Refuse wrong values."""
        super().check()
        freeze(self, "sensors", "self_contacts", "heights", "start_joints")
        require(isinstance(self.name, str) and self.name != "", self, "name", "a name")
        are_names = isinstance(self.sensors, tuple) and all(isinstance(name, str) and name for name in self.sensors)
        require(are_names, self, "sensors", "a tuple of names of sensors")
        require(len(set(self.sensors)) == len(self.sensors), self, "sensors", "a tuple of names, each only once")
        are_sensors = isinstance(self.heights, tuple) and all(name in self.sensors for name in self.heights)
        require(are_sensors, self, "heights", "a tuple of names among `sensors`")
        folder = self.asset_folder
        is_folder = folder is None or (isinstance(folder, (str, Path)) and folder != "" and Path(folder).is_dir())
        require(is_folder, self, "asset_folder", "the path of a folder, or None")
        joints = self.start_joints
        is_pose = isinstance(joints, tuple) and all(map(is_finite_number, joints))
        require(is_pose, self, "start_joints", "a tuple of finite numbers")
        require(self.num == 1, self, "num", "1")
        require(isinstance(self.xml, (str, Path)) and Path(self.xml).is_file(), self, "xml", "the path of an MJCF file")
        require(self.root_joint in ("planar", "free"), self, "root_joint", "'planar' or 'free'")
        require_at_least(self, start_height=0.0, joint_noise=0.0)
        if self.lowest is not None:
            require_at_least(self, lowest=-math.inf)
            below = f"below start_height, which is {self.start_height:g} m"
            require(_is_below(self.lowest, self.start_height), self, "lowest", below)
        require_bools(self, "touches_floor", "angle_components")
        if self.floor_points is not None:
            require_count(self, "floor_points", 1)
        are_pairs = isinstance(self.self_contacts, tuple) and all(map(_is_pair, self.self_contacts))
        require(are_pairs, self, "self_contacts", "pairs of names of geoms")
        yaw = self.start_yaw
        require(yaw is None or is_at_least(yaw, -math.inf), self, "start_yaw", "None or an angle in rad")


def _is_below(value: Any, bound: float) -> bool:
    """Return whether a number, or each of an array that sweeps it, is below the bound. Traced ones are not known."""
    return isinstance(value, jax.core.Tracer) or bool(np.all(np.asarray(value) < bound))


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(name, str) for name in value)
