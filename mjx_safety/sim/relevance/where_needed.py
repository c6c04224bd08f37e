"""Doing the expensive thing only for the worlds that need it, under `jax.vmap`.

`jax.lax.cond` under `vmap` runs both of its branches for every world. Here the worlds of a batch that need the
expensive branch are lined up and go through it in chunks, as many as it takes, so no world is ever left out and the
result is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

CHUNKS = 8  # of a batch; few are quick where each has its launches to pay for, many where little is needed


def where_needed(needs: Callable, full: Callable, cheap: Callable, smallest: int) -> Callable:
    """Make a function `f(context, active, *world)` that is `full` for worlds that need it and `cheap` for the others.

    All are written for one world:
    - `cheap(context, active, *world)` returns the result and a hint [], some number that it has found out;
    - `needs(context, hint, *world)` returns [] bool. With the hint 0 it may only be true where it is with any other;
    - `full(context, active, hint, *world)` returns the result.

    active: [] bool; False where the result does not matter, so that a host may skip the work. smallest: batches of
    fewer worlds, and worlds with contexts of their own, all go through `full`, which gets the hint NaN: one program
    less to compile. With 1, single worlds are sorted too.
    """

    @custom_vmap
    def choose(context: Any, active: jax.Array, *world: Any) -> Any:
        if smallest > 1:
            return full(context, active, jnp.float32(jnp.nan), *world)
        sure = needs(context, jnp.float32(0), *world)
        out, hint = cheap(context, active & ~sure, *world)
        needed = active & (sure | needs(context, hint, *world))
        return jax.lax.cond(needed, lambda: full(context, active, hint, *world), lambda: out)

    @choose.def_vmap
    def choose_each(axis_size: int, in_batched: list, context: Any, *worlds: Any) -> tuple[Any, Any]:
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(in_batched))
        if axis_size < smallest or any(jax.tree.leaves(in_batched[0])):
            everyone = jax.vmap(
                lambda context, active, *world: full(context, active, jnp.float32(jnp.nan), *world),
                in_axes=axes,
                axis_size=axis_size,
            )
            out = everyone(context, *worlds)
        else:
            worlds = jax.tree.map(
                lambda x, is_batched: x if is_batched else jnp.broadcast_to(x, (axis_size, *jnp.shape(x))),
                worlds,
                tuple(in_batched[1:]),
            )
            out = _by_device(lambda *group: _step_group(needs, full, cheap, context, *group), worlds, axis_size)
        return out, jax.tree.map(lambda _: True, out)

    return choose


def _by_device(run: Callable, worlds: tuple, num: int) -> Any:
    """Run each device's share of the worlds [B, ...] as a group of its own, so that none moves between devices."""
    groups = math.gcd(num, jax.device_count())
    if groups == 1:
        return run(*worlds)
    worlds = jax.tree.map(lambda x: x.reshape(groups, num // groups, *x.shape[1:]), worlds)
    return jax.tree.map(lambda x: x.reshape(num, *x.shape[2:]), jax.vmap(run)(*worlds))


def _step_group(needs: Callable, full: Callable, cheap: Callable, context: Any, active: jax.Array, *worlds: Any) -> Any:
    """Run `cheap` for all worlds [n, ...], then `full` for those that need it, chunk by chunk."""
    sure = jax.vmap(lambda *world: needs(context, jnp.float32(0), *world))(*worlds)
    first, hints = jax.vmap(lambda active, *world: cheap(context, active, *world))(active & ~sure, *worlds)
    needed = active & (sure | jax.vmap(lambda hint, *world: needs(context, hint, *world))(hints, *worlds))
    num = len(needed)
    size = -(-num // CHUNKS)
    rows = jnp.nonzero(needed, size=num + size, fill_value=num)[0]
    count = jnp.sum(needed)

    def is_left(carry: tuple[jax.Array, Any]) -> jax.Array:
        return carry[0] < count

    def run_chunk(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        start, out = carry
        index = jax.lax.dynamic_slice(rows, (start,), (size,))
        chunk = jax.tree.map(lambda x: x[jnp.minimum(index, num - 1)], (hints, *worlds))
        done = jax.vmap(lambda active, *world: full(context, active, *world))(index < num, *chunk)
        return start + size, jax.tree.map(lambda old, new: old.at[index].set(new, mode="drop"), out, done)

    return jax.lax.while_loop(is_left, run_chunk, (jnp.int32(0), first))[1]
