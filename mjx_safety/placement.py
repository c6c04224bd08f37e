"""Sampling layouts: every object at a random place, no two closer than their keepouts, by the reference's law.

The law is sequential: objects are placed one after the other, each at the first of up to 100 uniform candidates that
keeps its distance to those already there; an object without such a candidate sends the whole layout back to the first
object. Candidates are drawn in small blocks whose first valid member is taken, which is the same law.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mjx_safety.settings import (
    Rectangle,
    freeze,
    is_rectangle,
    require,
    require_count,
    require_numbers,
    settings,
    static,
)

TRIES_PER_OBJECT = 100
MAX_LAYOUTS = 10_000
MAX_REDRAWS = 10_000
BLOCK = 10  # candidates drawn at once; divides the limits above


@settings
class AbstractPlaced:
    """Where things of one kind may be put. Never built itself."""

    num: int = 1
    keepout: float = static(default=0.0)  # m, radius that other keepouts must not enter
    placements: tuple[Rectangle, ...] | None = None  # m; None: the environment's extents
    locations: tuple[tuple[float, float], ...] = ()  # m, fixed places of the first ones

    def check(self) -> None:
        """Refuse wrong values."""
        require_count(self, "num")
        require_numbers(self, keepout=0.0)
        placements = self.placements
        some = isinstance(placements, (tuple, list)) and len(placements) > 0
        rectangles = placements is None or (some and all(map(is_rectangle, placements)))
        require(rectangles, self, "placements", "None or at least one rectangle (xmin, ymin, xmax, ymax) in m")
        pairs = isinstance(self.locations, (tuple, list)) and all(map(_is_point, self.locations))
        require(pairs and len(self.locations) <= self.num, self, "locations", f"at most {self.num} pairs (x, y) in m")

    def __post_init__(self) -> None:
        self.check()
        freeze(self, "placements", "locations")


def _is_point(value: object) -> bool:
    return isinstance(value, (tuple, list)) and is_rectangle((*value, *value))


@struct.dataclass
class PlacementTable:
    """All placed things in the order of placement: N things, R rectangles at most for each."""

    rectangles: jax.Array  # [N, R, 4] m, already shrunk by the keepout
    probs: jax.Array  # [N, R] chance of each rectangle, by its area
    keepout: jax.Array  # [N] m
    margin: jax.Array  # [] m, added to every sum of two keepouts
    slices: tuple[tuple[str, int, int], ...] = struct.field(pytree_node=False)  # kind, first index, one past the last

    def rows(self, kind: str) -> slice:
        """Return the rows that belong to a kind."""
        return next(slice(start, stop) for name, start, stop in self.slices if name == kind)


def placement_table(kinds: Mapping[str, AbstractPlaced], extents: Rectangle, margin: float) -> PlacementTable:
    """Lay out the rectangles of all kinds. Raises ValueError naming the kind that has no room at all.

    kinds: name -> what to place, in the order of placement; extents, margin: m.
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
        rectangles[i, : len(row)] = row
        area = np.prod(row[:, 2:] - row[:, :2], axis=-1)
        probs[i, : len(row)] = area / area.sum() if area.sum() > 0 else 1 / len(row)
    return PlacementTable(
        rectangles=jnp.asarray(rectangles),
        probs=jnp.asarray(probs),
        keepout=jnp.asarray(keepouts, jnp.float32),
        margin=jnp.float32(margin),
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


@struct.dataclass
class _Search:
    """A layout being built."""

    xy: jax.Array  # [N, 2] m
    placed: jax.Array  # [] int32, how many things have their place
    tries: jax.Array  # [] int32, candidates drawn for the next one
    layouts: jax.Array  # [] int32, layouts given up
    blocks: jax.Array  # [] int32, blocks of candidates drawn so far


def sample_layout(key: jax.Array, table: PlacementTable, redrawn: int | None = None) -> tuple[jax.Array, jax.Array]:
    """Draw a layout. Returns positions [N, 2] m and whether it failed [] bool (then keepouts are violated).

    redrawn: row of a thing that gets another place, clear of all the others, once everything stands (the reference
    does so with the goal). Each turn of the loop draws one block of candidates for the next thing. Under `vmap` the
    worlds go at their own pace, so a batch needs as many turns as its slowest world.
    """
    num = table.keepout.shape[0]
    num_places = num if redrawn is None else num + 1  # places to find

    def unfinished(search: _Search) -> jax.Array:
        return (search.placed < num_places) & (search.layouts < MAX_LAYOUTS)

    def place_next(search: _Search) -> _Search:
        again = search.placed == num
        row = search.placed if redrawn is None else jnp.where(again, redrawn, search.placed)
        there = (jnp.arange(num) < search.placed) & (jnp.arange(num) != row)
        candidate, found = _first_valid(jax.random.fold_in(key, search.blocks), table, row, search.xy, there)
        tries = search.tries + BLOCK
        restart = ~found & (tries >= jnp.where(again, MAX_REDRAWS, TRIES_PER_OBJECT))
        return _Search(
            xy=jnp.where(found, search.xy.at[row].set(candidate), search.xy),
            placed=jnp.where(restart, 0, search.placed + found),
            tries=jnp.where(found | restart, 0, tries),
            layouts=search.layouts + restart * jnp.where(again, MAX_LAYOUTS, 1),  # a failed redraw is final
            blocks=search.blocks + 1,
        )

    zero = jnp.int32(0)
    start = _Search(xy=jnp.zeros((num, 2)), placed=zero, tries=zero, layouts=zero, blocks=zero)
    search = jax.lax.while_loop(unfinished, place_next, start)
    return search.xy, search.placed < num_places


def redraw(
    key: jax.Array, table: PlacementTable, row: int, xy: jax.Array, needed: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw a new place for one thing, clear of all the others. Costs nothing while no world needs one.

    row: which thing; xy: [N, 2] m, where everything is now; needed: [] bool. Returns its position [2] m (the old one
    where not needed) and whether the draw failed [] bool.
    """
    others = jnp.arange(xy.shape[0]) != row

    def unfinished(carry: tuple) -> jax.Array:
        _, found, blocks = carry
        return needed & ~found & (blocks < MAX_REDRAWS // BLOCK)

    def draw(carry: tuple) -> tuple:
        position, _, blocks = carry
        candidate, found = _first_valid(jax.random.fold_in(key, blocks), table, jnp.int32(row), xy, others)
        return jnp.where(found, candidate, position), found, blocks + 1

    start = (xy[row], jnp.zeros_like(needed), jnp.int32(0))
    position, found, _ = jax.lax.while_loop(unfinished, draw, start)
    return position, needed & ~found


def _first_valid(
    key: jax.Array, table: PlacementTable, row: jax.Array, xy: jax.Array, there: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the first of BLOCK candidates [2] m that is clear of all things `there` [N], and whether one is."""
    uniform = jax.random.uniform(key, (BLOCK, 3))
    below = jnp.cumsum(table.probs[row])[:-1]  # one rectangle: nothing to choose
    chosen = table.rectangles[row][jnp.sum(uniform[:, 2:] >= below, axis=-1)]
    candidates = chosen[:, :2] + uniform[:, :2] * (chosen[:, 2:] - chosen[:, :2])
    gap = jnp.sqrt(jnp.sum((candidates[:, None] - xy) ** 2, axis=-1))  # [BLOCK, N]
    clear = gap >= table.keepout[row] + table.keepout + table.margin
    valid = jnp.all(clear | ~there, axis=-1)
    return candidates[jnp.argmax(valid)], jnp.any(valid)
