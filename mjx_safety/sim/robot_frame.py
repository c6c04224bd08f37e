"""Finds free joints that move the origin of a robot."""

from __future__ import annotations

import mujoco
import numpy as np

_FREE, _ALIGN = mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtAlignFree
MOVED = 1e-9  # m, and a share of a quaternion


def wrong_frame(spec: mujoco.MjSpec) -> str | None:
    """Say whether the body `robot` of a file lies elsewhere because its free joint is aligned with its inertia."""
    body = spec.body("robot")
    aligns = [joint.align for joint in ([] if body is None else body.joints) if joint.type == _FREE]
    is_default = bool(aligns) and aligns[0] == _ALIGN.mjALIGNFREE_AUTO
    if not aligns or aligns[0] == _ALIGN.mjALIGNFREE_FALSE or (is_default and not spec.compiler.alignfree):
        return None
    plain = spec.copy()
    for joint in plain.body("robot").joints:
        joint.align = _ALIGN.mjALIGNFREE_FALSE
    found, wanted = (each.compile().body("robot") for each in (spec.copy(), plain))
    if np.allclose(found.pos, wanted.pos, atol=MOVED) and np.allclose(found.quat, wanted.quat, atol=MOVED):
        return None
    cause = "<compiler alignfree>" if is_default else "align at its free joint"
    return f"sets {cause}, which moves the origin of its body 'robot' to the centre of mass: leave it out"
