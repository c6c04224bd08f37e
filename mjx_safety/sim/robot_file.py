"""Reads a robot's MJCF file, and refuses parts that a scene cannot simulate.

A file must meet four conditions. Every state of an episode follows from `PhysicsState`. The robot is where its layout
puts it. Its sensors do not depend on objects, which the solver may leave out. The file does not change the objects. An
error names the part that breaks a condition.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import mujoco
import numpy as np

from mjx_safety.sim.gremlins import GRAVITY
from mjx_safety.sim.robot_floor import wrong_on_floor
from mjx_safety.sim.robot_frame import wrong_frame
from mjx_safety.sim.robot_paths import path_outside
from mjx_safety.world.model_parts import (
    MEMORY_LIMITS,
    limit_of_contacts,
    part_name,
    root_joints,
    wrong_actuators,
    wrong_bodies,
    wrong_memory,
    wrong_time,
)
from mjx_safety.world.robots.base import Robot

_JOINT, _SENS, _EQ = mujoco.mjtJoint, mujoco.mjtSensor, mujoco.mjtEq
_DISABLE, _ENABLE = mujoco.mjtDisableBit, mujoco.mjtEnableBit
ROOTS = {"planar": (_JOINT.mjJNT_SLIDE, _JOINT.mjJNT_SLIDE, _JOINT.mjJNT_HINGE), "free": (_JOINT.mjJNT_FREE,)}
ROOT_WORDS = {"planar": "two slides and a hinge", "free": "one free joint"}
ROOT_NQ = {"planar": 3, "free": 7}  # coordinates of the root in qpos
FIELDS = {"gravity": (0.0, 0.0, -GRAVITY), "magnetic": (0.0, -0.5, 0.0)}  # of the scene: m/s^2; (1)
AXES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])  # of a planar root: slide x, slide y, hinge z
TIGHT = 1e-6  # of the solver; a looser one without islands stops for all bodies at once
BEYOND = 1e-6  # rad or m; a joint that starts further outside of its range is pushed back
DEFAULTS = ("geom", "joint", "equality", "pair")  # kinds of elements that a scene adds
NOT_VALUES = {"classname", "name", "plugin"}  # attributes of a default class that no element takes over
NO_SWITCHES = ("boundmass", "boundinertia", "settotalmass", "balanceinertia", "inertiagrouprange")  # act on all bodies
NO_FLAGS = {  # flags that would change the objects or their cost
    "constraint": _DISABLE.mjDSBL_CONSTRAINT,
    "equality": _DISABLE.mjDSBL_EQUALITY,
    "contact": _DISABLE.mjDSBL_CONTACT,
    "gravity": _DISABLE.mjDSBL_GRAVITY,
    "sensor": _DISABLE.mjDSBL_SENSOR,
    "refsafe": _DISABLE.mjDSBL_REFSAFE,
}
NO_EXTRA_FLAGS = {
    "override": _ENABLE.mjENBL_OVERRIDE,
    "diagexact": _ENABLE.mjENBL_DIAGEXACT,
    "speculative": _ENABLE.mjENBL_SPECULATIVE,
}
SENSED_ALONE = {  # sensors that depend on the robot alone
    *(_SENS.mjSENS_TOUCH, _SENS.mjSENS_ACCELEROMETER, _SENS.mjSENS_VELOCIMETER, _SENS.mjSENS_GYRO, _SENS.mjSENS_FORCE),
    *(_SENS.mjSENS_TORQUE, _SENS.mjSENS_MAGNETOMETER, _SENS.mjSENS_JOINTPOS, _SENS.mjSENS_JOINTVEL),
    *(_SENS.mjSENS_TENDONPOS, _SENS.mjSENS_TENDONVEL, _SENS.mjSENS_ACTUATORPOS, _SENS.mjSENS_ACTUATORVEL),
    *(_SENS.mjSENS_ACTUATORFRC, _SENS.mjSENS_JOINTACTFRC, _SENS.mjSENS_TENDONACTFRC, _SENS.mjSENS_BALLQUAT),
    *(_SENS.mjSENS_BALLANGVEL, _SENS.mjSENS_JOINTLIMITPOS, _SENS.mjSENS_JOINTLIMITVEL, _SENS.mjSENS_JOINTLIMITFRC),
    *(_SENS.mjSENS_TENDONLIMITPOS, _SENS.mjSENS_TENDONLIMITVEL, _SENS.mjSENS_TENDONLIMITFRC, _SENS.mjSENS_FRAMEPOS),
    *(_SENS.mjSENS_FRAMEQUAT, _SENS.mjSENS_FRAMEXAXIS, _SENS.mjSENS_FRAMEYAXIS, _SENS.mjSENS_FRAMEZAXIS),
    *(_SENS.mjSENS_FRAMELINVEL, _SENS.mjSENS_FRAMEANGVEL, _SENS.mjSENS_FRAMELINACC, _SENS.mjSENS_FRAMEANGACC),
    *(_SENS.mjSENS_SUBTREECOM, _SENS.mjSENS_SUBTREELINVEL, _SENS.mjSENS_SUBTREEANGMOM, _SENS.mjSENS_CLOCK),
}
POSITIONS = (_SENS.mjSENS_FRAMEPOS, _SENS.mjSENS_SUBTREECOM)  # sensors [3] m, the last of which is a height
AT_SITES = (  # sensors of a site, or of the forces on its body
    *(_SENS.mjSENS_TOUCH, _SENS.mjSENS_ACCELEROMETER, _SENS.mjSENS_VELOCIMETER, _SENS.mjSENS_GYRO, _SENS.mjSENS_FORCE),
    *(_SENS.mjSENS_TORQUE, _SENS.mjSENS_MAGNETOMETER),
)
SUBTREES = (_SENS.mjSENS_SUBTREECOM, _SENS.mjSENS_SUBTREELINVEL, _SENS.mjSENS_SUBTREEANGMOM)


def read_robot(robot: Robot) -> mujoco.MjSpec:
    """Read and check a robot's file. Its defaults apply to its own parts, not to the objects."""
    where, xml = describe(robot), Path(robot.xml)
    root = xml.parent if robot.asset_folder is None else Path(robot.asset_folder)
    stray = path_outside(xml, root)
    if stray is not None:
        raise ValueError(f"{where} asks for {stray!r}, which is outside of {root}: asset_folder allows another folder")
    try:
        spec = mujoco.MjSpec.from_file(str(robot.xml))
        if spec.body("robot") is None:
            raise ValueError(f"{where} has no body named 'robot'")
        switch = _wrong_switch(spec)
        if switch is not None:
            raise ValueError(f"{where} sets <compiler {switch}>, which would change the objects: leave it out")
        for size in MEMORY_LIMITS:
            setattr(spec, size, -1)
        model = spec.compile()
        if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "robot") < 0:  # as of a URDF's root
            raise ValueError(f"{where} has a body 'robot' without joints, which MuJoCo fuses with the world")
    except (ValueError, mujoco.FatalError) as error:
        if str(error).startswith(where):
            raise
        raise ValueError(f"{where} cannot be read: {one_line(error)}") from error
    problem = wrong_frame(spec)
    if problem is not None:
        raise ValueError(f"{where} {problem}")
    check_model(robot, model)
    _forget_defaults(spec)
    problem = wrong_on_floor(robot, spec)
    if problem is not None:
        raise ValueError(f"{where} {problem}")
    return spec


