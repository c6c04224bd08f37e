"""The state that an engine carries between steps, and its measurements."""

from __future__ import annotations

import jax
from flax import struct

from mjx_safety.types import Dynamics


@struct.dataclass
class PhysicsState:
    """The state that the physics carries between steps. Everything else follows from it. 31 floats for PointGoal1."""

    qpos: jax.Array  # [nq] m, rad, quaternions
    qvel: jax.Array  # [nv] m/s, rad/s
    act: jax.Array  # [na] activations of actuators that have a state
    qacc_warmstart: jax.Array  # [nv] first guess of the constraint solver
    time: jax.Array  # [] s since reset
    ctrl: jax.Array  # [A] last control
    mocap_pos: jax.Array  # [M, 3] m, places of fixed objects and starts of driven objects
    mocap_quat: jax.Array  # [M, 4]
    dynamics: Dynamics | None = None  # factors on the constants of the model; None: the model as it is

    @property
    def mjx_fields(self) -> dict[str, jax.Array]:
        """The fields that `mjx.Data` has too."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "dynamics"}


MOVES = ("qpos", "qvel", "act", "qacc_warmstart", "time")  # fields of `PhysicsState` that a step changes


@struct.dataclass
class Measurements:
    """The measurements of an engine in a state."""

    sensors: jax.Array  # [S] the sensors in the order of the model
    contacts: jax.Array  # [K] float32, contact points between the robot and each solid object
    fields: dict[str, jax.Array] = struct.field(default_factory=dict)  # requested fields of `mjData`, by name
