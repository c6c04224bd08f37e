"""A robot without objects, as a scene for the engines: its model, and the quantities to measure.

The model is the robot's own file. `mjx` and `warp` have no PGS solver. A model with PGS (Humanoid) gets Newton's method
there, which converges. There is nothing to leave out, so a lone robot is the same at every accuracy of `make`.
"""

from __future__ import annotations

import dataclasses
import weakref
from pathlib import Path
from typing import Any

import mujoco

from mjx_safety.sim.model import COM, FLAGS, LS_ITERATIONS, Engine, digest
from mjx_safety.sim.robot_file import one_line
from mjx_safety.sim.robot_frame import wrong_frame
from mjx_safety.sim.robot_paths import path_outside
from mjx_safety.sim.state import PhysicsState
from mjx_safety.world.locomotion.config import LocomotionConfig
from mjx_safety.world.locomotion.model_checks import check_model, describe
from mjx_safety.world.model_parts import MEMORY_LIMITS

STATE = ("qpos", "qvel")  # entries of an observation that every state holds
FORCES = "forces"  # sensor that makes the engines compute the forces between bodies


@dataclasses.dataclass(frozen=True, eq=False)
class LoneRobot:
    """A robot without objects, as a scene for the engines. `engines.base.EngineScene` explains the members."""

    model: mujoco.MjModel
    fields: tuple[str, ...] = ()  # of `mjData` to measure
    name: str = ""  # of the robot, for messages

    moving_kinds: tuple[str, ...] = ()
    driven_kinds: tuple[str, ...] = ()
    mocap_kinds: tuple[str, ...] = ()
    solid_kinds: tuple[str, ...] = ()
    solid_bodies: tuple[str, ...] = ()
    starts_alike: bool = False
    objects: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def robot(self) -> LoneRobot:
        """The robot is the whole scene."""
        return self

    @property
    def robot_nq(self) -> int:
        """All coordinates are the robot's."""
        return self.model.nq

    @property
    def robot_nv(self) -> int:
        """All velocities are the robot's."""
        return self.model.nv

    @property
    def true_model(self) -> mujoco.MjModel:
        """The model with the true shapes, for drawing."""
        return self.model

    def travel(self, name: str) -> float:
        """Radius of the circle that a driven kind follows: none."""
        raise KeyError(name)

    def split(self, kinds: tuple[str, ...], rows: Any) -> dict[str, Any]:
        """Cut an array into the kinds of objects."""
        return {}

    def mocap_pos(self, data: PhysicsState, time: Any) -> Any:
        """Positions of mocap bodies: none."""
        return data.mocap_pos

    def last_mocap_pos(self, data: PhysicsState, time: Any) -> Any:
        """Positions of mocap bodies: none."""
        return data.mocap_pos


def build_lone_robot(config: LocomotionConfig, *, engine: Engine) -> LoneRobot:
    """Compile the model of an engine (see above)."""
    spec = _read(config)
    spec.option.disableflags |= FLAGS[engine]
    for sensor in list(spec.sensors):  # they play no part, and MJX lacks some
        spec.delete(sensor)
    for name, kind in _needed_sensors(config).items():
        spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_BODY, objname="robot")
    if engine != "mujoco" and spec.option.solver == mujoco.mjtSolver.mjSOL_PGS:
        spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    if engine == "mujoco":  # one robot is one island: looking for others is wasted
        spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    if engine == "mjx":
        spec.option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
        spec.option.ls_iterations = LS_ITERATIONS
    model = spec.compile()
    fields = tuple(name for name in config.entries if name not in STATE)
    found = LoneRobot(model=model, fields=fields, name=config.name)
    return _SCENES.setdefault((digest(model), fields, config.name), found)


_SCENES: weakref.WeakValueDictionary[tuple, LoneRobot] = weakref.WeakValueDictionary()  # equal ones are one object


def _read(config: LocomotionConfig) -> mujoco.MjSpec:
    """Read and check a robot's file."""
    where, xml = describe(config), Path(config.xml)
    stray = path_outside(xml, xml.parent)
    if stray is not None:
        raise ValueError(f"{where} asks for {stray!r}, which is outside of its folder")
    try:
        spec = mujoco.MjSpec.from_file(str(xml))
        for size in MEMORY_LIMITS:
            setattr(spec, size, -1)
        model = spec.compile()
    except (ValueError, mujoco.FatalError) as error:
        raise ValueError(f"{where} cannot be read: {one_line(error)}") from error
    problem = wrong_frame(spec)
    if problem is not None:
        raise ValueError(f"{where} {problem}")
    check_model(config, model)
    own = {model.sensor(index).name for index in range(model.nsensor)}
    taken = next((name for name in _needed_sensors(config) if name in own), None)
    if taken is not None:
        raise ValueError(f"{where} has a sensor named {taken!r}, which this environment adds: rename it")
    return spec


def _needed_sensors(config: LocomotionConfig) -> dict[str, mujoco.mjtSensor]:
    """Sensors of the body `robot` that the environment adds: name -> type."""
    sensors = {COM: mujoco.mjtSensor.mjSENS_SUBTREECOM} if config.point == "com" else {}
    return sensors | ({FORCES: mujoco.mjtSensor.mjSENS_FRAMELINACC} if "cfrc_ext" in config.entries else {})
