"""Ant: four legs around a ball. 8 actions: torques of the hip and the ankle of each leg."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mjx_safety.world.robots.base import ASSETS, Robot

HINGES = tuple(f"{joint}_{leg}" for leg in (1, 2, 3, 4) for joint in ("hip", "ankle"))
# legs: 1 +x +y, 2 -x +y, 3 -x -y, 4 +x -y
DOWN = math.pi / 2  # rad, angle of an ankle whose foot points to the floor

ANT = Robot(
    name="Ant",
    xml=str(ASSETS / "ant.xml"),
    root_joint="free",
    start_height=0.18,
    start_joints=(0.0, DOWN, 0.0, -DOWN, 0.0, -DOWN, 0.0, DOWN),
    joint_noise=0.1,
    lowest=0.08,
    sensors=(
        "accelerometer",
        "velocimeter",
        "gyro",
        "magnetometer",
        *(f"jointvel_{hinge}" for hinge in HINGES),
        "height",
        "angvel",
        *(f"jointpos_{hinge}" for hinge in HINGES),
    ),
    heights=("height",),
    floor_points=12,  # largest seen: 8, in 9 000 physics steps of random motion without self-contacts
)
Ant: Callable[..., Robot] = partial(replace, ANT)  # Ant(keepout=0.5): the same robot with other settings
