"""Range and saturation of a robot's actuators, as its page tells them."""

from __future__ import annotations

import mujoco
import numpy as np
from tabular import number

from mjx_safety import Env


def saturation_text(env: Env) -> str:
    """Say from which action on the force no longer changes; nothing where all actions count."""
    model = env.mj_model
    limits = [
        (float(actuator_limits(model, i)[1]), model.actuator(i).name, is_servo(model, i)) for i in range(model.nu)
    ]
    low = {name: full for full, name, servo in limits if not servo and full < 1.0}
    servos = {name: full for full, name, servo in limits if servo and full < 1.0}
    if not low and not servos:
        return ""
    if len({*low.values(), *servos.values()}) > 1 or not low:
        raise SystemExit("docs/generate.py: saturation_text has no words for actuators that saturate like this")
    full = number(next(iter({**servos, **low}.values())))
    names = " and ".join(f"`{name}`" for name in low)
    text = (
        f"Actions of {names} beyond ±{full} have the same effect as ±{full}, because the actuator's force range is"
        " limited, as in Safety Gym."
    )
    if not servos:
        return text
    turning = " and ".join(f"`{name}`" for name in servos)
    return f"{text} For {turning} this holds at rest: the servo's force also depends on the turning rate."


def is_servo(model: mujoco.MjModel, i: int) -> bool:
    """Whether the force of an actuator also depends on a position or a rate."""
    return bool(model.actuator_biastype[i] != mujoco.mjtBias.mjBIAS_NONE)


def actuator_limits(model: mujoco.MjModel, i: int) -> tuple[str, str, str]:
    """Return the range of an action, where it saturates, and the largest force or torque."""
    low, high = model.actuator_ctrlrange[i]
    gain, full = model.actuator_gainprm[i, 0], high
    if model.actuator_forcelimited[i]:
        full = min(high, model.actuator_forcerange[i, 1] / gain)
    gear = model.actuator_gear[i]
    is_joint = model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT
    turns = is_joint and model.jnt_type[model.actuator_trnid[i, 0]] == mujoco.mjtJoint.mjJNT_HINGE
    largest = float(np.linalg.norm(gear[:1] if is_joint else gear)) * gain * full
    return f"[{number(low)}, {number(high)}]", number(full), f"{number(largest)} {'N m' if turns else 'N'}"
