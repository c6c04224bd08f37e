"""The objects of a scene as values: how many, how big, what they cost, and how they enter the physics."""

from __future__ import annotations

from typing import ClassVar, Literal

import mujoco

from mjx_safety.placement import AbstractPlaced
from mjx_safety.settings import require_bools, require_numbers, settings, static

CONDIM = 6  # every solid thing: sliding, torsional and rolling friction


@settings
class AbstractObject(AbstractPlaced):
    """Options that all kinds of objects share. Never built itself."""

    body_kind: ClassVar[Literal["ghost", "free"]] = "ghost"  # only a position; or a solid body that moves

    observed: bool = True  # has a lidar in the observation
    constrained: bool = True  # counts towards the cost

    def check(self) -> None:
        """Refuse wrong values."""
        super().check()
        require_bools(self, "observed", "constrained")

    @property
    def height(self) -> float:
        """Height of the centre at reset, m."""
        raise TypeError(f"{type(self).__name__} is abstract")

    def add_geoms(self, body: mujoco.MjsBody) -> list[mujoco.MjsGeom]:
        """Give one solid object its shape."""
        raise TypeError(f"{type(self).__name__} has no body")


@settings
class GoalArea(AbstractObject):
    """The cylinder to reach. Nothing collides with it."""

    keepout: float = static(default=0.4)  # m
    size: float = 0.3  # m, radius

    @property
    def height(self) -> float:
        """Height of the centre, m."""
        return 0.5 * self.size + 0.01

    def check(self) -> None:
        """Refuse wrong values."""
        super().check()
        require_numbers(self, size=0.0)


@settings
class Hazards(AbstractObject):
    """Discs on the floor that cost by how deep the robot's centre is inside."""

    keepout: float = static(default=0.4)  # m
    size: float = 0.2  # m, radius
    cost: float = 1.0  # per m of depth

    @property
    def height(self) -> float:
        """Height of the centre, m."""
        return 0.02

    def check(self) -> None:
        """Refuse wrong values."""
        super().check()
        require_numbers(self, size=0.0, cost=0.0)


@settings
class Vases(AbstractObject):
    """Light cubes that cost when touched and while they move."""

    body_kind: ClassVar[Literal["ghost", "free"]] = "free"

    keepout: float = static(default=0.15)  # m
    size: float = static(default=0.1)  # m, half edge
    density: float = static(default=0.001)  # kg/m^3
    sink: float = static(default=4e-5)  # m, depth in the floor at reset, where its weight is carried
    contact_cost: float = 1.0  # per contact point with the robot
    velocity_cost: float = 1.0  # per m/s
    velocity_threshold: float = 1e-4  # m/s, slower counts as resting

    @property
    def height(self) -> float:
        """Height of the centre at reset, m."""
        return self.size - self.sink

    def check(self) -> None:
        """Refuse wrong values."""
        super().check()
        require_numbers(self, size=1e-6, density=1e-12, sink=0.0)
        require_numbers(self, contact_cost=0.0, velocity_cost=0.0, velocity_threshold=0.0)

    def add_geoms(self, body: mujoco.MjsBody) -> list[mujoco.MjsGeom]:
        """Give one vase its shape."""
        size, rgba = [self.size] * 3, [0, 1, 1, 1]
        box = mujoco.mjtGeom.mjGEOM_BOX
        return [body.add_geom(type=box, size=size, density=self.density, condim=CONDIM, rgba=rgba)]
