"""Samples the layouts of many worlds at once, so that no world waits for the slowest one.

Some layouts fail and start again, so some worlds need many times longer than others. Attempts therefore do not belong
to worlds. L lanes work through one sequence of attempts. A lane begins the next attempt when its own has ended. The
first successes of the sequence become the layouts of the worlds.

Attempts are numbered in the order in which they BEGIN. Each draws new random numbers, independent of earlier attempts.
The successes therefore follow the law of `layout.sample_layout`. The order of finishing would not: it favours layouts
that take few draws. A success therefore waits until every attempt that began earlier has ended.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mjx_safety.world.placement.layout import (
    FAR,
    MAX_LAYOUTS,
    Search,
    block_shape,
    draw_uniform,
    empty_search,
    fill_gaps,
    place_next,
)
from mjx_safety.world.placement.table import PlacementTable

TURNS = 4  # blocks of candidates that each lane draws before the ended lanes begin again
NEVER = np.int32(np.iinfo(np.int32).max)


@struct.dataclass
class Pool:
    """L lanes and the layouts that they have found. Attempts are numbered in the order in which they begin."""

    search: Search
    attempt: jax.Array  # [L] int32, number of each lane's attempt
    num_begun: jax.Array  # [] int32, attempts
    num_found: jax.Array  # [] int32, layouts
    xy: jax.Array  # [num + L, N, 2] m, the layouts found; running attempts finish, so there are more than num
    found_by: jax.Array  # [num + L] int32, the attempts that found them, or NEVER
    num_rounds: jax.Array  # [] int32, rounds of TURNS turns


def sample_layouts(
    key: jax.Array, table: PlacementTable, num: int, redrawn: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """Draw `num` layouts. Returns positions [num, N, 2] m and failures [num] bool (those violate keepouts).

    Each layout follows the law of `sample_layout`. The limit of attempts is an average over worlds. redrawn: as there.
    """
    pool = search_layouts(key, table, num, redrawn)
    first = jnp.argsort(pool.found_by)[:num]
    return fill_gaps(key, table, pool.xy[first])


def search_layouts(key: jax.Array, table: PlacementTable, num: int, redrawn: int | None = None) -> Pool:
    """Find the first `num` layouts of the sequence, or all from `num` times MAX_LAYOUTS attempts."""
    num_things, lanes = table.keepout.shape[0], num  # other numbers of lanes were no faster (2 cores)
    shape = (TURNS, lanes, *block_shape(table))
    place_all = jax.vmap(lambda search, uniform: place_next(search, table, uniform, redrawn))

    def unfinished(pool: Pool) -> jax.Array:
        running = pool.search.running
        oldest = jnp.min(jnp.where(running, pool.attempt, NEVER))
        return jnp.any(running) & (jnp.sum(pool.found_by < oldest) < num)

    def play(pool: Pool) -> Pool:
        uniform = draw_uniform(key, pool.num_rounds, shape)
        search = jax.lax.fori_loop(0, TURNS, lambda turn, search: place_all(search, uniform[turn]), pool.search)
        return _begin_again(pool.replace(search=search, num_rounds=pool.num_rounds + 1), num)

    zero, slots = jnp.int32(0), num + lanes
    start = Pool(
        search=_empty_searches(num_things, jnp.ones(lanes, bool)),
        attempt=jnp.arange(lanes, dtype=jnp.int32),
        num_begun=jnp.int32(lanes),
        num_found=zero,
        xy=jnp.full((slots, num_things, 2), FAR),
        found_by=jnp.full(slots, NEVER),
        num_rounds=zero,
    )
    return jax.lax.while_loop(unfinished, play, start)


def _begin_again(pool: Pool, num: int) -> Pool:
    """Store finished layouts, and begin new attempts in the ended lanes while layouts are missing."""
    search, (slots, num_things, _) = pool.search, pool.xy.shape
    ended = ~search.running
    whole = ended & (search.placed >= num_things)
    slot = jnp.where(whole, pool.num_found + jnp.cumsum(whole) - 1, slots)
    num_found = pool.num_found + jnp.sum(whole)
    attempt = pool.num_begun + jnp.cumsum(ended) - 1
    begins = ended & (attempt < min(num * MAX_LAYOUTS, int(NEVER) - num)) & (num_found < num)
    empty = _empty_searches(num_things, begins)
    return pool.replace(
        search=jax.tree.map(lambda new, old: jax.vmap(jnp.where)(ended, new, old), empty, search),
        attempt=jnp.where(begins, attempt, pool.attempt),
        num_begun=pool.num_begun + jnp.sum(begins),
        num_found=num_found,
        xy=pool.xy.at[slot].set(search.xy, mode="drop"),
        found_by=pool.found_by.at[slot].set(pool.attempt, mode="drop"),
    )


def _empty_searches(num_things: int, running: jax.Array) -> Search:
    """Begin a layout in every lane. running: [L] bool."""
    return jax.vmap(lambda running: empty_search(num_things, running))(running)
