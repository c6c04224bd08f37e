"""Robot and objects as a MuJoCo model, and the way between its coordinates and the world's.

Three models come from one scene. The C engine gets the true one: everything solid may touch everything else, as in the
reference. MJX pays for every pair that could ever touch and lacks some pairs of shapes, so its model departs:

- Masks name the pairs that matter. Left out are: robot and floor where the robot never presses on it (Point: tangent at
  exactly zero distance, no constraint row ever); the robot with itself, except pairs that `Robot.self_contacts` names;
  driven objects with each other, with fixed ones and with the floor above which they hover (their places keep them
  apart); fixed objects with each other and the floor.
- MJX cannot collide cylinders with boxes. A pillar becomes an upright capsule sunk into the floor up to its middle: the
  same surface for whatever is lower than the pillar. A cylinder of the robot keeps its contact with the floor; for
  everything else a stand-in is added that fits inside it: a capsule of the same radius and length, or, where the
  cylinder is flat like a wheel, a ring of balls as thick as the wheel.
- Of many objects only those near the robot, or near a free object that moves, are in the solver
  (`AbstractObject.slots`, `physics.nearby`). The rest stays where it is or follows the law of its weld, which is the
  same as long as nothing touches it.
- A free object that lies on the floor stays where it is as long as nothing else touches it: in single precision it
  would tremble, at Doggo's time step faster than the speed from which on a moving vase costs.
- In a batch, the robot is first solved for by itself; worlds in which it can reach an object, or an object moves, are
  then solved for again with these objects (`physics.compaction`).
- Of each pair of shapes the `MAX_GEOM_PAIRS` nearest pairs are looked at, and of the contact points found the deepest
  ones are solved for: as many as can carry things on the floor (`Robot.floor_points`), and `SPARE_CONTACTS`.
- Contact sensors, which tell robot-object contacts in C, do not exist there for subtrees; MJX reads its contact list.

Warp pays for what is near only, and has all pairs of shapes and C's contact sensors: it gets C's model, and departs in

- Robot and floor do not touch where the robot never presses on it, for in single precision a tangent may press.
- A cylinder against a capsule, a cylinder or a box is left to GJK and EPA, Warp's only algorithm for them. C's model
  asks for the older MPR, as the reference had it; where shapes overlap deeply the two differ in direction and depth.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjx_safety.driven import WELD_SOLREF, target_offset, undisturbed_offset
from mjx_safety.geometry import from_frame, mat_from_quat, quat_from_yaw, to_frame, yaw_from_quat
from mjx_safety.objects import AbstractObject, Gremlins
from mjx_safety.readings import PhysicsReading, PhysicsState, Readings
from mjx_safety.robots.base import Robot, check_model
from mjx_safety.shapes import add_to
from mjx_safety.types import Snapshot

Engine = Literal["mujoco", "mjx", "warp"]  # that a model is made for

COM = "com"  # name of the sensor of the robot's centre of mass
CONDIM = 6  # every solid thing: sliding, torsional and rolling friction
BALLS = 8  # in the ring that stands for a wheel on MJX
MAX_GEOM_PAIRS = 16  # of each pair of shapes that MJX looks at closely
MOST_POINTS = 4  # of contact that a pair of shapes can have on MJX
SPARE_CONTACTS = 16  # points that MJX's solver takes beyond those on the floor
LS_ITERATIONS = 10  # of the solver's line search on MJX, where all of them are always paid for
FLOOR, ROBOT, FREE, FIXED, DRIVEN, FLAT = (1 << bit for bit in range(6))  # collision masks of the MJX model
OBJECTS_FLOOR = 1 << 30  # collision mask of the Warp model, a bit that no robot uses
TOUCHES = {FLOOR: 0, ROBOT: FLOOR, FREE: FLOOR | ROBOT | FREE | FIXED, FIXED: ROBOT, DRIVEN: ROBOT | FREE, FLAT: FLOOR}


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """One robot among objects: the model and where each thing stands in its vectors."""

    robot: Robot
    objects: Mapping[str, AbstractObject]  # name of the kind -> kind, in the order of observation
    model: mujoco.MjModel

    def _kinds(self, *body_kinds: str) -> tuple[str, ...]:
        return tuple(name for name, kind in self.objects.items() if kind.body_kind in body_kinds and kind.num)

    @property
    def moving_kinds(self) -> tuple[str, ...]:
        """Kinds with coordinates in qpos, in its order."""
        return self._kinds("free", "driven")

    @property
    def driven_kinds(self) -> tuple[str, ...]:
        """Kinds that circle their place."""
        return self._kinds("driven")

    @property
    def mocap_kinds(self) -> tuple[str, ...]:
        """Kinds with a pose in mocap_pos and mocap_quat, in their order."""
        return self._kinds("fixed", "driven")

    @property
    def solid_kinds(self) -> tuple[str, ...]:
        """Kinds that the robot can touch, in the order of `PhysicsReading.contacts`."""
        return self._kinds("fixed", "free", "driven")

    @property
    def solid_bodies(self) -> list[str]:
        """Names of the bodies behind `PhysicsReading.contacts`."""
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

    def _count(self, kinds: tuple[str, ...]) -> int:
        return sum(self.objects[name].num for name in kinds)

    def split(self, kinds: tuple[str, ...], rows: Any) -> dict[str, Any]:
        """Cut an array [sum of N, ...] into its kinds."""
        parts, start = {}, 0
        for name in kinds:
            parts[name] = rows[start : start + self.objects[name].num]
            start += self.objects[name].num
        return parts

    # -- what the robot senses ----------------------------------------------------------------------------------------

    def sensor_sizes(self) -> dict[str, int]:
        """Entries of each observed sensor, once angles have been taken apart."""
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
            parts.append(values)
        return jnp.concatenate(parts)

    def _treatment(self, sensor: str) -> str:
        return _TREATMENTS.get(int(self.model.sensor(sensor).type[0]), "") if self.robot.angle_components else ""

    def _dim(self, sensor: str) -> int:
        return int(self.model.sensor(sensor).dim[0])

    # -- world to physics ---------------------------------------------------------------------------------------------

    def default_snapshot(self, root_xy: jax.Array, root_yaw: jax.Array, xy: dict, yaw: dict) -> Snapshot:
        """Everything at rest. root_xy: [2] m; root_yaw: [] rad; xy: kind -> [N, 2] m; yaw: kind -> [N] rad."""
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
        for name in self.moving_kinds:
            q, v = jax.vmap(_free_joint)(*(getattr(snapshot, f"{name}_{part}") for part in _POSE))
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
            qacc_warmstart=jnp.zeros(self.model.nv),
            time=snapshot.time,
            ctrl=snapshot.ctrl,
            mocap_pos=jnp.concatenate(mocap_pos),
            mocap_quat=jnp.concatenate(mocap_quat),
        )

    def _mocap_pose(self, name: str, snapshot: Snapshot) -> tuple[jax.Array, jax.Array]:
        kind, pos = self.objects[name], getattr(snapshot, f"{name}_pos")
        if kind.body_kind == "fixed":
            return pos, quat_from_yaw(jnp.zeros(len(pos)))
        start_pos, start_quat = getattr(snapshot, f"{name}_start_pos"), getattr(snapshot, f"{name}_start_quat")
        if start_pos is None:
            followed = undisturbed_offset(self.travel(name), snapshot.time, float(self.model.opt.timestep))[:2]
            start_pos = jnp.append(pos[:, :2] - followed, jnp.full_like(pos[:, 2:], kind.height), axis=-1)
        if start_quat is None:
            start_quat = quat_from_yaw(jax.vmap(yaw_from_quat)(getattr(snapshot, f"{name}_quat")))
        return start_pos, start_quat

    def travel(self, name: str) -> float:
        """Radius of the circle that a driven kind follows, m."""
        kind = self.objects[name]
        return kind.travel if isinstance(kind, Gremlins) else 0.0

    # -- driven objects -----------------------------------------------------------------------------------------------

    def mocap_pos(self, data: PhysicsState, time: Any) -> Any:
        """Positions [..., M, 3] m of the mocap bodies in a physics step that begins at `time` [...] s. Numpy or JAX."""
        xp = np if isinstance(data.mocap_pos, np.ndarray) else jnp
        offsets = []
        for name in self.mocap_kinds:
            kind = self.objects[name]
            rows = (*np.shape(time), kind.num, 3)
            offset = target_offset(self.travel(name), time, xp) if kind.body_kind == "driven" else xp.zeros(3)
            offsets.append(xp.broadcast_to(offset[..., None, :], rows))
        return data.mocap_pos + xp.concatenate(offsets, axis=-2) if offsets else data.mocap_pos

    def last_mocap_pos(self, data: PhysicsState, time: Any) -> Any:
        """Positions [..., M, 3] m in the physics step that led to `time` [...] s; at 0 nothing has been driven yet."""
        xp = np if isinstance(data.mocap_pos, np.ndarray) else jnp
        moved = self.mocap_pos(data, xp.maximum(time - self.model.opt.timestep, 0.0))
        return xp.where(time[..., None, None] > 0, moved, data.mocap_pos)

    # -- physics to world ---------------------------------------------------------------------------------------------

    def read(self, data: PhysicsState, reading: PhysicsReading, episode: dict[str, dict[str, jax.Array]]) -> Readings:
        """Put a physics state into world terms.

        episode: what belongs to the episode outside the physics. "pos": positions [N, 3] m of all markers;
        "start_pos": places [N, 3] m at reset, of kinds that need them.
        """
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
        com = {self.model.sensor(i).name: self.model.sensor(i).adr[0] for i in range(self.model.nsensor)}.get(COM)
        placed = self.split(self.mocap_kinds, data.mocap_pos)
        fixed = {name: placed[name] for name in self._kinds("fixed")}
        return Readings(
            root_pos=root[0],
            root_quat=root[1],
            root_linvel=root[2],
            root_angvel=root[3],
            sensors=self.sense(reading.sensors),
            pos=episode["pos"] | fixed | pos,
            quat=quat,
            linvel=linvel,
            angvel=angvel,
            contacts=self.split(self.solid_kinds, reading.contacts),
            start_pos=episode["start_pos"] | {name: placed[name] for name in self.driven_kinds},
            hidden={},
            com=None if com is None else reading.sensors[com : com + 3],
        )

    def driven_fields(self, data: PhysicsState) -> dict[str, jax.Array]:
        """Snapshot fields that say where driven objects started and what drives them now."""
        now = self.split(self.mocap_kinds, self.last_mocap_pos(data, data.time))
        pos, quat = (self.split(self.mocap_kinds, rows) for rows in (data.mocap_pos, data.mocap_quat))
        fields = {}
        for name in self.driven_kinds:
            still = quat_from_yaw(jnp.zeros(len(pos[name])))
            fields |= {f"{name}_start_pos": pos[name], f"{name}_start_quat": quat[name]}
            mocaps = f"{name.removesuffix('s')}_mocaps"
            fields |= {f"{mocaps}_pos": now[name] - pos[name], f"{mocaps}_quat": still}  # as the reference counts it
        return fields


_TREATMENTS = {  # how an angle is observed: as (sin, cos), a ball joint as its rotation matrix, row by row
    int(mujoco.mjtSensor.mjSENS_JOINTPOS): "angle",
    int(mujoco.mjtSensor.mjSENS_BALLQUAT): "quaternion",
}
_ENTRIES = {"angle": 2, "quaternion": 9}
_POSE = ("pos", "quat", "linvel", "angvel")


def _free_joint(pos: jax.Array, quat: jax.Array, linvel: jax.Array, angvel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """World pose and velocity as qpos [7] and qvel [6]; MuJoCo keeps the angular velocity in the body's frame."""
    quat = quat / jnp.linalg.norm(quat)
    return jnp.concatenate([pos, quat]), jnp.concatenate([linvel, to_frame(angvel, mat_from_quat(quat))])


