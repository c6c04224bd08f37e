"""Robot and objects as a MuJoCo model, and the way between its coordinates and the world's.

Two models come from one scene. The C engine gets the true one: everything solid may touch everything else, as in the
reference. MJX pays for every pair that could ever touch, so its model names the pairs that matter by collision masks:

- a robot that never presses on the floor (Point: tangent at exactly zero distance, no constraint row ever) has no
  floor pair;
- contact sensors, which tell robot-object contacts in C, do not exist there for subtrees; MJX reads its contact list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct

from mjx_safety.geometry import from_frame, mat_from_quat, quat_from_yaw, to_frame, yaw_from_quat
from mjx_safety.objects import CONDIM, AbstractObject
from mjx_safety.robots.base import Robot
from mjx_safety.types import Snapshot

FLOOR_MASK, ROBOT_MASK, OBJECT_MASK = 1, 2, 4


@struct.dataclass
class PhysicsState:
    """What the physics carries from step to step; everything else follows from it. 26 floats for Goal1."""

    qpos: jax.Array  # [nq] m, rad, quaternions
    qvel: jax.Array  # [nv] m/s, rad/s
    qacc_warmstart: jax.Array  # [nv] first guess of the constraint solver
    time: jax.Array  # [] s since reset
    ctrl: jax.Array  # [A] last control


@struct.dataclass
class PhysicsReading:
    """What an engine measures in a state."""

    sensors: jax.Array  # [S] the robot's sensors in the order of the model
    contacts: jax.Array  # [K] float32, contact points between the robot and each solid object


@struct.dataclass
class Readings:
    """All that tasks, costs, lidar and observations see of a world. World frame, SI units."""

    root_pos: jax.Array  # [3] m
    root_quat: jax.Array  # [4]
    root_linvel: jax.Array  # [3] m/s, at the root's origin
    root_angvel: jax.Array  # [3] rad/s
    sensors: jax.Array  # [S] the observed sensors, in the robot's order
    pos: dict[str, jax.Array]  # kind -> [N, 3] m
    quat: dict[str, jax.Array]  # free kinds -> [N, 4]
    linvel: dict[str, jax.Array]  # free kinds -> [N, 3] m/s
    angvel: dict[str, jax.Array]  # free kinds -> [N, 3] rad/s
    contacts: dict[str, jax.Array]  # solid kinds -> [N] float32, contact points with the robot


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """One robot among objects: the model and where each thing stands in its vectors."""

    robot: Robot
    objects: Mapping[str, AbstractObject]  # name of the kind -> kind, in the order of placement
    model: mujoco.MjModel

    @property
    def free_kinds(self) -> tuple[str, ...]:
        """Kinds with coordinates in qpos, in its order."""
        return tuple(name for name, kind in self.objects.items() if kind.body_kind == "free" and kind.num)

    @property
    def solid_slices(self) -> dict[str, slice]:
        """Where each solid kind stands in `PhysicsReading.contacts`."""
        stops = np.cumsum([self.objects[name].num for name in self.free_kinds])
        return {
            name: slice(int(b) - self.objects[name].num, int(b)) for name, b in zip(self.free_kinds, stops, strict=True)
        }

    @property
    def robot_nq(self) -> int:
        """Coordinates of the robot in qpos, its root included."""
        return self.model.nq - 7 * sum(self.objects[name].num for name in self.free_kinds)

    @property
    def robot_nv(self) -> int:
        """Coordinates of the robot in qvel, its root included."""
        return self.model.nv - 6 * sum(self.objects[name].num for name in self.free_kinds)

    @property
    def root_sizes(self) -> tuple[int, int]:
        """Coordinates of the robot's root in qpos and qvel."""
        return (3, 3) if self.robot.root_joint == "planar" else (7, 6)

    def sensor_index(self) -> np.ndarray:
        """Where the observed sensors stand in the model's sensor vector, [S] int."""
        sensors = [self.model.sensor(name) for name in self.robot.sensors]
        return np.concatenate([np.arange(s.adr[0], s.adr[0] + s.dim[0]) for s in sensors])

    def default_snapshot(self, root_xy: jax.Array, root_yaw: jax.Array, xy: dict, yaw: dict) -> Snapshot:
        """Everything at rest. root_xy: [2] m; root_yaw: [] rad; xy: kind -> [N, 2] m; yaw: free kind -> [N] rad."""
        fields = {}
        for name, kind in self.objects.items():
            heights = jnp.full((kind.num, 1), kind.height, jnp.float32)
            fields[f"{name}_pos"] = jnp.concatenate([xy[name], heights], axis=-1)
        for name in self.free_kinds:
            still = jnp.zeros((self.objects[name].num, 3))
            fields |= {f"{name}_quat": quat_from_yaw(yaw[name]), f"{name}_linvel": still, f"{name}_angvel": still}
        return Snapshot(
            time=jnp.float32(0),
            ctrl=jnp.zeros(self.model.nu),
            root_pos=jnp.concatenate([root_xy, jnp.full(1, self.robot.start_height, jnp.float32)]),
            root_quat=quat_from_yaw(root_yaw),
            root_linvel=jnp.zeros(3),
            root_angvel=jnp.zeros(3),
            joint_qpos=jnp.asarray(self.model.qpos0[self.root_sizes[0] : self.robot_nq], jnp.float32),
            joint_qvel=jnp.zeros(self.robot_nv - self.root_sizes[1]),
            **fields,
        )

    def to_physics(self, snapshot: Snapshot) -> PhysicsState:
        """Coordinates of a complete snapshot. The solver's first guess is zero."""
        if self.robot.root_joint == "planar":
            root_qpos = jnp.append(snapshot.root_pos[:2], yaw_from_quat(snapshot.root_quat))
            root_qvel = jnp.append(snapshot.root_linvel[:2], snapshot.root_angvel[2])
        else:
            root_qpos, root_qvel = _free_joint(*(getattr(snapshot, f"root_{part}") for part in _POSE))
        qpos, qvel = [root_qpos, snapshot.joint_qpos], [root_qvel, snapshot.joint_qvel]
        for name in self.free_kinds:
            q, v = jax.vmap(_free_joint)(*(getattr(snapshot, f"{name}_{part}") for part in _POSE))
            qpos.append(q.ravel())
            qvel.append(v.ravel())
        return PhysicsState(
            qpos=jnp.concatenate(qpos),
            qvel=jnp.concatenate(qvel),
            qacc_warmstart=jnp.zeros(self.model.nv),
            time=snapshot.time,
            ctrl=snapshot.ctrl,
        )

    def read(self, data: PhysicsState, reading: PhysicsReading, still_pos: dict[str, jax.Array]) -> Readings:
        """Put a physics state and the positions [N, 3] m of all ghosts into world terms."""
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
        parts: dict[str, tuple] = {}
        q_start, v_start = self.robot_nq, self.robot_nv
        for name in self.free_kinds:
            num = self.objects[name].num
            q = data.qpos[q_start : q_start + 7 * num].reshape(num, 7)
            v = data.qvel[v_start : v_start + 6 * num].reshape(num, 6)
            parts[name] = jax.vmap(_from_free_joint)(q, v)
            q_start, v_start = q_start + 7 * num, v_start + 6 * num
        return Readings(
            root_pos=root[0],
            root_quat=root[1],
            root_linvel=root[2],
            root_angvel=root[3],
            sensors=reading.sensors[self.sensor_index()],
            pos=still_pos | {name: part[0] for name, part in parts.items()},
            quat={name: part[1] for name, part in parts.items()},
            linvel={name: part[2] for name, part in parts.items()},
            angvel={name: part[3] for name, part in parts.items()},
            contacts={name: reading.contacts[where] for name, where in self.solid_slices.items()},
        )