def _wrong_switch(spec: mujoco.MjSpec) -> str | None:
    """Return the first switch of the compiler that acts on all bodies of a model."""
    plain = mujoco.MjSpec()
    changed = (n for n in NO_SWITCHES if np.any(getattr(spec.compiler, n) != getattr(plain.compiler, n)))
    ignores_shapes = spec.compiler.inertiafromgeom == mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    return "inertiafromgeom" if ignores_shapes else next(changed, None)


def _forget_defaults(spec: mujoco.MjSpec) -> None:
    """Give the root default class MuJoCo's own values. The robot's elements already hold those of the file.

    A geom keeps its colour: objects bring their own, and pictures paint the floor.
    """
    plain = mujoco.MjSpec()
    for kind in DEFAULTS:
        own, fresh = getattr(spec.default, kind), getattr(plain.default, kind)
        names = {name for name, value in vars(type(own)).items() if isinstance(value, property) and value.fset}
        for name in names - NOT_VALUES - {"rgba"}:
            setattr(own, name, getattr(fresh, name))


@contextlib.contextmanager
def fitting(robot: Robot) -> Iterator[None]:
    """Name the robot's file in MuJoCo's errors about clashes with the floor or the objects."""
    try:
        yield
    except (ValueError, mujoco.FatalError) as error:
        raise ValueError(f"{describe(robot)} does not fit into the scene: {one_line(error)}") from error


def describe(robot: Robot) -> str:
    """Return the robot and its file for a message."""
    return f"the model {robot.xml} of robot {robot.name}"


def check_model(robot: Robot, model: mujoco.MjModel) -> None:
    """Raise ValueError if the robot's model does not match its value, or has parts that no scene can simulate."""
    checks: tuple[Callable[[Robot, mujoco.MjModel], str | None], ...] = (
        *(_wrong_options, _wrong_flags, _wrong_bodies, _wrong_root, _wrong_planar_root, _wrong_start, _wrong_geoms),
        *(_wrong_equalities, _wrong_tendons, _wrong_springs, _wrong_actuators, _wrong_sensors),
    )
    for check in checks:
        problem = check(robot, model)
        if problem is not None:
            raise ValueError(f"{describe(robot)} {problem}")


