"""Readings of a robot's sensors at the start of an episode, without compiling a solver."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjx_safety.core.geometry import mat_from_quat, quat_from_yaw, to_frame
from mjx_safety.sim.engines.base import EngineScene
from mjx_safety.sim.state import PhysicsState

_SENSOR = mujoco.mjtSensor
SAME_ANYWHERE = {  # sensors in the robot's own frame
    *(_SENSOR.mjSENS_ACCELEROMETER, _SENSOR.mjSENS_VELOCIMETER, _SENSOR.mjSENS_GYRO, _SENSOR.mjSENS_TOUCH),
    *(_SENSOR.mjSENS_JOINTPOS, _SENSOR.mjSENS_JOINTVEL, _SENSOR.mjSENS_BALLQUAT, _SENSOR.mjSENS_BALLANGVEL),
    _SENSOR.mjSENS_CONTACT,  # there are no contacts
}


def read_at_rest(scene: EngineScene, data: PhysicsState) -> jax.Array | None:
    """Sensors [S] of a robot at rest without contacts. None if they depend on more than the heading.

    C measures them once. The heading then turns the magnetometer.
    """
    model = scene.model
    kinds = {int(kind) for kind in model.sensor_type}
    if not scene.starts_alike or not kinds <= {int(kind) for kind in SAME_ANYWHERE | {_SENSOR.mjSENS_MAGNETOMETER}}:
        return None
    at_origin = _measure_at_origin(model)
    sensors = jnp.asarray(at_origin.sensordata, jnp.float32)
    is_free = model.jnt_type[model.body("robot").jntadr[0]] == mujoco.mjtJoint.mjJNT_FREE
    heading = data.qpos[3:7] if is_free else quat_from_yaw(data.qpos[2])
    field = to_frame(jnp.asarray(model.opt.magnetic, jnp.float32), mat_from_quat(heading))
    for index in np.flatnonzero(model.sensor_type == _SENSOR.mjSENS_MAGNETOMETER):
        site = jnp.asarray(at_origin.site_xmat[model.sensor_objid[index]].reshape(3, 3), jnp.float32)
        start = model.sensor_adr[index]
        sensors = sensors.at[start : start + 3].set(to_frame(field, site))
    return sensors


def _measure_at_origin(model: mujoco.MjModel) -> mujoco.MjData:
    """Data of the model in its reference position, without contacts."""
    model = copy.copy(model)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return data
