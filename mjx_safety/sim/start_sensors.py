"""Readings of a robot's sensors at the start of an episode, without compiling a solver.

Two conditions must hold. Keepouts keep the robot from touching any object. All sensors but the magnetometer read the
same in all places and headings. If one does not hold, the engine measures the first state like any other.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjx_safety.core.compiled import KEPT
from mjx_safety.core.geometry import mat_from_quat, quat_from_yaw, to_frame
from mjx_safety.sim.engines.base import EngineScene
from mjx_safety.sim.relevance.bounds import ranged_slides, reach
from mjx_safety.sim.state import PhysicsState
from mjx_safety.world.model_parts import have_affine_forces
from mjx_safety.world.objects import AbstractObject, PushBox

_SENSOR, _GEOM, _TRN, _JOINT = mujoco.mjtSensor, mujoco.mjtGeom, mujoco.mjtTrn, mujoco.mjtJoint
_AT_JOINT = (int(_TRN.mjTRN_JOINT), int(_TRN.mjTRN_JOINTINPARENT))
TRIALS, SPREAD = 8, 3.0  # (1), m: places and headings in which sensors must read the same
SAME = 1e-6  # relative and absolute, of sensors that read the same: the rounding of the solver and of single precision
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
    if not _read_the_same_anywhere(scene):
        return None
    at_origin = _without_contacts(model)
    mujoco.mj_forward(at_origin.model, at_origin)
    sensors = jnp.asarray(at_origin.sensordata, jnp.float32)
    heading = data.qpos[3:7] if _has_free_root(model) else quat_from_yaw(data.qpos[2])
    field = to_frame(jnp.asarray(model.opt.magnetic, jnp.float32), mat_from_quat(heading))
    for index in np.flatnonzero(model.sensor_type == _SENSOR.mjSENS_MAGNETOMETER):
        site = jnp.asarray(at_origin.site_xmat[model.sensor_objid[index]].reshape(3, 3), jnp.float32)
        start = model.sensor_adr[index]
        sensors = sensors.at[start : start + 3].set(to_frame(field, site))
    return sensors


@functools.lru_cache(KEPT)
def _read_the_same_anywhere(scene: EngineScene) -> bool:
    """Whether no sensor but the magnetometer depends on the robot's place and heading.

    One that does reads a root joint, or feels an actuator that pushes along the world's axes or whose force depends on
    a root joint, such as a servo of the heading. C measures all of them in some places. A force that is not affine
    in the place may be zero in every one of them, so it is not trusted.
    """
    model = scene.model
    if np.any(_may_depend_on_place(model) & ~have_affine_forces(model)):
        return False
    data, turns = (
        _without_contacts(model),
        np.repeat(model.sensor_type == _SENSOR.mjSENS_MAGNETOMETER, model.sensor_dim),
    )
    expected = _measure(data, np.zeros(3))[~turns]
    places = np.random.default_rng(0).uniform(-1, 1, (TRIALS, 3)) * (SPREAD, SPREAD, math.pi)
    return all(np.allclose(_measure(data, place)[~turns], expected, SAME, SAME) for place in places)


def _may_depend_on_place(model: mujoco.MjModel) -> np.ndarray:
    """Actuators whose force may depend on the place: all but those of inner joints and of tendons, [A] bool."""
    of_root = np.flatnonzero(model.jnt_bodyid == model.body("robot").id)
    is_inner = np.isin(model.actuator_trntype, _AT_JOINT) & ~np.isin(model.actuator_trnid[:, 0], of_root)
    return ~(is_inner | (model.actuator_trntype == int(_TRN.mjTRN_TENDON)))


def _without_contacts(model: mujoco.MjModel) -> mujoco.MjData:
    """Data of the model in its reference pose, without contacts."""
    model = copy.copy(model)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    return mujoco.MjData(model)


def _measure(data: mujoco.MjData, place: np.ndarray) -> np.ndarray:
    """Sensors [S] of a robot at rest whose root, first in qpos, is at a place (x m, y m, heading rad)."""
    data.qpos[:2] = place[:2]
    if _has_free_root(data.model):
        data.qpos[3:7] = math.cos(place[2] / 2), 0.0, 0.0, math.sin(place[2] / 2)
    else:
        data.qpos[2] = place[2]
    mujoco.mj_forward(data.model, data)
    return data.sensordata.copy()


def _has_free_root(model: mujoco.MjModel) -> bool:
    return model.jnt_type[model.body("robot").jntadr[0]] == mujoco.mjtJoint.mjJNT_FREE


# -- what the robot may touch at reset ---------------------------------------------------------------------------------


@functools.lru_cache(KEPT)
def starts_clear(scene: EngineScene) -> bool:
    """Whether the keepouts of layouts keep the robot from touching any object at reset."""
    if not scene.solid_kinds:
        return True
    robot, radius = scene.robot, _start_radius(scene)
    kinds = [scene.objects[name] for name in scene.solid_kinds]
    return all(robot.keepout + kind.keepout >= radius + _radius(kind) for kind in kinds)


def _radius(kind: AbstractObject) -> float:
    """Largest horizontal distance of an object's surface from its centre, m.

    The corners of a push box are left out, as its own keepout does in the presets. They rarely touch a robot at reset,
    and that costs nothing.
    """
    if isinstance(kind, PushBox):
        return max(abs(shape.pos[0]) + shape.size[0] for shape in kind.shapes)
    return kind.planar_radius


def _start_radius(scene: EngineScene) -> float:
    """Bound on the horizontal distance of the robot's solid geoms from its root at reset, m, for any noise."""
    model, robot = scene.model, scene.robot
    most = np.inf if len(ranged_slides(scene)[0]) else reach(scene)  # noise brings a slide beyond its range
    data, root = mujoco.MjData(model), model.body("robot").id
    if robot.start_joints:
        data.qpos[scene.robot_nq - len(robot.start_joints) : scene.robot_nq] = robot.start_joints
    mujoco.mj_kinematics(model, data)
    own = (model.body_rootid[model.geom_bodyid] == root) & ((model.geom_contype | model.geom_conaffinity) > 0)
    sways = _sways(scene, robot.joint_noise)[model.geom_bodyid]
    outer = [_planar_radius(data, geom, data.xpos[root]) + sways[geom] for geom in np.flatnonzero(own).tolist()]
    return min(max(outer, default=0.0), most)