def _from_free_joint(qpos: jax.Array, qvel: jax.Array) -> tuple[jax.Array, ...]:
    """qpos [7] and qvel [6] as world position, quaternion, linear and angular velocity."""
    quat = qpos[3:]
    return qpos[:3], quat, qvel[:3], from_frame(qvel[3:], mat_from_quat(quat))


def with_slots(objects: Mapping[str, AbstractObject]) -> dict[str, AbstractObject]:
    """Limit each kind to the number that MJX holds in its solver at a time (see above)."""
    return {
        name: kind if kind.slots is None else dataclasses.replace(kind, num=min(kind.num, kind.slots), locations=())
        for name, kind in objects.items()
    }


def build_scene(robot: Robot, objects: Mapping[str, AbstractObject], *, engine: Engine, com: bool = False) -> Scene:
    """Compile the model that an engine gets (see above). com: measure the robot's centre of mass."""
    spec = mujoco.MjSpec.from_file(str(robot.xml))
    spec.option.gravity = [0, 0, -9.81]
    spec.option.magnetic = [0, -0.5, 0]
    spec.option.disableflags |= _FLAGS[engine]
    floor = spec.worldbody.add_geom(type=_GEOM.mjGEOM_PLANE, size=[3.5, 3.5, 0.1], condim=CONDIM, name="floor")
    root = spec.body("robot")
    if root is None:
        raise ValueError(f"the model {robot.xml} of robot {robot.name} has no body named 'robot'")
    geoms = {FLOOR: [floor], ROBOT: list(root.find_all("geom")), FREE: [], FIXED: [], DRIVEN: []}
    for name, kind in objects.items():
        for index in range(kind.num if kind.body_kind != "marker" else 0):
            geoms[_MASK_OF[kind.body_kind]] += _add_object(spec, f"{name}{index}", kind)
    if com:
        subtree = {"objtype": mujoco.mjtObj.mjOBJ_BODY, "objname": "robot"}
        spec.add_sensor(name=COM, type=mujoco.mjtSensor.mjSENS_SUBTREECOM, **subtree)
    if engine == "mjx":
        _adapt_to_mjx(spec, robot, geoms)
    else:
        for name, kind in objects.items():
            for index in range(kind.num if kind.body_kind != "marker" else 0):
                _add_contact_sensor(spec, f"{name}{index}")
    if engine == "warp" and not robot.touches_floor:
        _keep_off_the_floor(geoms)
    model = spec.compile()
    check_model(robot, model)
    return Scene(robot=robot, objects=objects, model=model)


