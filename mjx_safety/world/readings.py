"""The part of a world that tasks, costs, lidar and observation see."""

from __future__ import annotations

import jax
from flax import struct


@struct.dataclass
class Readings:
    """The part of a world that tasks, costs, lidar and observation see. World frame, SI units."""

    root_pos: jax.Array  # [3] m
    root_quat: jax.Array  # [4]
    root_linvel: jax.Array  # [3] m/s, at the root's origin
    root_angvel: jax.Array  # [3] rad/s
    ctrl: jax.Array  # [A] controls of the step, in the units of the actuators; 0 after a reset
    sensors: jax.Array  # [S] the observed sensors, in the robot's order
    pos: dict[str, jax.Array]  # kind -> [N, 3] m
    quat: dict[str, jax.Array]  # kinds that move -> [N, 4]
    linvel: dict[str, jax.Array]  # kinds that move -> [N, 3] m/s
    angvel: dict[str, jax.Array]  # kinds that move -> [N, 3] rad/s
    contacts: dict[str, jax.Array]  # solid kinds -> [N] float32, contact points with the robot
    start_pos: dict[str, jax.Array]  # driven kinds, others on request -> [N, 3] m, at reset
    com: jax.Array | None  # [3] m, the robot's centre of mass, on request
    hidden: dict[str, jax.Array]  # kinds that a task may hide from the lidar -> [] bool
