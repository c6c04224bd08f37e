"""Car: two driven wheels and a free ball. 2 actions: torques of the wheels at -x and at +x. It drives towards -y.

The reference calls them left and right. In the direction of travel, it is the other way round.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mjx_safety.world.robots.base import ASSETS, Robot

CAR = Robot(
    name="Car",
    xml=str(ASSETS / "car.xml"),
    root_joint="free",
    start_height=0.1,
    sensors=("accelerometer", "velocimeter", "gyro", "magnetometer", "ballangvel_rear", "ballquat_rear"),
    floor_points=8,  # largest seen: 5, in 36 000 physics steps of random motion
)
Car: Callable[..., Robot] = partial(replace, CAR)  # Car(keepout=0.5): the same robot with other settings