def _add_object(spec: mujoco.MjSpec, name: str, kind: AbstractObject) -> list[mujoco.MjsGeom]:
    """Add one solid object. A fixed one is a mocap body, so that every world can have it elsewhere."""
    body = spec.worldbody.add_body(name=name, pos=[0, 0, kind.height], mocap=kind.body_kind == "fixed")
    if kind.body_kind != "fixed":
        body.add_freejoint()
    if kind.body_kind == "driven":
        target = spec.worldbody.add_body(name=f"{name}_target", pos=[0, 0, kind.height], mocap=True)
        same_pose = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]  # anchor, position, quaternion, torque scale
        spec.add_equality(
            type=mujoco.mjtEq.mjEQ_WELD,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            name1=target.name,
            name2=name,
            data=np.array(same_pose, float),
            solref=WELD_SOLREF,
        )
    density = getattr(kind, "density", 1.0)  # of no matter for what is fixed
    return [add_to(body, shape, density=density, condim=CONDIM, rgba=kind.rgba) for shape in kind.shapes]


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


def _keep_off_the_floor(geoms: dict[int, list[mujoco.MjsGeom]]) -> None:
    """Give the floor a mask that only the objects share, so that the robot cannot touch it."""
    floor, *rest = geoms[FLOOR][0], *geoms[FREE], *geoms[DRIVEN]
    floor.contype = floor.conaffinity = OBJECTS_FLOOR
    for geom in rest:
        geom.contype, geom.conaffinity = geom.contype | OBJECTS_FLOOR, geom.conaffinity | OBJECTS_FLOOR


