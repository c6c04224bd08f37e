"""Finds settings of the solver with which an object that nothing touches would not come to rest."""

from __future__ import annotations

import mujoco
import numpy as np

from mjx_safety.sim.quiet import no_warnings
from mjx_safety.world.objects import Vases

SETTINGS = ("solver", "cone", "iterations", "tolerance", "ls_iterations", "ls_tolerance", "impratio")
VASES, DROP, PUSH = 4, 1e-3, 0.1  # number; m, by which each starts higher than the last; m/s and rad/s, at the start
SETTLING, WATCHED = 500, 100  # physics steps in which the vases come to rest, and those that must then find them so
FRICTION = 6  # condim of the objects: sliding, torsional and rolling


def wrong_solver(option: mujoco.MjOption) -> str | None:
    """Return which settings of a file keep vases on the floor moving, so fast that they cost. None: they rest.

    The vases are dropped and pushed a little, and the file's integrator moves them in steps of the file's length.
    """
    plain = mujoco.MjSpec().option
    changed = [name for name in SETTINGS if getattr(option, name) != getattr(plain, name)]
    if not changed:
        return None
    vase = Vases()
    speed = _speed_at_rest(option, changed, vase)
    if speed < vase.velocity_threshold:
        return None
    them = "it" if len(changed) == 1 else "them"
    return (
        f"sets <option {', '.join(changed)}>, with which vases that nothing touches would move at {speed:.2g} m/s:"
        f" leave {them} out"
    )


def _speed_at_rest(option: mujoco.MjOption, changed: list[str], vase: Vases) -> float:
    """Largest speed of vases that had time to come to rest on the floor, m/s. Infinity: they blew up."""
    spec = mujoco.MjSpec()
    for name in (*changed, "timestep", "integrator"):
        setattr(spec.option, name, getattr(option, name))
    spec.option.disableflags = int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 1], condim=FRICTION)
    for index in range(VASES):
        body = spec.worldbody.add_body(pos=[index, 0, vase.height + index * DROP])
        body.add_freejoint()
        half_edges = [vase.size] * 3
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=half_edges, density=vase.density, condim=FRICTION)
    data, fastest = mujoco.MjData(spec.compile()), 0.0
    data.qvel[::7] = PUSH  # another coordinate of each vase
    with no_warnings(), np.errstate(all="ignore"):
        for index in range(SETTLING + WATCHED):
            mujoco.mj_step(data.model, data)
            if index >= SETTLING:
                fastest = max(fastest, float(np.linalg.norm(data.qvel.reshape(-1, 6)[:, :3], axis=-1).max()))
    return fastest if np.all(np.isfinite(data.qvel)) else np.inf
