"""The table of placed objects and the rectangles where each may stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mjx_safety.core.settings import (
    Rectangle,
    freeze,
    is_rectangle,
    require,
    require_at_least,
    require_count,
    settings,
    static,
)

FARTHEST = 1000.0  # m from the origin; single precision counts in 6e-5 m there, and a robot below 0.02 m/s stands still
ROUNDING = 1e-6  # of distances in single precision, relative to 1 m more than the largest coordinate
NEARBY = f"within {FARTHEST:g} m of the origin along x and y, because positions are in single precision"


@settings
class AbstractPlaced:
    """Where a layout may place objects of one kind. Abstract."""

    num: int = 1
    """Number of objects."""
    keepout: float = static(default=0.0)
    """Radius of the circle that other keepout circles must not overlap, in m."""
    placements: tuple[Rectangle, ...] | None = None
    """Rectangles to place in, in m; None: the environment's extents."""
    locations: tuple[tuple[float, float], ...] = ()
    """Fixed places of the first objects, in m."""

    def check(self) -> None:
        """Refuse wrong values."""
        require_count(self, "num")
        require_at_least(self, keepout=0.0)
        placements = self.placements
        has_some = isinstance(placements, (tuple, list)) and len(placements) > 0
        are_rectangles = placements is None or (has_some and all(map(is_rectangle, placements)))
        require(are_rectangles, self, "placements", "None or at least one rectangle (xmin, ymin, xmax, ymax) in m")
        are_points = isinstance(self.locations, (tuple, list)) and all(map(_is_point, self.locations))
        require(
            are_points and len(self.locations) <= self.num, self, "locations", f"at most {self.num} pairs (x, y) in m"
        )
        require(placements is None or all(map(is_near, placements)), self, "placements", NEARBY)
        require(all(map(is_near, self.locations)), self, "locations", NEARBY)

    def __post_init__(self) -> None:
        self.check()
        freeze(self, "placements", "locations")


def is_near(coordinates: Iterable[float]) -> bool:
    """Return whether all coordinates are at most FARTHEST, in m."""
    return all(abs(value) <= FARTHEST for value in coordinates)


def _is_point(value: object) -> bool:
    return isinstance(value, (tuple, list)) and is_rectangle((*value, *value))


@struct.dataclass
class PlacementTable:
    """All placed objects in the order of placement: N objects, at most R rectangles each."""

    rectangles: jax.Array  # [N, R, 4] m, already shrunk by the keepout
    probs: jax.Array  # [N, R] probability of each rectangle, by its area
    keepout: jax.Array  # [N] m
    margin: jax.Array  # [] m, added to every sum of two keepouts; a little less than the settings say, for rounding
    slices: tuple[tuple[str, int, int], ...] = struct.field(pytree_node=False)  # kind, first index, one past the last

    def rows(self, kind: str) -> slice:
        """Return the rows that belong to a kind."""
        return {name: slice(start, stop) for name, start, stop in self.slices}[kind]


def placement_table(kinds: Mapping[str, AbstractPlaced], extents: Rectangle, margin: float) -> PlacementTable:
    """Build the table of all kinds. Raises a ValueError that names a kind without any room.

    kinds: name -> kind, in the order of placement; extents, margin: m.
    """
    rows, keepouts, slices = [], [], []
    for name, kind in kinds.items():
        for index in range(kind.num):
            rows.append(_shrunk_rectangles(name, kind, index, extents))
            keepouts.append(kind.keepout)
        slices.append((name, len(rows) - kind.num, len(rows)))
    width = max(len(row) for row in rows)
    rectangles, probs = np.zeros((len(rows), width, 4), np.float32), np.zeros((len(rows), width), np.float32)
    for i, row in enumerate(rows):
        rectangles[i] = row[-1]  # the rest repeats it, with probability 0
        rectangles[i, : len(row)] = row
        area = np.prod(row[:, 2:] - row[:, :2], axis=-1)
        probs[i, : len(row)] = area / area.sum() if area.sum() > 0 else 1 / len(row)
    rounding = ROUNDING * (1.0 + float(np.abs(rectangles).max()))  # fixed places may stand just as near as allowed
    return PlacementTable(
        rectangles=jnp.asarray(rectangles),
        probs=jnp.asarray(probs),
        keepout=jnp.asarray(keepouts, jnp.float32),
        margin=jnp.float32(margin) - jnp.float32(rounding),
        slices=tuple(slices),
    )


def _shrunk_rectangles(name: str, kind: AbstractPlaced, index: int, extents: Rectangle) -> np.ndarray:
    if index < len(kind.locations):
        return np.array([[*kind.locations[index], *kind.locations[index]]])
    given = np.array([extents] if kind.placements is None else kind.placements, float)
    shrunk = given + kind.keepout * np.array([1, 1, -1, -1])
    shrunk = shrunk[(shrunk[:, 0] <= shrunk[:, 2]) & (shrunk[:, 1] <= shrunk[:, 3])]
    if not len(shrunk):
        where = "extents" if kind.placements is None else "placements"
        raise ValueError(
            f"no room to place {name}: keepout {kind.keepout:g} m leaves nothing of its {where} {given.tolist()}"
        )
    return shrunk