def _sways(scene: EngineScene, noise: float) -> np.ndarray:
    """Bound on the way of each body of the robot under noise on its inner joints, [nbody] m. noise: rad or m."""
    model, ways = scene.model, np.zeros(scene.model.nbody)
    lever = {  # m, way of a point per unit of noise; four noisy numbers turn a ball joint
        _JOINT.mjJNT_SLIDE: 1.0,
        _JOINT.mjJNT_HINGE: 2 * reach(scene),
        _JOINT.mjJNT_BALL: 5 * 2 * reach(scene),
    }
    root = model.body("robot").id
    if noise:
        for body in np.flatnonzero(model.body_rootid == root):  # parents come before children
            joints = range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body])
            own = 0.0 if body == root else sum(noise * lever[_JOINT(model.jnt_type[joint])] for joint in joints)
            ways[body] = ways[model.body_parentid[body]] + own
    return ways


def _planar_radius(data: mujoco.MjData, geom: int, root: np.ndarray) -> float:
    """Largest horizontal distance of a geom's surface from a place [3] m, in m."""
    model, axes = data.model, data.geom_xmat[geom].reshape(3, 3)
    kind, size, centre = model.geom_type[geom], model.geom_size[geom], data.geom_xpos[geom] - root
    if kind == _GEOM.mjGEOM_BOX:
        corners = centre + (size * np.array(list(itertools.product((-1, 1), repeat=3)))) @ axes.T
        return float(np.linalg.norm(corners[:, :2], axis=-1).max())
    if kind == _GEOM.mjGEOM_CAPSULE:
        ends = centre + np.array([[-1], [1]]) * size[1] * axes[:, 2]
        return float(np.linalg.norm(ends[:, :2], axis=-1).max() + size[0])
    return float(np.linalg.norm(centre[:2]) + model.geom_rbound[geom])
