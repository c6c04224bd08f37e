"""Maps between a model's coordinates and the world's."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjx_safety.core.geometry import from_frame, mat_from_quat, quat_from_yaw, to_frame, yaw_from_quat
from mjx_safety.sim.gremlins import target_offset, undisturbed_offset, uses_rk4
from mjx_safety.sim.model import COM, Accuracy, Engine, build_model, digest
from mjx_safety.sim.state import Measurements, PhysicsState
from mjx_safety.types import Places, Snapshot
from mjx_safety.world.objects import AbstractObject, Gremlins
from mjx_safety.world.readings import Readings
from mjx_safety.world.robots.base import Robot


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """One robot among objects: the model, and the place of each body in its vectors."""

    robot: Robot
    objects: Mapping[str, AbstractObject]  # name of the kind -> kind, in the order of observation
    model: mujoco.MjModel
    fields: tuple[str, ...] = ()  # of `mjData` to measure: none, since sensors suffice
    has_com: bool = False  # whether the model has the sensor COM, and not only one of the robot with its name

    @functools.cached_property
    def true_model(self) -> mujoco.MjModel:
        """The model with the true shapes, for drawing. It has the same coordinates on every engine."""
        return build_model(self.robot, self.objects, engine="mujoco")

    def _kinds(self, *body_kinds: str) -> tuple[str, ...]:
        return tuple(name for name, kind in self.objects.items() if kind.body_kind in body_kinds and kind.num)

    @property
    def moving_kinds(self) -> tuple[str, ...]:
        """Kinds with coordinates in qpos, in that order."""
        return self._kinds("free", "driven")

    @property
    def driven_kinds(self) -> tuple[str, ...]:
        """Kinds that circle their places."""
        return self._kinds("driven")

    @property
    def mocap_kinds(self) -> tuple[str, ...]:
        """Kinds with a pose in mocap_pos and mocap_quat, in that order."""
        return self._kinds("fixed", "driven")

    @property
    def solid_kinds(self) -> tuple[str, ...]:
        """Kinds that the robot can touch, in the order of `Measurements.contacts`."""
        return self._kinds("fixed", "free", "driven")

    @property
    def solid_bodies(self) -> list[str]:
        """Names of the bodies behind `Measurements.contacts`."""
        return [f"{name}{index}" for name in self.solid_kinds for index in range(self.objects[name].num)]

    @property
    def robot_nq(self) -> int:
        """Coordinates of the robot in qpos, its root included."""
        return self.model.nq - 7 * self._count(self.moving_kinds)

    @property
    def robot_nv(self) -> int:
        """Coordinates of the robot in qvel, its root included."""
        return self.model.nv - 6 * self._count(self.moving_kinds)

    @property
    def root_sizes(self) -> tuple[int, int]:
        """Coordinates of the robot's root in qpos and qvel."""
        return (3, 3) if self.robot.root_joint == "planar" else (7, 6)

    @property
    def joint_quaternions(self) -> tuple[int, ...]:
        """Where the quaternion of each ball joint begins in `Snapshot.joint_qpos`."""
        first = self.root_sizes[0]
        return tuple(start - first for start in quaternion_starts(self.model) if first <= start < self.robot_nq)

    def _count(self, kinds: tuple[str, ...]) -> int:
        return sum(self.objects[name].num for name in kinds)

    def split(self, kinds: tuple[str, ...], rows: Any) -> dict[str, Any]:
        """Cut an array [sum of N, ...] into its kinds."""
        parts, start = {}, 0
        for name in kinds:
            parts[name] = rows[start : start + self.objects[name].num]
            start += self.objects[name].num
        return parts

    # -- sensors -----------------------------------------------------------------------------------------------------

    def sensor_sizes(self) -> dict[str, int]:
        """Entries of each observed sensor, after angles are split into components."""
        return {name: _ENTRIES.get(self._treatment(name), self._dim(name)) for name in self.robot.sensors}

    def sense(self, sensordata: jax.Array) -> jax.Array:
        """Observed sensors [S] in the robot's order. sensordata: the model's vector."""
        parts = [jnp.zeros(0)]
        for treatment, names in itertools.groupby(self.robot.sensors, self._treatment):
            names = list(names)
            starts = [int(self.model.sensor(name).adr[0]) for name in names]
            index = np.concatenate([np.arange(s, s + self._dim(n)) for s, n in zip(starts, names, strict=True)])
            values = sensordata[index]
            if treatment == "angle":
                values = jnp.stack([jnp.sin(values), jnp.cos(values)], axis=-1).ravel()
            elif treatment == "quaternion":
                values = jax.vmap(mat_from_quat)(values.reshape(-1, 4)).ravel()
            elif treatment == "height":
                values = values.reshape(-1, 3)[:, 2]
            parts.append(values)
        return jnp.concatenate(parts)

    def _treatment(self, sensor: str) -> str:
        """Return how a sensor is observed, one of `_ENTRIES`; empty: as it is."""
        if sensor in self.robot.heights:
            return "height"
        if not self.robot.angle_components:
            return ""
        kind, part = int(self.model.sensor(sensor).type[0]), int(self.model.sensor(sensor).objid[0])
        is_length = kind == _POSITION and self.model.jnt_type[part] == mujoco.mjtJoint.mjJNT_SLIDE
        return "" if is_length else _TREATMENTS.get(kind, "")

    def _dim(self, sensor: str) -> int:
        return int(self.model.sensor(sensor).dim[0])

    # -- world to physics ---------------------------------------------------------------------------------------------

    def default_snapshot(
        self,
        root_xy: jax.Array,
        root_yaw: jax.Array,
        xy: dict[str, jax.Array],
        yaw: dict[str, jax.Array],
        joint_key: jax.Array,
    ) -> Snapshot:
        """All bodies at rest. root_xy: [2] m; root_yaw: [] rad; xy: kind -> [N, 2] m; yaw: kind -> [N] rad."""
        fields: dict[str, Any] = {}
        for name, kind in self.objects.items():
            heights = jnp.broadcast_to(jnp.asarray(kind.height, jnp.float32), (kind.num, 1))
            fields[f"{name}_pos"] = jnp.concatenate([xy[name], heights], axis=-1)
        for name in self.moving_kinds:
            still = jnp.zeros((self.objects[name].num, 3))
            fields |= {f"{name}_quat": quat_from_yaw(yaw[name]), f"{name}_linvel": still, f"{name}_angvel": still}
        return Snapshot(
            time=jnp.float32(0),
            ctrl=jnp.zeros(self.model.nu),
            act=jnp.zeros(self.model.na) if self.model.na else None,
            root_pos=jnp.concatenate([root_xy, jnp.full(1, self.robot.start_height, jnp.float32)]),
            root_quat=quat_from_yaw(root_yaw),
            root_linvel=jnp.zeros(3),
            root_angvel=jnp.zeros(3),
            joint_qpos=self._start_joints(joint_key),
            joint_qvel=jnp.zeros(self.robot_nv - self.root_sizes[1]),
            **fields,
        )

    def _start_joints(self, key: jax.Array) -> jax.Array:
        """Coordinates of the inner joints at reset, with the robot's noise on them."""
        given = self.robot.start_joints
        joints = jnp.asarray(given or self.model.qpos0[self.root_sizes[0] : self.robot_nq], jnp.float32)
        if not self._is_noisy:
            return joints
        return joints + self.robot.joint_noise * jax.random.uniform(key, joints.shape, minval=-1.0, maxval=1.0)

    @property
    def _is_noisy(self) -> bool:
        return self.robot.joint_noise > 0

    @property
    def starts_alike(self) -> bool:
        """Whether at reset the inner joints are always as in the model."""
        return not self.robot.start_joints and not self._is_noisy

    def to_physics(self, snapshot: Snapshot) -> PhysicsState:
        """Coordinates of a complete snapshot. The solver's first guess is zero."""
        if self.robot.root_joint == "planar":
            root_qpos = jnp.append(snapshot.root_pos[:2], yaw_from_quat(snapshot.root_quat))
            root_qvel = jnp.append(snapshot.root_linvel[:2], snapshot.root_angvel[2])
        else:
            root_qpos, root_qvel = _to_free_joint(*(getattr(snapshot, f"root_{part}") for part in _POSE))
        joint_qpos = with_unit_quats(snapshot.joint_qpos, self.joint_quaternions)
        qpos, qvel = [root_qpos, joint_qpos], [root_qvel, snapshot.joint_qvel]
        for name in self.moving_kinds:
            q, v = jax.vmap(_to_free_joint)(*(getattr(snapshot, f"{name}_{part}") for part in _POSE))
            qpos.append(q.ravel())
            qvel.append(v.ravel())
        mocap_pos, mocap_quat = [jnp.zeros((0, 3))], [jnp.zeros((0, 4))]
        for name in self.mocap_kinds:
            pos, quat = self._mocap_pose(name, snapshot)
            mocap_pos.append(pos)
            mocap_quat.append(quat)
        return PhysicsState(
            qpos=jnp.concatenate(qpos),
            qvel=jnp.concatenate(qvel),
            act=jnp.zeros(self.model.na) if snapshot.act is None else snapshot.act,
            qacc_warmstart=jnp.zeros(self.model.nv),
            time=snapshot.time,
            ctrl=snapshot.ctrl,
            mocap_pos=jnp.concatenate(mocap_pos),
            mocap_quat=jnp.concatenate(mocap_quat),
            dynamics=snapshot.dynamics,
        )

    def _mocap_pose(self, name: str, snapshot: Snapshot) -> tuple[jax.Array, jax.Array]:
        """Positions [N, 3] m and quaternions [N, 4] of fixed objects, or those of driven objects at reset."""
        kind, pos = self.objects[name], getattr(snapshot, f"{name}_pos")
        if kind.body_kind == "fixed":
            return pos, quat_from_yaw(jnp.zeros(len(pos)))
        start_pos, start_quat = getattr(snapshot, f"{name}_start_pos"), getattr(snapshot, f"{name}_start_quat")
        if start_pos is None:
            dt, is_rk4 = float(self.model.opt.timestep), uses_rk4(self.model)
            followed = undisturbed_offset(self.travel(name), snapshot.time, dt, is_rk4)
            start_pos = jnp.append(pos[:, :2] - followed[:2], jnp.full_like(pos[:, 2:], kind.height), axis=-1)
        if start_quat is None:
            start_quat = quat_from_yaw(jax.vmap(yaw_from_quat)(getattr(snapshot, f"{name}_quat")))
        return start_pos, start_quat

    def travel(self, name: str) -> float:
        """Radius of the circle that a driven kind follows, m."""
        kind = self.objects[name]
        return kind.travel if isinstance(kind, Gremlins) else 0.0

    # -- driven objects -----------------------------------------------------------------------------------------------

    def mocap_pos(self, data: PhysicsState, time: Any) -> Any:
        """Positions [..., M, 3] m of mocap bodies in a physics step that begins at `time` [...] s. Numpy or JAX."""
        xp = np if isinstance(data.mocap_pos, np.ndarray) else jnp
        offsets = []
        for name in self.mocap_kinds:
            kind = self.objects[name]
            rows = (*np.shape(time), kind.num, 3)
            offset = target_offset(self.travel(name), time, xp) if kind.body_kind == "driven" else xp.zeros(3)
            offsets.append(xp.broadcast_to(offset[..., None, :], rows))
        return data.mocap_pos + xp.concatenate(offsets, axis=-2) if offsets else data.mocap_pos

    def last_mocap_pos(self, data: PhysicsState, time: Any) -> Any:
        """Positions [..., M, 3] m in the physics step that ended at `time` [...] s; those of the start at 0."""
        xp = np if isinstance(data.mocap_pos, np.ndarray) else jnp
        moved = self.mocap_pos(data, xp.maximum(time - self.model.opt.timestep, 0.0))
        return xp.where(time[..., None, None] > 0, moved, data.mocap_pos)

    # -- physics to world ---------------------------------------------------------------------------------------------

    def read(self, data: PhysicsState, measured: Measurements, places: Places) -> Readings:
        """Return a physics state in world coordinates. places: what stays for the episode."""
        root_nq, root_nv = self.root_sizes
        if self.robot.root_joint == "planar":
            x, y, yaw = data.qpos[:3]
            root_pos = jnp.stack([x, y, jnp.float32(self.robot.start_height)])
            zero = jnp.zeros_like(x)
            root = (
                root_pos,
                quat_from_yaw(yaw),
                jnp.append(data.qvel[:2], zero),
                jnp.stack([zero, zero, data.qvel[2]]),
            )
        else:
            root = _from_free_joint(data.qpos[:root_nq], data.qvel[:root_nv])
        moving = jax.vmap(_from_free_joint)(
            data.qpos[self.robot_nq :].reshape(-1, 7), data.qvel[self.robot_nv :].reshape(-1, 6)
        )
        pos, quat, linvel, angvel = (self.split(self.moving_kinds, rows) for rows in moving)
        com = int(self.model.sensor(COM).adr[0]) if self.has_com else None
        placed = self.split(self.mocap_kinds, data.mocap_pos)
        fixed = {name: placed[name] for name in self._kinds("fixed")}
        return Readings(
            root_pos=root[0],
            root_quat=root[1],
            root_linvel=root[2],
            root_angvel=root[3],
            ctrl=data.ctrl,
            sensors=self.sense(measured.sensors),
            pos=places.markers | fixed | pos,
            quat=quat,
            linvel=linvel,
            angvel=angvel,
            contacts=self.split(self.solid_kinds, measured.contacts),
            start_pos=places.starts | {name: placed[name] for name in self.driven_kinds},
            hidden={},
            com=None if com is None else measured.sensors[com : com + 3],
        )

    def driven_fields(self, data: PhysicsState) -> dict[str, jax.Array]:
        """Snapshot fields with the starts and the targets of driven objects."""
        now = self.split(self.mocap_kinds, self.last_mocap_pos(data, data.time))
        pos, quat = (self.split(self.mocap_kinds, rows) for rows in (data.mocap_pos, data.mocap_quat))
        fields = {}
        for name in self.driven_kinds:
            still = quat_from_yaw(jnp.zeros(len(pos[name])))
            fields |= {f"{name}_start_pos": pos[name], f"{name}_start_quat": quat[name]}
            mocaps = f"{name.removesuffix('s')}_mocaps"
            fields |= {f"{mocaps}_pos": now[name] - pos[name], f"{mocaps}_quat": still}  # relative, as in the reference
        return fields


