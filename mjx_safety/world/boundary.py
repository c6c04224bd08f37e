"""Lines that the robot must not cross."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from typing_extensions import override

from mjx_safety.core.settings import require, require_at_least, settings, static
from mjx_safety.core.shapes import Shape
from mjx_safety.world.objects import AbstractObject, Rgba

_PLACED_BY = "`distance` places the lines"


@settings
class Boundary(AbstractObject):
    """Two or four straight lines. Each step beyond them costs. Nothing collides with the drawn walls."""

    turned: ClassVar[bool] = False
    rgba: ClassVar[Rgba] = (1.0, 1.0, 0.0, 0.1)

    num: int = 2
    """Number of lines. 2: at x = +-distance; 4: also at y = +-distance."""
    observed: bool = False
    """Has a lidar in the observation."""
    distance: float = static(default=1.125)
    """Distance of each line from the origin, in m."""
    half_length: float = static(default=3.5)
    """Half of the length of the drawn walls, in m."""
    cost: float = 1.0
    """Cost per step."""

    @override
    def check(self) -> None:
        require_at_least(self, distance=0.0, half_length=1e-6, cost=0.0)
        require(self.num in (2, 4), self, "num", "2 or 4")
        require(_are_lines(self.locations), self, "locations", f"left out, since {_PLACED_BY}")
        object.__setattr__(self, "locations", _lines(self.distance)[: self.num])
        super().check()
        require(self.placements is None, self, "placements", f"None, since {_PLACED_BY}")

    @property
    @override
    def height(self) -> float:
        return 0.25

    @property
    @override
    def yaws(self) -> tuple[float, ...]:
        return (0.0, 0.0, 0.5 * math.pi, 0.5 * math.pi)[: self.num]

    @property
    @override
    def shapes(self) -> tuple[Shape, ...]:
        """A wall across the x axis."""
        return (Shape("box", (0.05, self.half_length, 0.3)),)


def _lines(distance: float) -> tuple[tuple[float, float], ...]:
    """Return the places of four lines around the origin, in m."""
    return ((distance, 0.0), (-distance, 0.0), (0.0, distance), (0.0, -distance))


def _are_lines(places: Any) -> bool:
    """Return whether places are empty, or lines at some distance, as `dataclasses.replace` passes them on."""
    try:
        points = tuple((x, y) for x, y in places)
    except (TypeError, ValueError):
        return False
    return not points or (len(points) in (2, 4) and points == _lines(points[0][0])[: len(points)])