def _adapt_to_mjx(spec: mujoco.MjSpec, robot: Robot, geoms: dict[int, list[mujoco.MjsGeom]]) -> None:
    """Set the masks, replace cylinders and name the robot's own pairs, as the head of this file says."""
    spec.option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    spec.option.ls_iterations = LS_ITERATIONS
    shapes = spec.compile()  # where sizes and places are known, however they were written down
    for geom in geoms[FIXED]:
        if geom.type == _GEOM.mjGEOM_CYLINDER:
            radius, half_height = geom.size[:2]
            geom.type, geom.size, geom.pos = (
                _GEOM.mjGEOM_CAPSULE,
                [radius, 2 * half_height, 0],
                [0, 0, -half_height],
            )
    _limit_contacts(spec, geoms, robot)
    cylinders = [g for g in geoms[ROBOT] if g.type == _GEOM.mjGEOM_CYLINDER and (g.contype or g.conaffinity)]
    geoms[ROBOT] = [geom for geom in geoms[ROBOT] if geom not in cylinders]
    geoms[FLAT] = cylinders
    ids = [geom.id for geom in cylinders]  # before anything is added, which shifts them
    stand_ins = [new for geom, index in zip(cylinders, ids, strict=True) for new in _add_stand_ins(geom, shapes, index)]
    for mask, members in geoms.items():
        for geom in members:
            if geom.contype or geom.conaffinity:
                geom.contype, geom.conaffinity = mask, TOUCHES[mask]
    for geom in [*stand_ins, *([] if robot.touches_floor else geoms[ROBOT])]:
        geom.contype, geom.conaffinity = ROBOT, 0
    for first, second in robot.self_contacts:
        spec.add_pair(geomname1=first, geomname2=second, condim=CONDIM)


