"""Facts of a robot's compiled model that the checks of all robots and the engines share."""

from __future__ import annotations

import mujoco
import numpy as np

_GAIN, _BIAS, _DYN = mujoco.mjtGain, mujoco.mjtBias, mujoco.mjtDyn
_AFFINE_GAINS = (int(_GAIN.mjGAIN_FIXED), int(_GAIN.mjGAIN_AFFINE))
_AFFINE_BIASES = (int(_BIAS.mjBIAS_NONE), int(_BIAS.mjBIAS_AFFINE))
SUNK = 1e-3  # m; a shape that starts deeper in the floor is thrown out
NO_NUMERICS = ("max_geom_pairs", "max_contact_points")  # which limit the contacts of all bodies on MJX
MEMORY_LIMITS = ("memory", "nstack", "njmax", "nconmax")  # of a file's <size>; the engines choose their own


def part_name(part: object) -> str:
    """Return the name of a part of a model for a message: quoted, or its number if it has none."""
    return repr(part.name) if part.name else f"number {part.id}"  # type: ignore[attr-defined]


def limit_of_contacts(model: mujoco.MjModel) -> str | None:
    """Return the name of a numeric that limits contacts on MJX and not on the other engines; None if there is none."""
    numerics = {model.numeric(index).name for index in range(model.nnumeric)}
    return next((name for name in NO_NUMERICS if name in numerics), None)


def root_joints(model: mujoco.MjModel) -> list[int]:
    """Return the joints of the body 'robot', in order."""
    root = model.body("robot")
    return list(range(root.jntadr[0], root.jntadr[0] + root.jntnum[0]))


def have_affine_forces(model: mujoco.MjModel) -> np.ndarray:
    """Return whether the force of each actuator is affine in control, length and velocity, [nactuator] bool."""
    return np.isin(model.actuator_gaintype, _AFFINE_GAINS) & np.isin(model.actuator_biastype, _AFFINE_BIASES)


def wrong_bodies(model: mujoco.MjModel, no_mover: str) -> str | None:
    """Return which body besides 'robot' could move; None if none does. no_mover: what moves no mocap body, in words."""
    root = model.body("robot").id
    if model.body_parentid[root] != 0:
        return "has its body 'robot' inside another; it must be a child of the worldbody"
    for body in np.flatnonzero(model.body_rootid != root)[1:]:
        name = part_name(model.body(body))
        if model.body_mocapid[body] >= 0:
            return f"has a mocap body {name}, which {no_mover} moves: only the body 'robot' may move"
        if model.body_jntnum[body]:
            return f"has joints at its body {name} outside of the body 'robot': only that may move"
    return None


def wrong_memory(model: mujoco.MjModel) -> str | None:
    """Return which part has a state that no `State` holds; None if none has."""
    kinds = {"flex": (model.nflex, mujoco.mjtObj.mjOBJ_FLEX), "plugin": (model.nplugin, mujoco.mjtObj.mjOBJ_PLUGIN)}
    for kind, (number, obj) in kinds.items():
        if number:
            name = mujoco.mj_id2name(model, obj, 0)
            return f"has a {kind} {repr(name) if name else 'number 0'}, whose state no episode carries"
    delays = {"actuator": (model.actuator_history, model.actuator), "sensor": (model.sensor_history, model.sensor)}
    for kind, (samples, get) in delays.items():
        for index in np.flatnonzero(samples[:, 0]):
            return f"has a delay at its {kind} {part_name(get(index))}, whose history no episode carries"
    if model.nplastic:
        return "has a joint or a tendon with springyield, whose rest length no episode carries"
    for name, bit in {"sleep": mujoco.mjtEnableBit.mjENBL_SLEEP, "ipc": mujoco.mjtEnableBit.mjENBL_IPC}.items():
        if model.opt.enableflags & bit:
            return f"sets <flag {name}>, whose state no episode carries: leave it out"
    return None


def wrong_time(model: mujoco.MjModel) -> str | None:
    """Return why no step could be taken with the actuators; None if it can."""
    if not 0.0 < model.opt.timestep < np.inf:
        return f"sets <option timestep> to {model.opt.timestep:g}; it must be a time above 0 s"
    if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_ACTUATION:
        return "sets <flag actuation>, so its actuators would never act: leave it out"
    return None


def wrong_actuators(model: mujoco.MjModel) -> str | None:
    """Return what prevents actions of one number per actuator in [-1, 1]; None if nothing does."""
    if model.nu == 0:
        return "has no actuator"
    for index in np.flatnonzero(model.actuator_ctrlnum != 1):
        name, number = part_name(model.actuator(index)), model.actuator_ctrlnum[index]
        return f"has an actuator {name} with {number} controls; each actuator takes one (a single `input`)"
    users = {_DYN.mjDYN_USER: model.actuator_dyntype, _GAIN.mjGAIN_USER: model.actuator_gaintype}
    users |= {_BIAS.mjBIAS_USER: model.actuator_biastype}
    for index in range(model.nu):
        name = part_name(model.actuator(index))
        if not model.actuator_ctrllimited[index]:
            return f"has no ctrlrange for its actuator {name}"
        if np.abs(model.actuator_ctrlrange[index]).max() > mujoco.mjMAXVAL:
            return f"has a ctrlrange beyond {mujoco.mjMAXVAL:g} at its actuator {name}, which MuJoCo never applies"
        if any(types[index] == int(user) for user, types in users.items()):
            return f"has an actuator {name} of type user, which depends on functions of the program"
    if model.opt.disableactuator:
        return "switches actuators off (<option actuatorgroupdisable>): leave them out instead"
    return None
