"""Features of a model that MJX-JAX leaves out without a word, or refuses only once it steps."""

from __future__ import annotations

import mujoco
import numpy as np

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
IN_FLUIDS = {"geom_fluid": ("geom", "fluidshape")}


def what_mjx_lacks(model: mujoco.MjModel) -> str | None:
    """Name a feature that MJX lacks, and the element that asks for it. None: MJX moves the model as C does."""
    if model.opt.integrator not in INTEGRATORS:
        return f"the integrator {_INTEGRATOR(model.opt.integrator).name.removeprefix('mjINT_').lower()}"
    if model.opt.noslip_iterations:
        return "noslip_iterations"
    gaps = GAPS | IN_FLUIDS if model.opt.density or model.opt.viscosity else GAPS
    for field, (kind, words) in gaps.items():
        values = getattr(model, field)
        for row in np.flatnonzero(np.any(values, axis=tuple(range(1, values.ndim)))):
            part = model.joint(model.dof_jntid[row]) if field.startswith("dof") else getattr(model, kind)(row)
            return f"{words}, which {kind} {part_name(part)} has"
    return None
