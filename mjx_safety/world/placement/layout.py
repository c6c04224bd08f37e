"""Samples layouts by the reference's law: random places, no two closer than their keepouts.

The law is sequential. It places one object after the other, each at the first of up to 100 uniform candidates that is
clear of the objects already placed. If an object has no such candidate, the layout starts again from the first object.
This code draws candidates in small blocks and takes the first valid one, which is the same law.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.extend.random import threefry_2x32

from mjx_safety.core.reductions import total
from mjx_safety.world.placement.table import PlacementTable

TRIES_PER_OBJECT = 100
MAX_LAYOUTS = 10_000
MAX_REDRAWS = 10_000
BLOCK = 10  # candidates drawn at once; divides the limits above
UNROLLED = 64  # objects; the program for more compiles for seconds per hundred if it is unrolled
FAR = 1e6  # m, coordinates of unplaced objects: clear of everything


@struct.dataclass
class Search:
    """A layout being built."""

    xy: jax.Array  # [N, 2] m, FAR for unplaced objects
    placed: jax.Array  # [] int32, places found: N make a layout, plus one if an object is redrawn
    tries: jax.Array  # [] int32, candidates drawn for the next place
    running: jax.Array  # [] bool, neither complete nor given up


def empty_search(num_things: int, running: jax.Array) -> Search:
    """Begin a layout. N = num_things; running: [] bool."""
    zero = jnp.int32(0)
    return Search(xy=jnp.full((num_things, 2), FAR), placed=zero, tries=zero, running=running)


def place_next(search: Search, table: PlacementTable, uniform: jax.Array, redrawn: int | None) -> Search:
    """Try one block of candidates for the next thing, if the search is running.

    uniform: [2 or 3, BLOCK] in [0, 1), see `block_shape`; redrawn: as in `sample_layout`.
    """
    num = table.keepout.shape[0]
    num_places = num if redrawn is None else num + 1
    first_time = search.placed < num
    row = jnp.where(first_time, search.placed, num - 1 if redrawn is None else redrawn)
    spot, found = _first_valid(table, row, search.xy, uniform)
    found = found & search.running
    placed, tries = search.placed + found, jnp.where(found, 0, search.tries + BLOCK)
    xy = jnp.where(((jnp.arange(num) == row) & found)[:, None], spot[None], search.xy)
    if redrawn is not None:  # all are placed: forget the old place
        xy = xy.at[redrawn].set(jnp.where(found & (placed == num), FAR, xy[redrawn]))
    limit = jnp.where(first_time, TRIES_PER_OBJECT, MAX_REDRAWS)
    return Search(xy=xy, placed=placed, tries=tries, running=search.running & (placed < num_places) & (tries < limit))


def sample_layout(key: jax.Array, table: PlacementTable, redrawn: int | None = None) -> tuple[jax.Array, jax.Array]:
    """Draw a layout. Returns positions [N, 2] m and whether it failed [] bool (then it violates keepouts).

    redrawn: row of an object that is drawn once more after all are placed, as the reference does with the goal. If it
    finds no place, the layout fails. Each turn of the loop draws one block of candidates. Under `vmap` a batch needs as
    many turns as its slowest world. `batch.sample_layouts` avoids that.
    """
    num, shape = table.keepout.shape[0], block_shape(table)

    def unfinished(carry: tuple) -> jax.Array:
        search, _, _ = carry
        return search.running

    def turn(carry: tuple) -> tuple:
        search, num_given_up, blocks = carry
        search = place_next(search, table, draw_uniform(key, blocks, shape), redrawn)
        given_up = ~search.running & (search.placed < num)
        num_given_up = num_given_up + given_up
        anew = empty_search(num, num_given_up < MAX_LAYOUTS)
        search = jax.tree.map(lambda new, old: jnp.where(given_up, new, old), anew, search)
        return search, num_given_up, blocks + 1

    start = (empty_search(num, jnp.bool_(True)), jnp.int32(0), jnp.int32(0))
    search, _, _ = jax.lax.while_loop(unfinished, turn, start)
    return fill_gaps(key, table, search.xy)


def redraw(
    key_fn: Callable[[Any], jax.Array], seed: Any, table: PlacementTable, row: int, xy: jax.Array, needed: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw a new place for one object, clear of all others. Takes no time while no world needs one.

    key_fn: makes the key of the arrays `seed`, only in steps that draw a place; row: of the object; xy: [N, 2] m, the
    present places; needed: [] bool. Returns its position [2] m (the old one if not needed) and whether the draw failed
    [] bool.
    """
    others, shape = xy.at[row].set(FAR), block_shape(table)

    def unfinished(carry: tuple) -> jax.Array:
        _, found, blocks = carry
        return needed & ~found & (blocks < MAX_REDRAWS // BLOCK)

    def draw(carry: tuple) -> tuple:
        position, _, blocks = carry
        at_hand, blocks = jax.lax.optimization_barrier((seed, blocks))  # keeps XLA from making the key before the loop
        spot, found = _first_valid(table, jnp.int32(row), others, draw_uniform(key_fn(at_hand), blocks, shape))
        return jnp.where(found, spot, position), found, blocks + 1

    start = (xy[row], jnp.zeros_like(needed), jnp.int32(0))
    position, found, _ = jax.lax.while_loop(unfinished, draw, start)
    return position, needed & ~found


def fill_gaps(key: jax.Array, table: PlacementTable, xy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Put unplaced objects somewhere in their first rectangle. xy: [..., N, 2] m. Returns xy and gaps [...] bool.

    All failed layouts get the same places. These only keep coordinates finite and inside the area.
    """
    low, high = table.rectangles[:, 0, :2], table.rectangles[:, 0, 2:]
    anywhere = low + draw_uniform(key, -1, low.shape) * (high - low)
    missing = xy >= FAR
    return jnp.where(missing, jnp.broadcast_to(anywhere, xy.shape), xy), jnp.any(missing, axis=(-2, -1))


def block_shape(table: PlacementTable) -> tuple[int, int]:
    """Shape of the random numbers of one block of candidates: x, y and, if there are several, the rectangle."""
    return (2 if table.rectangles.shape[1] == 1 else 3, BLOCK)


def draw_uniform(key: jax.Array, block: jax.Array | int, shape: tuple[int, ...]) -> jax.Array:
    """Draw numbers in [0, 1), different ones for each block [] int32.

    This is twice as fast as `jax.random.uniform`, which drops half of the generator's output. The key stays good for
    other uses: `jax.random` counts from 0, and the counters here start at 2^31.
    """
    num = math.prod(shape)
    count = jnp.arange((num + 1) // 2, dtype=jnp.uint32) + jnp.uint32(1 << 31)
    second = jnp.full_like(count, jnp.asarray(block).astype(jnp.uint32))
    seed = jax.random.key_data(key)
    bits = threefry_2x32((seed[0], seed[1]), jnp.concatenate([count, second]))[:num].reshape(shape)
    ones = jnp.float32(1).view(jnp.uint32)
    return jax.lax.bitcast_convert_type(bits >> 9 | ones, jnp.float32) - 1.0  # random mantissa: [1, 2)


def _first_valid(
    table: PlacementTable, row: jax.Array, xy: jax.Array, uniform: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the first of BLOCK candidates [2] m for object `row` [] that is clear of all, and if there is one [].

    xy: [N, 2] m, the present places; FAR for the object itself and for unplaced ones.
    """
    x, y = _candidates(table, row, uniform)
    least = jnp.maximum(table.keepout[row] + table.keepout + table.margin, 0.0)  # [N] m; the margin may be below 0
    if len(xy) > UNROLLED:
        slack = jnp.min((x - xy[:, :1]) ** 2 + (y - xy[:, 1:]) ** 2 - least[:, None] ** 2, axis=0)  # [BLOCK] m^2
    else:  # unrolled, so that a batch needs one pass and no larger array
        slack = functools.reduce(
            jnp.minimum, [(x - xy[i, 0]) ** 2 + (y - xy[i, 1]) ** 2 - least[i] ** 2 for i in range(len(xy))]
        )
    index = jnp.arange(BLOCK)
    first = jnp.min(jnp.where(slack >= 0, index, BLOCK))
    return jnp.stack([total(jnp.where(index == first, value, 0.0)) for value in (x, y)]), first < BLOCK


def _candidates(table: PlacementTable, row: jax.Array, uniform: jax.Array) -> jax.Array:
    """Return uniform places [2, BLOCK] m for object `row` []."""
    rectangles = table.rectangles[row]  # [R, 4]
    if rectangles.shape[0] == 1:
        chosen = rectangles.T  # [4, 1]
    else:
        below = jnp.cumsum(table.probs[row])[:-1]  # [R - 1]
        chosen = rectangles[jnp.sum(uniform[2][:, None] >= below[None], axis=-1)].T  # [4, BLOCK]
    return chosen[:2] + uniform[:2] * (chosen[2:] - chosen[:2])
