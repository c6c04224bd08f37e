"""Features of a model that MJX-JAX leaves out without a word, or refuses only once it steps."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
from mujoco import mjx

from mjx_safety.world.model_parts import part_name

_INTEGRATOR = mujoco.mjtIntegrator
INTEGRATORS = {_INTEGRATOR.mjINT_EULER, _INTEGRATOR.mjINT_RK4, _INTEGRATOR.mjINT_IMPLICITFAST}
SEVERAL = "with several coefficients"
GAPS = {  # field of a model -> the kind of element that sets it, and the words for it
    "dof_dampingpoly": ("joint", f"damping {SEVERAL}"),
    "jnt_stiffnesspoly": ("joint", f"stiffness {SEVERAL}"),
    "tendon_dampingpoly": ("tendon", f"damping {SEVERAL}"),
    "tendon_stiffnesspoly": ("tendon", f"stiffness {SEVERAL}"),
    "actuator_armature": ("actuator", "armature"),
    "actuator_damping": ("actuator", "damping"),
    "actuator_dampingpoly": ("actuator", f"damping {SEVERAL}"),
    "actuator_actearly": ("actuator", "actearly"),
    "geom_surfacevel": ("geom", "surfacevel"),
    "geom_adhesion": ("geom", "adhesion"),
    "pair_adhesion": ("pair", "adhesion"),
}
PASSIVE = {"spring": mujoco.mjtDisableBit.mjDSBL_SPRING, "damper": mujoco.mjtDisableBit.mjDSBL_DAMPER}  # off together
IN_FLUIDS = {"geom_fluid": ("geom", "fluidshape")}
FORCES = (mujoco.mjtSensor.mjSENS_FORCE, mujoco.mjtSensor.mjSENS_TORQUE)
SPATIAL = (mujoco.mjtWrap.mjWRAP_SITE, mujoco.mjtWrap.mjWRAP_SPHERE, mujoco.mjtWrap.mjWRAP_CYLINDER)


def what_mjx_lacks(model: mujoco.MjModel, fields: Sequence[str] = ()) -> str | None:
    """Name a feature that MJX lacks, and the element that asks for it. None: MJX moves the model as C does.

    fields: of `mjData` that are measured.
    """
    if model.opt.integrator not in INTEGRATORS:
        return f"the integrator {_INTEGRATOR(model.opt.integrator).name.removeprefix('mjINT_').lower()}"
    if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
        return "the solver PGS"
    if model.opt.noslip_iterations:
        return "noslip_iterations"
    for name, bit in PASSIVE.items():
        if model.opt.disableflags & bit:
            return f"<flag {name}='disable'/>"
    gaps = GAPS | IN_FLUIDS if model.opt.density or model.opt.viscosity else GAPS
    for field, (kind, words) in gaps.items():
        values = getattr(model, field)
        for row in np.flatnonzero(np.any(values, axis=tuple(range(1, values.ndim)))):
            part = model.joint(model.dof_jntid[row]) if field.startswith("dof") else getattr(model, kind)(row)
            return f"{words}, which {kind} {part_name(part)} has"
    for kind in ("joint", "tendon"):
        if rows := _both_limits(model, "jnt" if kind == "joint" else kind):
            part = getattr(model, kind)(rows[0])
            return f"limits of which both act at once, as the margin of {kind} {part_name(part)} asks"
    senses_forces = "cfrc_ext" in fields or np.any(np.isin(model.sensor_type, FORCES))
    if senses_forces and np.any(np.isin(model.wrap_type, SPATIAL)):
        what = "cfrc_ext" if "cfrc_ext" in fields else "sensors of type force and torque"
        return f"the forces of spatial tendons in {what}"
    return None


def _both_limits(model: mujoco.MjModel, kind: str) -> list[int]:
    """Return the joints ("jnt") or tendons that can be near both limits at once. MJX sees the nearer one."""
    limited, margin, ends = (getattr(model, f"{kind}_{name}") for name in ("limited", "margin", "range"))
    is_range = model.jnt_type != mujoco.mjtJoint.mjJNT_BALL if kind == "jnt" else True  # a ball has one limit
    return np.flatnonzero((limited != 0) & is_range & (ends[:, 1] - ends[:, 0] < 2 * margin)).tolist()


def without_touch(model: mjx.Model) -> mjx.Model:
    """Switch off touch sensors, which MJX 3.17 cannot evaluate without contacts. They read 0."""
    is_touch = model.sensor_type == mujoco.mjtSensor.mjSENS_TOUCH
    stages = np.where(is_touch, int(mujoco.mjtStage.mjSTAGE_NONE), model.sensor_needstage)
    return model.replace(sensor_needstage=stages)


def without_friction_cones(model: mjx.Model) -> mjx.Model:
    """Choose pyramids in a model without contacts, to which MJX 3.17 cannot apply its elliptic cones."""
    return model.replace(opt=model.opt.replace(cone=mjx.ConeType.PYRAMIDAL))


def without_idle_parts(model: mjx.Model) -> mjx.Model:
    """Switch off touch sensors and elliptic cones in a model in which nothing can touch."""
    has_touch = mujoco.mjtSensor.mjSENS_TOUCH in model.sensor_type
    if not has_touch and model.opt.cone == mjx.ConeType.PYRAMIDAL:
        return model
    can_touch = mjx.make_data(model)._impl.contact.dim.size > 0  # type: ignore[union-attr]
    return model if can_touch else without_friction_cones(without_touch(model))
