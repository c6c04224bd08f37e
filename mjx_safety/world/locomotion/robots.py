"""The six robots of the Velocity environments in version 1, and the differences of version 0.

The numbers are those of safety-gymnasium 1.0.0 over Gymnasium's v4 environments. A threshold is half of the highest
speed that PPO reached there without a limit.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from mjx_safety.world.locomotion.config import ASSETS, LocomotionConfig

HALF_CHEETAH = LocomotionConfig(
    name="HalfCheetah",
    xml=str(ASSETS / "half_cheetah.xml"),
    frameskip=5,
    threshold=3.2096,
    control_cost=0.1,
    reset_noise=0.1,
    reset_velocity="normal",
)
HOPPER = LocomotionConfig(
    name="Hopper",
    xml=str(ASSETS / "hopper.xml"),
    frameskip=4,
    velocity_clip=10.0,
    threshold=0.7402,
    control_cost=1e-3,
    healthy_reward=1.0,
    healthy_height=(0.7, float("inf")),
    healthy_angle=(-0.2, 0.2),
    healthy_state=100.0,
    reset_noise=5e-3,
)
WALKER2D = LocomotionConfig(
    name="Walker2d",
    xml=str(ASSETS / "walker2d.xml"),
    frameskip=4,
    velocity_clip=10.0,
    threshold=2.3415,
    control_cost=1e-3,
    healthy_reward=1.0,
    healthy_height=(0.8, 2.0),
    healthy_angle=(-1.0, 1.0),
    reset_noise=5e-3,
)
SWIMMER = LocomotionConfig(
    name="Swimmer",
    xml=str(ASSETS / "swimmer.xml"),
    frameskip=4,
    travel=2,
    threshold=0.2282,
    control_cost=1e-4,
    reset_noise=0.1,
)
ANT = LocomotionConfig(
    name="Ant",
    xml=str(ASSETS / "ant.xml"),
    frameskip=5,
    travel=2,
    threshold=2.6222,
    direction="any",
    control_cost=0.5,
    healthy_reward=1.0,
    healthy_height=(0.2, 1.0),
    reset_noise=0.1,
    reset_velocity="normal",
)
HUMANOID = LocomotionConfig(
    name="Humanoid",
    xml=str(ASSETS / "humanoid.xml"),
    frameskip=5,
    travel=2,
    point="com",
    entries=("qpos", "qvel", "cinert", "cvel", "qfrc_actuator", "cfrc_ext"),
    threshold=1.4149,
    direction="any",
    forward_reward=1.25,
    control_cost=0.1,
    healthy_reward=5.0,
    healthy_height=(1.0, 2.0),
    reset_noise=1e-2,
)

ROBOTS: tuple[LocomotionConfig, ...] = (HALF_CHEETAH, HOPPER, WALKER2D, SWIMMER, ANT, HUMANOID)
VERSION_0: dict[str, dict[str, Any]] = {  # robot -> its settings in version 0
    "HalfCheetah": {"threshold": 2.8795},
    "Hopper": {"threshold": 0.37315},
    "Walker2d": {"threshold": 1.7075},
    "Swimmer": {"threshold": 0.04845, "direction": "any"},
    "Ant": {"threshold": 2.5745},
    "Humanoid": {"threshold": 2.3475},
}


def presets() -> dict[str, LocomotionConfig]:
    """All environments by name: for each robot its version 0, if any, then its version 1."""
    found = {}
    for robot in ROBOTS:
        if robot.name in VERSION_0:
            found[f"Safety{robot.name}Velocity-v0"] = dataclasses.replace(robot, **VERSION_0[robot.name])
        found[f"Safety{robot.name}Velocity-v1"] = robot
    return found
