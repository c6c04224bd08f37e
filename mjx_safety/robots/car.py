"""Car: two driven wheels and a free ball. 2 actions: torques of the left and the right wheel. It drives towards -y."""

from dataclasses import replace
from functools import partial

from mjx_safety.robots.base import ASSETS, Robot

CAR = Robot(
    name="Car",
    xml=str(ASSETS / "car.xml"),
    root_joint="free",
    start_height=0.1,
    sensors=("accelerometer", "velocimeter", "gyro", "magnetometer", "ballangvel_rear", "ballquat_rear"),
)
Car = partial(replace, CAR)  # Car(keepout=0.5): the same robot with other settings
