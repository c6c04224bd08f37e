"""Robot and objects as a MuJoCo model, one for each engine.

`mujoco` gets the reference's model: all solid bodies may touch each other. `mjx` and `warp` get models that differ as
listed below. `make(..., accuracy="reference")` leaves out the items marked *, so that users can check them.

`mujoco`:

- * An object matters in a step if the robot can reach it, if it moves, or if it can meet an object that moves or
  matters (`relevance.slots`). The solver gets only those objects. At rest means slower than 1e-6 m/s and 1e-3 m/s^2.
- * If no object matters, a planar robot without inner joints takes the step in closed form (`sim.planar`), in single
  precision. With 10 substeps, positions differ from C by about 1e-6 m and headings by up to 1e-4 rad. The Point's
  turn servo is unstable and amplifies rounding. The closed form is therefore used only for as many substeps as stay
  exact (`PlanarRobot.max_exact_substeps`), and within 32 m of the origin.

`mjx`. MJX computes every pair of shapes that could ever touch, and cannot collide some pairs:

- Collision masks leave out these pairs:
  the robot and the floor, if the robot never presses on it (Point touches it at distance 0, without a constraint row);
  the robot with itself, except `Robot.self_contacts`;
  fixed objects with each other and with the floor;
  driven objects with the floor, above which they hover;
  driven objects with each other and with fixed objects, if their keepouts keep them apart.
- MJX cannot collide cylinders with boxes. A pillar becomes an upright capsule that reaches into the floor down to its
  middle. Its surface is the same for all bodies lower than the pillar. Pillars that are lower than the robot's root are
  refused. A cylinder of the robot keeps its contact with the floor. Against everything else a stand-in inside the
  cylinder takes its place: a capsule of the same radius and length, or thin bars across the tread if the cylinder is
  flat like a wheel.
- * The solver gets only objects that matter, as above, and a fixed number of each kind (`AbstractObject.slots`). If
  more matter, the step is solved again with the others. The robot's motion comes from the first of these passes in
  which it touches an object. Objects of different passes do not meet in that step. The remaining objects stay in place
  or follow the law of their weld.
- A free object on the floor stays in place while nothing else touches it. In single precision it would tremble. At
  Doggo's time step it would tremble faster than the speed at which a vase costs.
- * In a batch, the robot is stepped alone first, in closed form if it has one. The solver then takes the worlds in
  which objects matter (`relevance.where_needed`).
- * MJX examines only the `MAX_GEOM_PAIRS` nearest pairs of geoms per pair of shape types. The solver gets the deepest
  contact points: as many as bodies can have on the floor (`Robot.floor_points`), and `SPARE_CONTACTS` more.
- Some of MJX's contact points differ from those in C. `fixes.mjx_colliders` computes those of C: for tilted capsules,
  cylinders and boxes on the floor, and for two boxes.
- The solver's line search is exact, not iterative (`fixes.mjx_line_search`). It agrees with a converged search of MJX.
- The solver's steps are MJX's in fewer operations, on a GPU without library calls (`fixes.mjx_solver`).
- MJX lacks contact sensors for subtrees, which count robot-object contacts in C. The engine reads MJX's contact list.

`warp`. Warp computes only near pairs, and has all pairs of shapes and contact sensors. It gets C's model, except:

- The robot and the floor do not touch if the robot never presses on it, because in single precision a tangent may
  press.
- Cylinders against capsules, cylinders and boxes use GJK and EPA, Warp's only algorithm for them. C's model uses the
  older MPR, as the reference does. The two differ in direction and depth where shapes overlap deeply.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Literal

import mujoco
import numpy as np

from mjx_safety.core.shapes import add_to
from mjx_safety.sim.gremlins import WELD_SOLREF
from mjx_safety.sim.robot_file import FIELDS, describe, fitting, read_robot
from mjx_safety.sim.robot_solver import wrong_solver
from mjx_safety.world.objects import AbstractObject
from mjx_safety.world.robots.base import Robot

Engine = Literal["mujoco", "mjx", "warp"]  # the engine that uses the model
Accuracy = Literal["fast", "reference"]  # with all of the above, or without the items marked *

COM = "com"  # sensor of the robot's centre of mass
CONDIM = 6  # of all solid bodies: sliding, torsional and rolling friction
ABOVE_FLOOR = 1e-6  # m; a cylinder that begins higher does not stand on the floor
BARS = 12  # number of bars along the tread of a wheel's stand-in on MJX
BAR = 0.1  # radius of a bar, in radii of the wheel
MAX_GEOM_PAIRS = 16  # geom pairs per pair of shape types that MJX examines
MOST_POINTS = 4  # largest number of contact points of two shapes on MJX
SPARE_CONTACTS = 16  # contact points of a world on mjx and warp beyond those on the floor
LS_ITERATIONS = 10  # of MJX's own line search, for robots with friction loss; MJX always runs all of them
FLOOR, ROBOT, FREE, FIXED, DRIVEN, FLAT = (1 << bit for bit in range(6))  # collision masks of the MJX model
OBJECTS_FLOOR = 1 << 30  # collision mask of the Warp model, a bit that no robot uses
TOUCHES = {FLOOR: 0, ROBOT: FLOOR, FREE: FLOOR | ROBOT | FREE | FIXED, FIXED: ROBOT, DRIVEN: ROBOT | FREE, FLAT: FLOOR}


def digest(model: mujoco.MjModel) -> bytes:
    """Return a fingerprint of the whole model."""
    content = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return hashlib.sha256(content.tobytes()).digest()


def with_slots(objects: Mapping[str, AbstractObject]) -> dict[str, AbstractObject]:
    """Limit each kind to the number that MJX's solver takes at a time (see above)."""
    return {
        name: kind if kind.slots is None else dataclasses.replace(kind, num=min(kind.num, kind.slots), locations=())
        for name, kind in objects.items()
    }