SHORTEST = 1e-15  # length of a quaternion below which it is no turn (MuJoCo's mjMINVAL)
_POSITION = int(mujoco.mjtSensor.mjSENS_JOINTPOS)
_TREATMENTS = {  # observed form of a hinge's angle: (sin, cos); of a quaternion: the rotation matrix, row by row
    _POSITION: "angle",
    int(mujoco.mjtSensor.mjSENS_BALLQUAT): "quaternion",
    int(mujoco.mjtSensor.mjSENS_FRAMEQUAT): "quaternion",
}
_ENTRIES = {"angle": 2, "quaternion": 9, "height": 1}
_POSE = ("pos", "quat", "linvel", "angvel")


def _to_free_joint(
    pos: jax.Array, quat: jax.Array, linvel: jax.Array, angvel: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """World pose and velocity as qpos [7] and qvel [6], with angular velocity in the body's frame."""
    quat = unit_quat(quat)
    return jnp.concatenate([pos, quat]), jnp.concatenate([linvel, to_frame(angvel, mat_from_quat(quat))])


def _from_free_joint(qpos: jax.Array, qvel: jax.Array) -> tuple[jax.Array, ...]:
    """qpos [7] and qvel [6] as world position, quaternion, linear and angular velocity."""
    quat = qpos[3:]
    return qpos[:3], quat, qvel[:3], from_frame(qvel[3:], mat_from_quat(quat))


def unit_quat(quat: jax.Array) -> jax.Array:
    """Quaternions [..., 4] at length 1. One of length 0 becomes no turn, as in MuJoCo."""
    squared = jnp.sum(quat * quat, axis=-1, keepdims=True)
    is_zero = squared < SHORTEST**2
    unit = quat / jnp.sqrt(jnp.where(is_zero, 1.0, squared))
    return jnp.where(is_zero, jnp.array([1.0, 0.0, 0.0, 0.0]), unit)


def with_unit_quats(coordinates: jax.Array, starts: Iterable[int]) -> jax.Array:
    """Coordinates [n] whose quaternions have length 1. starts: where each quaternion begins."""
    for start in starts:
        coordinates = coordinates.at[start : start + 4].set(unit_quat(coordinates[start : start + 4]))
    return coordinates


def quaternion_starts(model: mujoco.MjModel) -> tuple[int, ...]:
    """Where each quaternion begins in qpos: those of ball joints and of free joints."""
    offsets = {int(mujoco.mjtJoint.mjJNT_BALL): 0, int(mujoco.mjtJoint.mjJNT_FREE): 3}
    joints = zip(model.jnt_type, model.jnt_qposadr, strict=True)
    return tuple(int(start) + offsets[kind] for kind, start in joints if kind in offsets)


def build_scene(
    robot: Robot,
    objects: Mapping[str, AbstractObject],
    *,
    engine: Engine,
    accuracy: Accuracy = "fast",
    com: bool = False,
) -> Scene:
    """Compile the scene of an engine (see `sim.model`). com: add a sensor of the robot's centre of mass.

    Equal scenes are the same object while somebody holds it, so that programs compiled for one serve the other.
    """
    model = build_model(robot, objects, engine=engine, accuracy=accuracy, com=com)
    key = (digest(model), com, *map(_identity, (robot, *objects.values())), *objects)
    return _SCENES.setdefault(key, Scene(robot=robot, objects=objects, model=model, has_com=com))


def _identity(settings: Robot | AbstractObject) -> tuple:
    """Return what tells settings apart: a class that is defined anew, and arrays that print alike, are others."""
    arrays = [leaf for leaf in jax.tree.leaves(settings) if isinstance(leaf, jax.Array)]
    known = [np.asarray(array).tobytes() for array in arrays if not isinstance(array, jax.core.Tracer)]
    return type(settings), repr(settings), *known


_SCENES: weakref.WeakValueDictionary[tuple, Scene] = weakref.WeakValueDictionary()
