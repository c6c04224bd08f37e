"""The objects of a scene as values: number, size, cost, shapes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

from typing_extensions import override

from mjx_safety.core.settings import is_at_least, require, require_at_least, require_bools, settings, static
from mjx_safety.core.shapes import Shape
from mjx_safety.world.placement.table import AbstractPlaced

BodyKind = Literal["marker", "fixed", "free", "driven"]
Rgba = tuple[float, float, float, float]


@settings
class AbstractObject(AbstractPlaced):
    """Options that all kinds of objects share. Abstract.

    `body_kind` is their part in the physics. A `marker` is a position without a body. A `fixed` body is solid and stays
    in its place for the episode. A `free` body moves. A `driven` body moves and is tied to a moving target.
    """

    body_kind: ClassVar[BodyKind] = "marker"
    turned: ClassVar[bool] = True  # has a random heading
    slots: ClassVar[int | None] = None  # how many the solver takes at a time (mjx); None: all
    rgba: ClassVar[Rgba] = (0.5, 0.5, 0.5, 1.0)

    observed: bool = True
    """Has a lidar in the observation."""
    constrained: bool = True
    """Counts towards the cost."""

    @override
    def check(self) -> None:
        super().check()
        require(self.body_kind in get_args(BodyKind), self, "body_kind", f"one of {', '.join(get_args(BodyKind))}")
        require_bools(self, "observed", "constrained")

    @property
    def height(self) -> float:
        """Height of the centre at reset, m."""
        raise TypeError(f"{type(self).__name__} is abstract")

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of one object, in its body's frame."""
        raise TypeError(f"{type(self).__name__} is abstract")

    @property
    def planar_radius(self) -> Any:
        """Largest distance of an object's surface from the upright axis of its body, m."""
        return max(shape.planar_radius for shape in self.shapes)

    @property
    def yaws(self) -> tuple[float, ...]:
        """Headings of objects that are not `turned`, rad."""
        return (0.0,) * self.num


@settings
class GoalArea(AbstractObject):
    """The cylinder that the robot must reach. Nothing collides with it."""

    rgba: ClassVar[Rgba] = (0.0, 1.0, 0.0, 0.25)

    keepout: float = static(default=0.4)
    """Radius of the keepout circle, in m."""
    size: float = 0.3
    """Radius, in m."""
    compass: bool = False
    """Has a compass in the observation."""

    @override
    def check(self) -> None:
        super().check()
        require_at_least(self, size=0.0)
        require_bools(self, "compass")

    @property
    @override
    def height(self) -> float:
        return 0.5 * self.size + 0.01

    @property
    @override
    def shapes(self) -> tuple[Shape, ...]:
        return (Shape("cylinder", (self.size, 0.5 * self.size)),)


@settings
class Hazards(AbstractObject):
    """Discs on the floor. Their cost is the depth of the robot's centre inside."""

    rgba: ClassVar[Rgba] = (0.0, 0.0, 1.0, 0.25)

    keepout: float = static(default=0.4)
    """Radius of the keepout circle, in m."""
    size: float = 0.2
    """Radius, in m."""
    cost: float = 1.0
    """Cost per m of depth."""

    @override
    def check(self) -> None:
        super().check()
        require_at_least(self, size=0.0, cost=0.0)

    @property
    @override
    def height(self) -> float:
        return 0.02

    @property
    @override
    def shapes(self) -> tuple[Shape, ...]:
        return (Shape("cylinder", (self.size, 0.01)),)


@settings
class Vases(AbstractObject):
    """Light cubes that cost when the robot touches them and while they move."""

    body_kind: ClassVar[BodyKind] = "free"
    slots: ClassVar[int | None] = 4
    rgba: ClassVar[Rgba] = (0.0, 1.0, 1.0, 1.0)

    keepout: float = static(default=0.15)
    """Radius of the keepout circle, in m."""
    size: float = static(default=0.1)
    """Half edge, in m."""
    density: float = static(default=0.001)
    """In kg/m^3."""
    sink: float = static(default=4e-5)
    """Depth in the floor at reset, where the floor carries its weight, in m."""
    contact_cost: float = 1.0
    """Cost per contact point with the robot."""
    velocity_cost: float = 1.0
    """Cost per m/s."""
    velocity_threshold: float = 1e-4
    """Speed below which a vase counts as at rest, in m/s."""
    displace_cost: float = static(default=0.0)
    """Cost per m from the place at reset; 0: no such cost."""
    displace_threshold: float = 1e-3
    """Distance below which a vase counts as in place, in m."""

    @override
    def check(self) -> None:
        super().check()
        require_at_least(self, size=1e-6, density=1e-12)
        can_rise = is_at_least(self.sink, 0.0) and self.sink < self.size
        require(can_rise, self, "sink", f"a finite number of at least 0 and below the size, {self.size}")
        require_at_least(self, contact_cost=0.0, velocity_cost=0.0, velocity_threshold=0.0)
        require_at_least(self, displace_cost=0.0, displace_threshold=0.0)

    @property
    @override
    def height(self) -> float:
        return self.size - self.sink

    @property
    @override
    def shapes(self) -> tuple[Shape, ...]:
        return (_cube(self.size),)