def build_model(
    robot: Robot,
    objects: Mapping[str, AbstractObject],
    *,
    engine: Engine,
    accuracy: Accuracy = "fast",
    com: bool = False,
) -> mujoco.MjModel:
    """Compile the model that an engine gets (see above). com: measure the robot's centre of mass."""
    spec = read_robot(robot)
    if any(kind.body_kind != "fixed" for _, kind in _solid_bodies(objects)):
        problem = wrong_solver(spec.option)
        if problem is not None:
            raise ValueError(f"{describe(robot)} {problem}")
    if engine == "mjx":
        _check_cylinders(robot, objects)
    with fitting(robot):
        _add_scene(spec, robot, objects, engine, accuracy, com)
        return spec.compile()


def _add_scene(
    spec: mujoco.MjSpec,
    robot: Robot,
    objects: Mapping[str, AbstractObject],
    engine: Engine,
    accuracy: Accuracy,
    com: bool,
) -> None:
    """Put the floor and the objects around the robot."""
    for name, value in FIELDS.items():
        setattr(spec.option, name, value)
    spec.option.disableflags |= FLAGS[engine]
    floor = spec.worldbody.add_geom(type=_GEOM.mjGEOM_PLANE, size=[3.5, 3.5, 0.1], condim=CONDIM, name="floor")
    geoms = {FLOOR: [floor], ROBOT: list(spec.body("robot").find_all("geom")), FREE: [], FIXED: [], DRIVEN: []}
    for name, kind in _solid_bodies(objects):
        geoms[_MASK_OF[kind.body_kind]] += _add_object(spec, name, kind)
    if com:
        if spec.sensor(COM) is not None:
            raise ValueError(
                f"{describe(robot)} has a sensor named {COM!r}, as that of extras {COM!r} is; rename it, or leave out"
                " the extra"
            )
        subtree = {"objtype": mujoco.mjtObj.mjOBJ_BODY, "objname": "robot"}
        spec.add_sensor(name=COM, type=mujoco.mjtSensor.mjSENS_SUBTREECOM, **subtree)
    if engine == "mjx":
        if accuracy == "fast":
            _limit_contacts(spec, geoms, robot)
        _adapt_to_mjx(spec, robot, geoms, _touches(objects))
    else:
        for name, _ in _solid_bodies(objects):
            _add_contact_sensor(spec, name)
    if engine == "warp" and not robot.touches_floor:
        _keep_off_the_floor(geoms)


def _solid_bodies(objects: Mapping[str, AbstractObject]) -> list[tuple[str, AbstractObject]]:
    """Name and kind of each solid object, in the order of the model's bodies."""
    solid = {name: kind for name, kind in objects.items() if kind.body_kind != "marker"}
    return [(f"{name}{index}", kind) for name, kind in solid.items() for index in range(kind.num)]


