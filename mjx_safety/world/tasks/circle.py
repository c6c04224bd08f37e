"""Circle: run fast along a circle, by default around the origin. Levels 1 and 2 add lines not to be crossed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from typing_extensions import override

from mjx_safety.core.geometry import norm
from mjx_safety.core.settings import require, require_at_least, settings
from mjx_safety.world.boundary import Boundary
from mjx_safety.world.lidar import Lidar
from mjx_safety.world.objects import AbstractObject, CircleArea
from mjx_safety.world.readings import Readings
from mjx_safety.world.robots.base import Robot
from mjx_safety.world.tasks.base import AbstractTask

MIN_RADIUS = 1e-6  # m, keeps the direction around the centre defined


@settings
class Circle(AbstractTask):
    """Reward is the counter-clockwise speed around the circle's centre, less at a distance from the circle. No goal."""

    circle: CircleArea = CircleArea()
    """The circle to run along."""
    reward_factor: float = 0.1
    """Reward per m/s along the circle."""

    name: ClassVar[str] = "Circle"

    @property
    @override
    def objects(self) -> dict[str, AbstractObject]:
        return {"circle": self.circle}

    def __post_init__(self) -> None:
        require(isinstance(self.circle, CircleArea) and self.circle.num == 1, self, "circle", "one CircleArea(...)")
        require_at_least(self, reward_factor=-math.inf)

    @override
    def init(self, readings: Readings, key: jax.Array) -> None:
        """Nothing to remember."""

    @override
    def reward(self, readings: Readings, memory: None) -> tuple[jax.Array, jax.Array]:
        place = readings.root_pos[:2] - readings.pos["circle"][0, :2]
        (x, y), (u, v) = place, readings.root_linvel[:2]
        radius = jnp.maximum(norm(place), MIN_RADIUS)
        speed = (x * v - y * u) / radius
        return self.reward_factor * speed / (1.0 + jnp.abs(radius - self.circle.radius)), jnp.bool_(False)

    @override
    def advance(self, readings: Readings, memory: None, goal_met: jax.Array, key: jax.Array) -> None:
        return None


def presets(robot: Robot) -> tuple[dict[str, Any], ...]:
    """Settings of `EnvConfig` for levels 0, 1, 2."""
    common = {
        "robot": dataclasses.replace(robot, keepout=0.0, placements=((-0.8, -0.8, 0.8, 0.8),)),
        "task": Circle(),
        "lidar": Lidar(max_dist=6.0),
        "episode_length": 500,
    }
    return (common, {**common, "boundary": Boundary(num=2)}, {**common, "boundary": Boundary(num=4)})