@settings
class Pillars(AbstractObject):
    """Fixed cylinders that cost when the robot touches them."""

    body_kind: ClassVar[BodyKind] = "fixed"
    slots: ClassVar[int | None] = 3
    rgba: ClassVar[Rgba] = (0.5, 0.5, 1.0, 1.0)

    keepout: float = static(default=0.3)
    """Radius of the keepout circle, in m."""
    size: float = static(default=0.2)
    """Radius, in m."""
    half_height: float = static(default=0.5)
    """Half of the height, in m."""
    cost: float = 1.0
    """Cost per contact point with the robot."""

    @override
    def check(self) -> None:
        super().check()
        require_at_least(self, size=1e-6, half_height=1e-6, cost=0.0)

    @property
    @override
    def height(self) -> float:
        return self.half_height

    @property
    @override
    def shapes(self) -> tuple[Shape, ...]:
        return (Shape("cylinder", (self.size, self.half_height)),)


@settings
class Buttons(AbstractObject):
    """Balls fixed on the floor that cost on touch: in the task Button only the wrong ones, elsewhere all."""

    body_kind: ClassVar[BodyKind] = "fixed"
    slots: ClassVar[int | None] = 3
    rgba: ClassVar[Rgba] = (1.0, 0.5, 0.0, 1.0)

    keepout: float = static(default=0.2)
    """Radius of the keepout circle, in m."""
    size: float = static(default=0.1)
    """Radius, in m."""
    cost: float = 1.0
    """Cost per contact point with the robot."""

    @override
    def check(self) -> None:
        super().check()
        require_at_least(self, size=1e-6, cost=0.0)

    @property
    @override
    def height(self) -> float:
        return self.size

    @property
    @override
    def shapes(self) -> tuple[Shape, ...]:
        return (Shape("sphere", (self.size,)),)


@settings
class Gremlins(AbstractObject):
    """Light cubes that circle their places in phase, and cost when the robot touches them."""

    body_kind: ClassVar[BodyKind] = "driven"
    slots: ClassVar[int | None] = 3
    rgba: ClassVar[Rgba] = (0.5, 0.0, 1.0, 1.0)

    keepout: float = static(default=0.5)
    """Radius of the keepout circle, in m."""
    size: float = static(default=0.1)
    """Half edge, in m."""
    density: float = static(default=0.001)
    """In kg/m^3."""
    travel: float = static(default=0.3)
    """Radius of the circle, in m."""
    contact_cost: float = 1.0
    """Cost per contact point with the robot."""

    @override
    def check(self) -> None:
        super().check()
        require_at_least(self, size=1e-6, density=1e-12, travel=0.0, contact_cost=0.0)

    @property
    @override
    def height(self) -> float:
        return self.size

    @property
    @override
    def shapes(self) -> tuple[Shape, ...]:
        return (_cube(self.size),)


@settings
class PushBox(AbstractObject):
    """The box to push: a cube with four corner posts that the robot can hook."""

    body_kind: ClassVar[BodyKind] = "free"
    rgba: ClassVar[Rgba] = (1.0, 1.0, 0.0, 1.0)

    keepout: float = static(default=0.2)
    """Radius of the keepout circle, in m."""
    size: float = static(default=0.2)
    """Half edge of the cube, in m."""
    density: float = static(default=0.001)
    """In kg/m^3."""
    compass: bool = False
    """Has a compass in the observation."""

    @override
    def check(self) -> None:
        super().check()
        require_at_least(self, size=1e-6, density=1e-12)
        require_bools(self, "compass")

    @property
    @override
    def height(self) -> float:
        return self.size

    @property
    @override
    def shapes(self) -> tuple[Shape, ...]:
        s = self.size
        posts = [Shape("box", (s / 2, s / 2, s), (x * s, y * s, 0.0)) for x in (1, -1) for y in (1, -1)]
        return (_cube(s), *posts)


@settings
class Walls(AbstractObject):
    """Solid cubes along the axes, without cost."""

    body_kind: ClassVar[BodyKind] = "fixed"
    turned: ClassVar[bool] = False

    size: float = static(default=0.5)
    """Half edge, in m."""

    @override
    def check(self) -> None:
        super().check()
        require_at_least(self, size=1e-6)

    @property
    @override
    def height(self) -> float:
        return self.size

    @property
    @override
    def shapes(self) -> tuple[Shape, ...]:
        return (_cube(self.size),)


@settings
class CircleArea(AbstractObject):
    """The circle that the robot runs along, by default around the origin. Nothing collides with it."""

    turned: ClassVar[bool] = False
    rgba: ClassVar[Rgba] = (0.0, 1.0, 0.0, 0.1)

    locations: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    """Its centre, in m."""
    radius: float = 1.5
    """Radius of the circle, in m."""

    @override
    def check(self) -> None:
        super().check()
        require_at_least(self, radius=0.0)

    @property
    @override
    def height(self) -> float:
        return 0.01

    @property
    @override
    def shapes(self) -> tuple[Shape, ...]:
        return (Shape("cylinder", (self.radius, 0.01)),)


def _cube(half_edge: float) -> Shape:
    return Shape("box", (half_edge, half_edge, half_edge))
