"""What an engine carries from step to step, and what it measures."""

from __future__ import annotations

import jax
from flax import struct


@struct.dataclass
class PhysicsState:
    """What the physics carries from step to step; everything else follows from it. 26 floats for Goal1."""

    qpos: jax.Array  # [nq] m, rad, quaternions
    qvel: jax.Array  # [nv] m/s, rad/s
    qacc_warmstart: jax.Array  # [nv] first guess of the constraint solver
    time: jax.Array  # [] s since reset
    ctrl: jax.Array  # [A] last control
    mocap_pos: jax.Array  # [M, 3] m, where fixed things stand and driven things started
    mocap_quat: jax.Array  # [M, 4]


@struct.dataclass
class PhysicsReading:
    """What an engine measures in a state."""

    sensors: jax.Array  # [S] the sensors in the order of the model
    contacts: jax.Array  # [K] float32, contact points between the robot and each solid object