def _add_stand_ins(cylinder: mujoco.MjsGeom, shapes: mujoco.MjModel, index: int) -> list[mujoco.MjsGeom]:
    """Add the capsule or the ring of balls that takes a cylinder's place against all but the floor.

    shapes: the compiled model, in which the cylinder has this index.
    """
    (radius, half_length), quat = shapes.geom_size[index, :2], shapes.geom_quat[index]
    centre, mat = shapes.geom_pos[index], np.zeros(9)
    mujoco.mju_quat2Mat(mat, quat)
    common = {"mass": 0.0, "condim": CONDIM, "rgba": [0, 0, 0, 0]}
    if half_length > radius:
        size = [radius, half_length - radius, 0]
        return [cylinder.parent.add_geom(type=_GEOM.mjGEOM_CAPSULE, size=size, pos=centre, quat=quat, **common)]
    angles = 2 * np.pi * np.arange(BALLS) / BALLS
    ring = (radius - half_length) * np.stack([np.cos(angles), np.sin(angles), np.zeros(BALLS)], axis=-1)
    places = centre + ring @ mat.reshape(3, 3).T
    size = [half_length, 0, 0]
    return [cylinder.parent.add_geom(type=_GEOM.mjGEOM_SPHERE, size=size, pos=pos, **common) for pos in places]


def _limit_contacts(spec: mujoco.MjSpec, geoms: dict[int, list[mujoco.MjsGeom]], robot: Robot) -> None:
    """Bound what the solver is given: the nearest pairs, and the deepest contacts, with room for all on the floor."""
    of_objects = SPARE_CONTACTS + _points(geoms[FREE]) if any(geoms[kind] for kind in (FREE, FIXED, DRIVEN)) else 0
    of_robot = min(_points(geoms[ROBOT]), robot.floor_points or np.inf) if robot.touches_floor else 0
    points = of_objects + of_robot + MOST_POINTS * len(robot.self_contacts)
    for name, value in {"max_geom_pairs": MAX_GEOM_PAIRS, "max_contact_points": points}.items():
        spec.add_numeric(name=name, data=np.array([float(value)]))


def _points(geoms: list[mujoco.MjsGeom]) -> int:
    """How many contact points MJX has room for between some shapes and the floor."""
    return sum(_FLOOR_POINTS.get(geom.type, 0) for geom in geoms if geom.contype or geom.conaffinity)


_GEOM, _DISABLE = mujoco.mjtGeom, mujoco.mjtDisableBit
_FLAGS = {  # a blow-up must show, not restart the world; convex shapes collide as they did when the reference was made
    "mujoco": int(_DISABLE.mjDSBL_AUTORESET | _DISABLE.mjDSBL_NATIVECCD | _DISABLE.mjDSBL_MULTICCD),
    "mjx": int(_DISABLE.mjDSBL_AUTORESET),
    "warp": int(_DISABLE.mjDSBL_NATIVECCD | _DISABLE.mjDSBL_MULTICCD),  # never restarts a world
}
_FLOOR_POINTS = {_GEOM.mjGEOM_SPHERE: 1, _GEOM.mjGEOM_CAPSULE: 2, _GEOM.mjGEOM_CYLINDER: 3, _GEOM.mjGEOM_BOX: 4}
_MASK_OF = {"fixed": FIXED, "free": FREE, "driven": DRIVEN}
