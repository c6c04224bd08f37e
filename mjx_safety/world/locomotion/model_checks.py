"""Refuses parts of a model that a `LocomotionEnv` cannot simulate.

A file must meet three conditions. Every state of an episode follows from the state that is carried between steps. The
first coordinates are the robot's place on the floor. Nothing depends on that place, since each step runs at the origin.
An error names the file and the part that breaks a condition.
"""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np

from mjx_safety.world.locomotion.config import ANYTHING, LocomotionConfig
from mjx_safety.world.model_parts import (
    SUNK,
    have_affine_forces,
    limit_of_contacts,
    part_name,
    root_joints,
    wrong_actuators,
    wrong_bodies,
    wrong_memory,
    wrong_time,
)

_JOINT, _TRN, _EQ, _WRAP = mujoco.mjtJoint, mujoco.mjtTrn, mujoco.mjtEq, mujoco.mjtWrap
_GAIN, _BIAS = mujoco.mjtGain, mujoco.mjtBias
AXES = np.eye(3)  # of a place on the floor: slide x, slide y; of a height: slide z
PLACE_WORDS = {1: "a slide along x", 2: "slides along x and y"}  # travel -> the first joints of the robot
ASIDE, OBLIQUE = 0.7, (0.5, 0.1, 0.7, 0.5)  # rad or m, and a quaternion: a pose that fits no symmetry
SMALL = 1e-5  # m
AT_ORIGIN = "and each step runs at the origin: leave it out"


def describe(config: LocomotionConfig) -> str:
    """Return the robot and its file for a message."""
    return f"the model {config.xml} of robot {config.name}"


def check_model(config: LocomotionConfig, model: mujoco.MjModel) -> None:
    """Raise ValueError if the robot's model does not match its value, or has parts that no step can simulate."""
    checks: tuple[Callable[[LocomotionConfig, mujoco.MjModel], str | None], ...] = (
        *(_wrong_names, _wrong_bodies, _wrong_root, _wrong_place, _wrong_health, _wrong_origin),
        *(_wrong_floor, _wrong_solids, _wrong_limits, _wrong_equalities, _wrong_tendons),
        *(_wrong_actuators, _wrong_drives, _wrong_flags, _wrong_start),
    )
    for check in checks:
        problem = check(config, model)
        if problem is not None:
            raise ValueError(f"{describe(config)} {problem}")


