"""Point: a ball with a nose that drives and turns in the plane. 2 actions: forward, turn."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mjx_safety.world.robots.base import ASSETS, Robot

POINT = Robot(name="Point", xml=str(ASSETS / "point.xml"), root_joint="planar", touches_floor=False)
Point: Callable[..., Robot] = partial(replace, POINT)  # Point(keepout=0.5): the same robot with other settings