def _add_object(spec: mujoco.MjSpec, name: str, kind: AbstractObject) -> list[mujoco.MjsGeom]:
    """Add one solid object. A fixed object is a mocap body, so that each world can place it differently."""
    body = spec.worldbody.add_body(name=name, pos=[0, 0, kind.height], mocap=kind.body_kind == "fixed")
    if kind.body_kind != "fixed":
        body.add_freejoint(align=mujoco.mjtAlignFree.mjALIGNFREE_FALSE)  # whatever the robot's file says
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
    density = getattr(kind, "density", 1.0)  # has no effect on a fixed object
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
        intprm=[1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND), 0, 1],  # report the number
    )


def _keep_off_the_floor(geoms: dict[int, list[mujoco.MjsGeom]]) -> None:
    """Give the floor a collision mask of the objects alone, so that the robot cannot touch it."""
    floor, *rest = geoms[FLOOR][0], *geoms[FREE], *geoms[DRIVEN]
    floor.contype = floor.conaffinity = OBJECTS_FLOOR
    for geom in rest:
        geom.contype, geom.conaffinity = geom.contype | OBJECTS_FLOOR, geom.conaffinity | OBJECTS_FLOOR


def _touches(objects: Mapping[str, AbstractObject]) -> dict[int, int]:
    """Collision masks of each mask. Driven objects also touch objects that their keepouts do not keep apart."""

    def reach(kind: AbstractObject) -> float:
        return kind.planar_radius + getattr(kind, "travel", 0.0)

    touches = dict(TOUCHES)
    solid = [kind for kind in objects.values() if kind.body_kind != "marker" and kind.num]
    for driven in (kind for kind in solid if kind.body_kind == "driven"):
        for kind in solid:
            alone = kind is driven and kind.num == 1
            if not alone and driven.keepout + kind.keepout < reach(driven) + reach(kind):
                touches[DRIVEN] |= _MASK_OF[kind.body_kind]
    return touches


def _check_cylinders(robot: Robot, objects: Mapping[str, AbstractObject]) -> None:
    """Raise ValueError for a fixed cylinder that the capsule in its place does not equal, since MJX has no other."""
    fixed = [(name, kind) for name, kind in _solid_bodies(objects) if kind.body_kind == "fixed"]
    cylinders = [(name, kind, shape) for name, kind in fixed for shape in kind.shapes if shape.kind == "cylinder"]
    for name, kind, shape in cylinders:
        centre, half_height = kind.height + shape.pos[2], shape.size[1]
        if centre - half_height > ABOVE_FLOOR:
            raise ValueError(
                f"{name} has a cylinder {centre - half_height:.2g} m above the floor, and mjx collides only cylinders"
                " that stand on it; use physics='mujoco'"
            )
        if centre + half_height < robot.start_height - ABOVE_FLOOR:
            raise ValueError(
                f"{name} has a cylinder that is {centre + half_height:.2g} m high, and mjx collides only cylinders at"
                f" least as high as the root of robot {robot.name}, {robot.start_height:.2g} m; use physics='mujoco'"
            )


def _adapt_to_mjx(
    spec: mujoco.MjSpec, robot: Robot, geoms: dict[int, list[mujoco.MjsGeom]], touches: dict[int, int]
) -> None:
    """Set masks, replace cylinders and add the robot's own pairs, as the head of this file explains."""
    spec.option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    spec.option.ls_iterations = LS_ITERATIONS
    shapes = spec.compile()  # the compiled model has final sizes and places
    for geom in geoms[FIXED]:
        if geom.type == _GEOM.mjGEOM_CYLINDER:
            radius, half_height = geom.size[:2]
            geom.type, geom.size, geom.pos = (
                _GEOM.mjGEOM_CAPSULE,
                [radius, 2 * half_height, 0],
                [*geom.pos[:2], geom.pos[2] - half_height],
            )
    cylinders = [g for g in geoms[ROBOT] if g.type == _GEOM.mjGEOM_CYLINDER and (g.contype or g.conaffinity)]
    geoms[ROBOT] = [geom for geom in geoms[ROBOT] if geom not in cylinders]
    geoms[FLAT] = cylinders
    ids = [geom.id for geom in cylinders]  # read before additions, which shift them
    stand_ins = [new for geom, index in zip(cylinders, ids, strict=True) for new in _add_stand_ins(geom, shapes, index)]
    for mask, members in geoms.items():
        for geom in members:
            if geom.contype or geom.conaffinity:
                geom.contype, geom.conaffinity = mask, touches[mask]
    for geom in [*stand_ins, *([] if robot.touches_floor else geoms[ROBOT])]:
        geom.contype, geom.conaffinity = ROBOT, 0
    for first, second in robot.self_contacts:
        spec.add_pair(geomname1=first, geomname2=second, condim=CONDIM)