def _wrong_names(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    names = {"body": (model.nbody, model.body, "robot"), "geom": (model.ngeom, model.geom, "floor")}
    for kind, (num, get, name) in names.items():
        if name not in {get(i).name for i in range(num)}:
            return f"has no {kind} named {name!r}"
    return None


def _wrong_bodies(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    return wrong_bodies(model, no_mover="nothing") or wrong_memory(model)


def _wrong_limits(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    limit = limit_of_contacts(model)
    return None if limit is None else f"sets <numeric {limit}>, which limits contacts on MJX alone: leave it out"


def _wrong_root(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    """Find a root whose first coordinates are not its place on the floor."""
    joints, axes = root_joints(model), _world_axes(model)
    if joints and _is(model, joints[0], _JOINT.mjJNT_FREE):
        return None if config.travel == 2 else "has a free joint, whose place on the floor has 2 coordinates: travel=2"
    wanted = f"does not begin with {PLACE_WORDS[config.travel]}, or a free joint, at its body 'robot'"
    for index, axis in enumerate(AXES[: config.travel]):
        if index == len(joints):
            return f"{wanted}, as travel={config.travel} says; it has {len(joints)} joints there"
        if not _is(model, joints[index], _JOINT.mjJNT_SLIDE) or not np.allclose(axes[joints[index]], axis, atol=1e-6):
            name = part_name(model.joint(joints[index]))
            return f"{wanted}, as travel={config.travel} says: its joint {name} is another"
    for joint in joints[config.travel :]:
        if _is(model, joint, _JOINT.mjJNT_SLIDE) and not np.allclose(np.abs(axes[joint]), AXES[2], atol=1e-6):
            name = part_name(model.joint(joint))
            return f"has a slide {name} at its body 'robot' that is neither vertical nor among the first travel slides"
    return None


def _wrong_place(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    """Find forces of the joints that hold the robot's place on the floor."""
    for joint in _place_joints(config, model):
        start, is_free = model.jnt_qposadr[joint], _is(model, joint, _JOINT.mjJNT_FREE)
        problems = {
            "range": model.jnt_limited[joint],
            "stiffness": model.jnt_stiffness[joint] or np.any(model.jnt_stiffnesspoly[joint]),
            "ref": model.qpos0[start] and not is_free,  # that of a free joint is the body's own place
        }
        wrong = next((word for word, is_set in problems.items() if is_set), None)
        if wrong is not None:
            name = part_name(model.joint(joint))
            return f"has a {wrong} at its joint {name}, which holds the place on the floor, {AT_ORIGIN}"
    return None


def _wrong_health(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    """Find healthy ranges of coordinates that the root does not have."""
    joints, axes = root_joints(model), _world_axes(model)
    is_free, rest = _is(model, joints[0], _JOINT.mjJNT_FREE), joints[config.travel :]
    lifts = bool(rest) and _is(model, rest[0], _JOINT.mjJNT_SLIDE) and np.allclose(axes[rest[0]], AXES[2], atol=1e-6)
    if config.healthy_height != ANYTHING and not (is_free or lifts):
        return "has no slide along +z after the place on the floor at its body 'robot', which healthy_height needs"
    tilts = lifts and len(rest) == 2 and _is(model, rest[1], _JOINT.mjJNT_HINGE) and abs(axes[rest[1]][2]) < 1e-6
    if config.healthy_angle != ANYTHING and not tilts:
        return (
            "has no hinge about a horizontal axis as the only joint after a slide along +z at its body 'robot', "
            "which healthy_angle needs"
        )
    starts = {
        "healthy_height": (model.body("robot").pos[2], config.healthy_height),
        "healthy_angle": (0.0, config.healthy_angle),
    }
    for name, (start, (low, high)) in starts.items():
        if not low < start < high:
            return f"starts at {start:g}, outside of {name} {(low, high)}, so each episode would last one step"
    farthest = float(np.max(np.abs(model.qpos0[config.travel :]), initial=0.0))
    if not farthest < config.healthy_state:
        return f"starts with a coordinate of {farthest:g}; healthy_state {config.healthy_state:g} must be above it"
    return None


def _wrong_origin(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    """Find joints that move the root's origin besides those of the place and the height, which alone are measured."""
    joints, needs_height = root_joints(model), config.healthy_height != ANYTHING
    if _is(model, joints[0], _JOINT.mjJNT_FREE):
        return None
    data, root = mujoco.MjData(model), model.body("robot").id
    mujoco.mj_kinematics(model, data)
    start = data.xpos[root].copy()
    for joint in joints[config.travel + needs_height :]:
        coordinate = model.jnt_qposadr[joint]
        if _is(model, joint, _JOINT.mjJNT_BALL):
            data.qpos[coordinate : coordinate + 4] = OBLIQUE
        else:
            data.qpos[coordinate] += ASIDE
        mujoco.mj_kinematics(model, data)
        *aside, lifted = np.abs(data.xpos[root] - start) > SMALL
        moves = f"has a joint {part_name(model.joint(joint))} that moves the origin of its body 'robot'"
        if needs_height and lifted:
            return f"{moves}, and healthy_height reads the first slide along z alone: put the joint there"
        if config.point == "root" and any(aside):
            return f"{moves}, and point='root' reads the first slides alone: put the joint there, or take point='com'"
    return None


def _wrong_floor(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    floor = model.geom("floor").id
    if model.geom_type[floor] != int(mujoco.mjtGeom.mjGEOM_PLANE):
        return "has a geom 'floor' that is no plane: it must be the same everywhere"
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    if not np.allclose(data.geom_xmat[floor].reshape(3, 3)[:, 2], AXES[2], atol=1e-6):
        return "has a geom 'floor' that is not level: it must be the same everywhere"
    return None


def _wrong_solids(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    solid = (model.geom_contype | model.geom_conaffinity) > 0
    solid[model.pair_geom1] = solid[model.pair_geom2] = True
    solid[model.geom("floor").id] = False
    for geom in np.flatnonzero(solid & _outside(model)[model.geom_bodyid]):
        return f"has a solid geom {part_name(model.geom(geom))} in the world besides the plane 'floor', {AT_ORIGIN}"
    return None


def _wrong_equalities(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    """Find equalities that tie the robot to a place."""
    place, outside = _place_joints(config, model), _outside(model)
    for index in range(model.neq):
        ids, kind = np.array([model.eq_obj1id[index], model.eq_obj2id[index]]), _EQ(model.eq_type[index])
        ties = kind == _EQ.mjEQ_JOINT and bool(set(ids.tolist()) & set(place))
        if kind in (_EQ.mjEQ_CONNECT, _EQ.mjEQ_WELD):
            is_site = model.eq_objtype[index] == int(mujoco.mjtObj.mjOBJ_SITE)
            ties = np.any(outside[model.site_bodyid[ids] if is_site else ids])
        if ties:
            return f"ties the body 'robot' to the world by its equality {part_name(model.equality(index))}, {AT_ORIGIN}"
    return None


def _wrong_tendons(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    """Find tendons that tie the robot to a place."""
    place, outside = _place_joints(config, model), _outside(model)
    ties = {
        _WRAP.mjWRAP_JOINT: np.isin(np.arange(model.njnt), place),
        _WRAP.mjWRAP_SITE: outside[model.site_bodyid],
        **dict.fromkeys((_WRAP.mjWRAP_SPHERE, _WRAP.mjWRAP_CYLINDER), outside[model.geom_bodyid]),
    }
    for tendon in range(model.ntendon):
        start = model.tendon_adr[tendon]
        for wrap in range(start, start + model.tendon_num[tendon]):
            kind = _WRAP(model.wrap_type[wrap])
            if kind in ties and ties[kind][model.wrap_objid[wrap]]:
                return (
                    f"ties the body 'robot' to the world by its tendon {part_name(model.tendon(tendon))}, {AT_ORIGIN}"
                )
    return None


def _wrong_actuators(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    return wrong_actuators(model)


def _wrong_drives(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    """Find actuators whose force depends on the place."""
    place, outside = _place_joints(config, model), _outside(model)
    on_joints, on_sites = (_TRN.mjTRN_JOINT, _TRN.mjTRN_JOINTINPARENT), (_TRN.mjTRN_SITE, _TRN.mjTRN_SLIDERCRANK)
    for index in range(model.nu):
        kind, ids = _TRN(model.actuator_trntype[index]), model.actuator_trnid[index]
        pulls = kind in on_joints and ids[0] in place and _uses_length(model, index)
        reaches = kind in on_sites and np.any(outside[model.site_bodyid[ids[ids >= 0]]])
        if pulls or reaches:
            return f"has an actuator {part_name(model.actuator(index))} whose force depends on the place, {AT_ORIGIN}"
    return None


def _wrong_flags(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    needs_sensors = config.point == "com" or "cfrc_ext" in config.entries
    if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_SENSOR and needs_sensors:
        return "sets <flag sensor>, but point='com' and the entry 'cfrc_ext' need sensors: leave it out"
    return wrong_time(model)


def _wrong_start(config: LocomotionConfig, model: mujoco.MjModel) -> str | None:
    """Find a robot that starts in the floor, which throws it out."""
    data, floor = mujoco.MjData(model), model.geom("floor").id
    mujoco.mj_fwdPosition(model, data)
    deep = max((-contact.dist for contact in data.contact if floor in contact.geom), default=0.0)
    return f"starts {deep:.2g} m in the floor: raise its body 'robot'" if deep > SUNK else None


def _uses_length(model: mujoco.MjModel, actuator: int) -> bool:
    """Whether the force of an actuator depends on its length."""
    gain, bias = _GAIN(model.actuator_gaintype[actuator]), _BIAS(model.actuator_biastype[actuator])
    return not have_affine_forces(model)[actuator] or bool(
        (gain == _GAIN.mjGAIN_AFFINE and model.actuator_gainprm[actuator, 1])
        or (bias == _BIAS.mjBIAS_AFFINE and model.actuator_biasprm[actuator, 1])
    )


def _place_joints(config: LocomotionConfig, model: mujoco.MjModel) -> list[int]:
    """Joints whose coordinates are the place on the floor."""
    joints = root_joints(model)
    return joints[:1] if _is(model, joints[0], _JOINT.mjJNT_FREE) else joints[: config.travel]


def _world_axes(model: mujoco.MjModel) -> np.ndarray:
    """Axes of the joints in the model's own pose, world frame, [njnt, 3]."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return data.xaxis.copy()


def _outside(model: mujoco.MjModel) -> np.ndarray:
    """Whether each body is fixed in the world, not a part of the robot, [nbody] bool."""
    return model.body_rootid != model.body("robot").id


def _is(model: mujoco.MjModel, joint: int, kind: mujoco.mjtJoint) -> bool:
    return _JOINT(model.jnt_type[joint]) == kind