_POSE = ("pos", "quat", "linvel", "angvel")


def _free_joint(pos: jax.Array, quat: jax.Array, linvel: jax.Array, angvel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """World pose and velocity as qpos [7] and qvel [6]; MuJoCo keeps the angular velocity in the body's frame."""
    quat = quat / jnp.linalg.norm(quat)
    return jnp.concatenate([pos, quat]), jnp.concatenate([linvel, to_frame(angvel, mat_from_quat(quat))])


def _from_free_joint(qpos: jax.Array, qvel: jax.Array) -> tuple[jax.Array, ...]:
    """qpos [7] and qvel [6] as world position, quaternion, linear and angular velocity."""
    quat = qpos[3:]
    return qpos[:3], quat, qvel[:3], from_frame(qvel[3:], mat_from_quat(quat))


def build_scene(robot: Robot, objects: Mapping[str, AbstractObject], *, exact: bool) -> Scene:
    """Compile the model. exact: the true contacts of the reference (C engine), else masks for MJX (see above)."""
    spec = mujoco.MjSpec.from_file(robot.xml)
    spec.option.gravity = [0, 0, -9.81]
    spec.option.magnetic = [0, -0.5, 0]
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET  # a blow-up must show, not restart the world
    floor = spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3.5, 3.5, 0.1], condim=CONDIM, name="floor")
    root = spec.body("robot")
    if root is None:
        raise ValueError(f"the model {robot.xml} of robot {robot.name} has no body named 'robot'")
    groups = {FLOOR_MASK: [floor], ROBOT_MASK: list(root.find_all("geom")), OBJECT_MASK: []}
    for name, kind in objects.items():
        for index in range(kind.num if kind.body_kind == "free" else 0):
            body = spec.worldbody.add_body(name=f"{name}{index}", pos=[0, 0, kind.height])
            body.add_freejoint()
            groups[OBJECT_MASK] += kind.add_geoms(body)
            if exact:
                _add_contact_sensor(spec, f"{name}{index}")
    if not exact:
        _set_masks(groups, robot.touches_floor)
        spec.option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    model = spec.compile()
    missing = set(robot.sensors) - {model.sensor(i).name for i in range(model.nsensor)}
    if missing:
        raise ValueError(f"the model {robot.xml} of robot {robot.name} has no sensor named {sorted(missing)[0]!r}")
    return Scene(robot=robot, objects=objects, model=model)


def _add_contact_sensor(spec: mujoco.MjSpec, body: str) -> None:
    """Count the contact points between the robot, limbs included, and one object."""
    spec.add_sensor(
        name=f"robot_touches_{body}",
        type=mujoco.mjtSensor.mjSENS_CONTACT,
        objtype=mujoco.mjtObj.mjOBJ_XBODY,  # the body with everything below it
        objname="robot",
        reftype=mujoco.mjtObj.mjOBJ_BODY,
        refname=body,
        intprm=[1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND), 0, 1],  # report: how many
    )


def _set_masks(groups: dict[int, list[mujoco.MjsGeom]], robot_on_floor: bool) -> None:
    """Allow object-floor, object-robot, object-object and, where it matters, robot-floor contacts."""
    affinity = {
        FLOOR_MASK: 0,
        ROBOT_MASK: ROBOT_MASK | FLOOR_MASK if robot_on_floor else 0,
        OBJECT_MASK: FLOOR_MASK | ROBOT_MASK | OBJECT_MASK,
    }
    for mask, geoms in groups.items():
        for geom in geoms:
            if geom.contype or geom.conaffinity:
                geom.contype, geom.conaffinity = mask, affinity[mask]