def _add_stand_ins(cylinder: mujoco.MjsGeom, shapes: mujoco.MjModel, index: int) -> list[mujoco.MjsGeom]:
    """Add the capsule or the ring of bars that replaces a cylinder against everything but the floor.

    shapes: the compiled model; index: of the cylinder in it.
    """
    (radius, half_length), quat = shapes.geom_size[index, :2], shapes.geom_quat[index]
    centre, mat = shapes.geom_pos[index], np.zeros(9)
    mujoco.mju_quat2Mat(mat, quat)
    common = {"mass": 0.0, "condim": CONDIM, "rgba": [0, 0, 0, 0]}
    if half_length > radius:
        size = [radius, half_length - radius, 0]
        return [cylinder.parent.add_geom(type=_GEOM.mjGEOM_CAPSULE, size=size, pos=centre, quat=quat, **common)]
    angles, thin = 2 * np.pi * np.arange(BARS) / BARS, BAR * radius
    ring = (radius - thin) * np.stack([np.cos(angles), np.sin(angles), np.zeros(BARS)], axis=-1)
    places = centre + ring @ mat.reshape(3, 3).T
    size = [thin, half_length - thin, 0]
    bars = [{"type": _GEOM.mjGEOM_CAPSULE, "size": size, "pos": place, "quat": quat} for place in places]
    return [cylinder.parent.add_geom(**bar, **common) for bar in bars]


def _limit_contacts(spec: mujoco.MjSpec, geoms: dict[int, list[mujoco.MjsGeom]], robot: Robot) -> None:
    """Limit the solver to the nearest pairs and the deepest contacts, with room for all on the floor."""
    of_objects = SPARE_CONTACTS + _points(geoms[FREE]) if any(geoms[kind] for kind in (FREE, FIXED, DRIVEN)) else 0
    of_robot = min(_points(geoms[ROBOT]), robot.floor_points or np.inf) if robot.touches_floor else 0
    points = of_objects + of_robot + MOST_POINTS * len(robot.self_contacts)
    for name, value in {"max_geom_pairs": MAX_GEOM_PAIRS, "max_contact_points": points}.items():
        spec.add_numeric(name=name, data=np.array([float(value)]))


def _points(geoms: list[mujoco.MjsGeom]) -> int:
    """Number of contact points that MJX reserves between some shapes and the floor."""
    return sum(_FLOOR_POINTS.get(geom.type, 0) for geom in geoms if geom.contype or geom.conaffinity)


_GEOM, _DISABLE = mujoco.mjtGeom, mujoco.mjtDisableBit
FLAGS = {  # a blow-up must show, not reset the world; convex shapes collide as in the reference
    "mujoco": int(_DISABLE.mjDSBL_AUTORESET | _DISABLE.mjDSBL_NATIVECCD | _DISABLE.mjDSBL_MULTICCD),
    "mjx": int(_DISABLE.mjDSBL_AUTORESET),
    "warp": int(_DISABLE.mjDSBL_NATIVECCD | _DISABLE.mjDSBL_MULTICCD),  # Warp never resets a world
}
_FLOOR_POINTS = {  # type of a shape -> contact points of MJX between it and a plane
    **{_GEOM.mjGEOM_SPHERE: 1, _GEOM.mjGEOM_ELLIPSOID: 1, _GEOM.mjGEOM_CAPSULE: 2, _GEOM.mjGEOM_CYLINDER: 3},
    **{_GEOM.mjGEOM_BOX: 4, _GEOM.mjGEOM_MESH: 4},
}
_MASK_OF = {"fixed": FIXED, "free": FREE, "driven": DRIVEN}