def _wrong_options(robot: Robot, model: mujoco.MjModel) -> str | None:
    plain, opt = mujoco.MjSpec().option, model.opt
    if (wrong := wrong_time(model)) is not None:
        return wrong
    for name, allowed in FIELDS.items():
        value = getattr(opt, name)
        if not (np.allclose(value, getattr(plain, name)) or np.allclose(value, allowed)):
            return f"sets <option {name}>, which is the scene's: leave it out"
    if opt.integrator == mujoco.mjtIntegrator.mjINT_DISCRETE:
        return "sets <option integrator> to discrete, which would move gremlins otherwise: take another integrator"
    for name in ("wind", "density", "viscosity", "noslip_iterations"):
        if np.any(getattr(opt, name)):
            return f"sets <option {name}>, which would move the objects: leave it out"
    limit = limit_of_contacts(model)
    return None if limit is None else f"sets <numeric {limit}>, which would limit the contacts of objects: leave it out"


def _wrong_flags(robot: Robot, model: mujoco.MjModel) -> str | None:
    opt = model.opt
    if opt.disableflags & _DISABLE.mjDSBL_ISLAND and opt.tolerance > TIGHT:
        return f"sets <flag island='disable'> and <option tolerance> above {TIGHT:g}: far objects would end the solver"
    flags = {name: opt.disableflags & bit for name, bit in NO_FLAGS.items()}
    flags |= {name: opt.enableflags & bit for name, bit in NO_EXTRA_FLAGS.items()}
    wrong = next((name for name, is_set in flags.items() if is_set), None)
    return None if wrong is None else f"sets <flag {wrong}>, which would change the objects: leave it out"


def _wrong_bodies(robot: Robot, model: mujoco.MjModel) -> str | None:
    return wrong_bodies(model, no_mover="no layout") or wrong_memory(model)


def _wrong_root(robot: Robot, model: mujoco.MjModel) -> str | None:
    root = model.body("robot")
    first, num = root.jntadr[0], root.jntnum[0]
    if list(model.jnt_type[first : first + num]) != [int(kind) for kind in ROOTS[robot.root_joint]]:
        wanted = ROOT_WORDS[robot.root_joint]
        return f"has other joints at its body 'robot' than root_joint={robot.root_joint!r}: {wanted}"
    if robot.root_joint == "free" and not robot.touches_floor:
        return "has a free joint, so it needs the floor: touches_floor must be True"
    if np.any(np.abs(root.quat[1:]) > 1e-6):
        return "has its body 'robot' turned, but layouts place it upright: turn its geoms and bodies instead"
    return None


def _wrong_planar_root(robot: Robot, model: mujoco.MjModel) -> str | None:
    """Find shifts and turns of a planar root, whose coordinates must be those of the world."""
    if robot.root_joint != "planar":
        return None
    root = model.body("robot")
    joints = slice(root.jntadr[0], root.jntadr[0] + 3)
    if not np.allclose(model.jnt_axis[joints], AXES, atol=1e-9):
        return "has a planar root with other axes than slide x, slide y, hinge z, in that order"
    if np.any(model.qpos0[:3]) or np.any(model.jnt_pos[joints]) or np.any(model.jnt_limited[joints]):
        return "has a planar root with ref, pos or range at its joints: leave them out, since layouts place the robot"
    if np.any(root.pos[:2]):
        return f"has its body 'robot' at pos {root.pos.tolist()}; x and y must be 0"
    if abs(root.pos[2] - robot.start_height) > 1e-6:
        return f"has its body 'robot' at z = {root.pos[2]:g} m; start_height is {robot.start_height:g} m"
    return None


def _wrong_start(robot: Robot, model: mujoco.MjModel) -> str | None:
    if not robot.start_joints:
        return None
    first = ROOT_NQ[robot.root_joint]
    if len(robot.start_joints) != model.nq - first:
        return f"has {model.nq - first} coordinates of inner joints; start_joints holds {len(robot.start_joints)}"
    pose = np.array([*[0.0] * first, *robot.start_joints])
    for index in sorted(set(np.flatnonzero(model.jnt_limited)) - set(root_joints(model))):
        start, (low, high) = model.jnt_qposadr[index], model.jnt_range[index]
        value = pose[start]
        if model.jnt_type[index] == int(_JOINT.mjJNT_BALL):  # its limit is that of the angle
            value = 2 * np.arctan2(np.linalg.norm(pose[start + 1 : start + 4]), abs(value))
        if not low - BEYOND <= value <= high + BEYOND:
            name = part_name(model.joint(index))
            return f"limits its joint {name} to [{low:g}, {high:g}]; start_joints puts it at {value:g}"
    return None


