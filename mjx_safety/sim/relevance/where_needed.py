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

SMALL = 32  # worlds; smaller batches are not worth a second program
CHUNKS = 8  # of a batch; few are quick where each has its launches to pay for, many where little is needed


def where_needed(needs: Callable, full: Callable, cheap: Callable) -> Callable:
    """Make a function `f(context, *world)` that is `full` for worlds that need it and `cheap` for the others.

    All take `(context, *world)`, for one world; `needs` returns [] bool, the others the same tree. For a single world,
    for a small batch, and where worlds have contexts of their own, it is `full`.
    """

    @custom_vmap
    def choose(context: Any, *world: Any) -> Any:
        return full(context, *world)

    @choose.def_vmap
    def choose_each(axis_size: int, in_batched: list, context: Any, *worlds: Any) -> tuple[Any, Any]:
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(in_batched))
        if axis_size < SMALL or any(jax.tree.leaves(in_batched[0])):
            out = jax.vmap(full, in_axes=axes, axis_size=axis_size)(context, *worlds)
        else:
            worlds = jax.tree.map(
                lambda x, is_batched: x if is_batched else jnp.broadcast_to(x, (axis_size, *jnp.shape(x))),
                worlds,
                tuple(in_batched[1:]),
            )
            out = _by_device(lambda *group: _step_group(needs, full, cheap, context, group), worlds, axis_size)
        return out, jax.tree.map(lambda _: True, out)

    return choose


def _by_device(run: Callable, worlds: tuple, num: int) -> Any:
    """Run each device's share of the worlds [B, ...] as a group of its own, so that none moves between devices."""
    groups = math.gcd(num, jax.device_count())
    if groups == 1:
        return run(*worlds)
    worlds = jax.tree.map(lambda x: x.reshape(groups, num // groups, *x.shape[1:]), worlds)
    return jax.tree.map(lambda x: x.reshape(num, *x.shape[2:]), jax.vmap(run)(*worlds))


def _step_group(needs: Callable, full: Callable, cheap: Callable, context: Any, worlds: tuple) -> Any:
    """Run `cheap` for all worlds [n, ...], then `full` for those that need it, chunk by chunk."""
    in_axes = (None, *[0] * len(worlds))
    needed = jax.vmap(needs, in_axes)(context, *worlds)
    num = len(needed)
    size = -(-num // CHUNKS)
    rows = jnp.nonzero(needed, size=num + size, fill_value=num)[0]
    count = jnp.sum(needed)

    def is_left(carry: tuple[jax.Array, Any]) -> jax.Array:
        return carry[0] < count

    def run_chunk(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        start, out = carry
        index = jax.lax.dynamic_slice(rows, (start,), (size,))
        chunk = jax.tree.map(lambda x: x[jnp.minimum(index, num - 1)], worlds)
        done = jax.vmap(full, in_axes)(context, *chunk)
        return start + size, jax.tree.map(lambda old, new: old.at[index].set(new, mode="drop"), out, done)

    return jax.lax.while_loop(is_left, run_chunk, (jnp.int32(0), jax.vmap(cheap, in_axes)(context, *worlds)))[1]
