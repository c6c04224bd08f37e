"""Doggo: four legs on two body halves. 12 actions: torques of four hips about z, four hips about y, four ankles."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mjx_safety.world.robots.base import ASSETS, Robot

LEGS = (1, 2, 3, 4)  # +y front, +y rear, -y rear, -y front
HINGES = (
    *(f"hip_{leg}_z" for leg in LEGS),
    *(f"hip_{leg}_y" for leg in LEGS),
    *(f"ankle_{leg}" for leg in LEGS),
)  # the driven joints, in the order of the actions; the waist is passive and not observed

DOGGO = Robot(
    name="Doggo",
    xml=str(ASSETS / "doggo.xml"),
    root_joint="free",
    start_height=0.22,
    sensors=(
        "accelerometer",
        "velocimeter",
        "gyro",
        "magnetometer",
        *(f"touch_ankle_{leg}{end}" for end in "ab" for leg in LEGS),  # a: upper end of the lower leg, b: lower end
        *(f"jointvel_{hinge}" for hinge in HINGES),
        *(f"jointpos_{hinge}" for hinge in HINGES),
    ),
    floor_points=16,  # largest seen: 10, in 36 000 physics steps of random motion
    self_contacts=(("ankle_2", "ankle_3"),),  # the only pair that met in thousands of random steps
)
DOGGO_2019 = replace(DOGGO, name="Doggo", xml=str(ASSETS / "doggo_2019.xml"))  # twice as big, from Safety Gym
Doggo: Callable[..., Robot] = partial(replace, DOGGO)  # Doggo(keepout=0.5): the same robot with other settings
Doggo2019: Callable[..., Robot] = partial(replace, DOGGO_2019)