def _wrong_geoms(robot: Robot, model: mujoco.MjModel) -> str | None:
    own = model.body_rootid[model.geom_bodyid] == model.body("robot").id
    collides = (model.geom_contype | model.geom_conaffinity) > 0
    for geom in np.flatnonzero(collides):
        name = part_name(model.geom(geom))
        if not own[geom]:
            return f"has a solid geom {name} outside of the body 'robot': the floor is added, walls are in EnvConfig"
        if not (model.geom_contype[geom] | model.geom_conaffinity[geom]) & 1:
            return f"has a geom {name} that cannot touch the objects: bit 1 of contype or conaffinity must be set"
        if model.geom_margin[geom] or model.geom_gap[geom]:
            return f"has a margin or gap at its geom {name}, which would cost before anything is touched: leave it out"
    names = {model.geom(geom).name for geom in np.flatnonzero(own)}
    for name in (name for pair in robot.self_contacts for name in pair):
        if name not in names:
            return f"has no geom named {name!r}, which self_contacts names"
    return None


def _wrong_equalities(robot: Robot, model: mujoco.MjModel) -> str | None:
    """Find equalities that tie the robot to a place."""
    for index in range(model.neq):
        kind, ids = model.eq_type[index], np.array([model.eq_obj1id[index], model.eq_obj2id[index]])
        if kind == int(_EQ.mjEQ_JOINT):
            is_tie = bool(set(root_joints(model)) & set(ids.tolist()))
        elif kind in (int(_EQ.mjEQ_CONNECT), int(_EQ.mjEQ_WELD)):
            of_sites = model.eq_objtype[index] == int(mujoco.mjtObj.mjOBJ_SITE)
            bodies = model.site_bodyid[ids] if of_sites else ids
            is_tie = bool(np.any(model.body_rootid[bodies] != model.body("robot").id))
        else:
            continue
        if is_tie:
            return f"ties the body 'robot' to the world by its equality {part_name(model.equality(index))}"
    return None


def _wrong_tendons(robot: Robot, model: mujoco.MjModel) -> str | None:
    """Find tendons that run to a place outside of the robot, or that measure its root."""
    wraps = {
        mujoco.mjtWrap.mjWRAP_SITE: model.site_bodyid,
        mujoco.mjtWrap.mjWRAP_SPHERE: model.geom_bodyid,
        mujoco.mjtWrap.mjWRAP_CYLINDER: model.geom_bodyid,
    }
    ties = [
        np.any(model.body_rootid[bodies[model.wrap_objid[model.wrap_type == int(kind)]]] != model.body("robot").id)
        for kind, bodies in wraps.items()
    ]
    of_joints = model.wrap_objid[model.wrap_type == int(mujoco.mjtWrap.mjWRAP_JOINT)]
    if any(ties) or set(root_joints(model)) & set(of_joints.tolist()):
        return "ties the body 'robot' to the world by a tendon"
    return None


def _wrong_springs(robot: Robot, model: mujoco.MjModel) -> str | None:
    """Find springs that pull the robot to a place."""
    joints, num = root_joints(model), ROOT_NQ[robot.root_joint]
    stiff = np.any(model.jnt_stiffness[joints]) or np.any(model.jnt_stiffnesspoly[joints])
    if stiff or np.any(model.qpos_spring[:num] != model.qpos0[:num]):
        return "ties the body 'robot' to a place by stiffness or springref at its root joints: leave them out"
    return None


def _wrong_actuators(robot: Robot, model: mujoco.MjModel) -> str | None:
    return wrong_actuators(model)


def _wrong_sensors(robot: Robot, model: mujoco.MjModel) -> str | None:
    known = {model.sensor(index).name for index in range(model.nsensor)}
    missing = sorted(set(robot.sensors) - known)
    if missing:
        return f"has no sensor named {missing[0]!r}; Robot.sensors is {robot.sensors}: name sensors of the file"
    root = model.body("robot").id
    for index in range(model.nsensor):
        sensor, kind = model.sensor(index), mujoco.mjtSensor(model.sensor_type[index])
        name = part_name(sensor)
        if kind not in SENSED_ALONE:
            word = kind.name.removeprefix("mjSENS_").lower()
            return f"has a sensor {name} of type {word}, which may see more than the robot: leave it out"
        if kind in AT_SITES and model.body_rootid[model.site_bodyid[model.sensor_objid[index]]] != root:
            return f"has a sensor {name} at a site outside of the body 'robot', which does not sense the robot"
        if kind in SUBTREES and model.body_rootid[model.sensor_objid[index]] != root:
            return f"has a sensor {name} of a subtree that is not the robot's"
        if sensor.name in robot.heights and kind not in POSITIONS:
            word = kind.name.removeprefix("mjSENS_").lower()
            return f"has a sensor {name} of type {word} among heights, which take framepos and subtreecom"
    return None


def one_line(error: Exception) -> str:
    """Return the message of an error without its line breaks."""
    return " ".join(str(error).split())
