"""Runs an expensive function only for the worlds that need it, under `jax.vmap`.

Under `vmap`, `jax.lax.cond` runs both branches for every world. This module sorts the worlds that need the expensive
branch to the front and runs it on them in chunks. It runs as many chunks as needed, so the result is the same.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

SMALLEST_CHUNK = 8  # worlds; fewer are no faster
UNKNOWN = np.float32(np.nan)  # hint of worlds in which `cheap` did not run; a constant, so `full` may test for it
USUAL_SHARE = 1 / 8  # of the worlds, where nothing better is known


def chunk_size(num_worlds: int, share: float) -> int:
    """Return how many worlds go through the expensive branch at a time if about `share` of them need it.

    Each chunk pays for its launches, and for the worlds that it has room for.
    """
    return min(num_worlds, max(SMALLEST_CHUNK, math.ceil(share * num_worlds)))


class Choice(NamedTuple):
    """The functions of `where_needed`."""

    needs: Callable
    full: Callable
    cheap: Callable
    full_uses_hint: bool

    def first(self, context: Any, active: jax.Array, *world: Any) -> tuple[jax.Array, Any, jax.Array]:
        """Run `cheap`. Returns whether the world needs `full` [] bool, the result, and the hint."""
        sure = self.needs(context, jnp.float32(0), *world)
        out, hint = self.cheap(context, active if self.full_uses_hint else active & ~sure, *world)
        return active & (sure | self.needs(context, hint, *world)), out, hint


def where_needed(
    needs: Callable,
    full: Callable,
    cheap: Callable,
    smallest: int,
    share: float = USUAL_SHARE,
    full_uses_hint: bool = True,
) -> Callable:
    """Return `f(context, active, *world)`, which is `full` for worlds that need it and `cheap` for the others.

    All functions handle one world:
    - `cheap(context, active, *world)` returns the result and a hint [], a number for the others.
    - `needs(context, hint, *world)` returns [] bool. If it is true with the hint 0, it must be true with all hints.
    - `full(context, active, hint, *world)` returns the result.

    active: [] bool; False if the result does not matter, so that a host may skip the work. smallest: smaller batches,
    and worlds with different contexts, all use `full` with the hint UNKNOWN, which saves compiling one program. With 1,
    single worlds are sorted too. full_uses_hint: False if `full` ignores its hint. Then `cheap` need not be active in
    worlds that need `full` with any hint.

    share: share of the worlds that one chunk has room for. It changes no result. A second chunk launches everything
    once more.
    """
    choice = Choice(needs, full, cheap, full_uses_hint)

    @custom_vmap
    def choose(context: Any, active: jax.Array, *world: Any) -> Any:
        if smallest > 1:
            return full(context, active, UNKNOWN, *world)
        needed, out, hint = choice.first(context, active, *world)
        known = active, world
        return jax.lax.cond(
            needed, lambda: vary_like(known, full(context, active, hint, *world)), lambda: vary_like(known, out)
        )

    @choose.def_vmap
    def choose_each(axis_size: int, in_batched: list, context: Any, *worlds: Any) -> tuple[Any, Any]:
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(in_batched))
        if axis_size < smallest or any(jax.tree.leaves(in_batched[0])):
            everyone = jax.vmap(
                lambda context, active, *world: full(context, active, UNKNOWN, *world),
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
            step_group = functools.partial(_step_group, choice, share, context)
            out = _by_device(step_group, worlds, axis_size)
        return out, jax.tree.map(lambda _: True, out)

    return choose


def vary_like(known: Any, results: Any) -> Any:
    """Mark results as varying over the axes of `jax.shard_map` over which any leaf of `known` does.

    Callbacks and constants lack these marks. Outside of `jax.shard_map` this changes nothing.
    """
    axes = {axis for leaf in jax.tree.leaves(known) for axis in _varying(leaf)}
    return jax.tree.map(lambda leaf: jax.lax.pcast(leaf, tuple(sorted(axes - _varying(leaf))), to="varying"), results)


def _varying(leaf: Any) -> set[str]:
    """Axes of `jax.shard_map` over which an array is marked as varying."""
    return set(getattr(getattr(jax.typeof(leaf), "manual_axis_type", None), "varying", ()))


def _by_device(run: Callable, worlds: tuple, num: int) -> Any:
    """Run each device's share of the worlds [B, ...] as its own group, so that no world moves between devices."""
    is_one_device = bool(jax.sharding.get_abstract_mesh().manual_axes)  # inside `jax.shard_map`
    groups = 1 if is_one_device else math.gcd(num, jax.device_count())
    if groups == 1:
        return run(*worlds)
    if any(axis for leaf in jax.tree.leaves(worlds) for axis in jax.typeof(leaf).sharding.spec):
        raise ValueError(
            "the worlds lie on a mesh with explicit axes; build it with jax.make_mesh(shape, names,"
            " axis_types=(jax.sharding.AxisType.Auto,) * len(shape))"
        )
    worlds = jax.tree.map(lambda x: x.reshape(groups, num // groups, *x.shape[1:]), worlds)
    return jax.tree.map(lambda x: x.reshape(num, *x.shape[2:]), jax.vmap(run)(*worlds))


def _step_group(choice: Choice, share: float, context: Any, active: jax.Array, *worlds: Any) -> Any:
    """Run `cheap` for all worlds [n, ...], then `full` for those that need it, chunk by chunk."""
    needed, first, hints = jax.vmap(functools.partial(choice.first, context))(active, *worlds)
    first = vary_like((active, worlds), first)
    num = len(needed)
    size = chunk_size(num, share)
    rows = jnp.nonzero(needed, size=num + size, fill_value=num)[0]
    count = jnp.sum(needed)

    def is_left(carry: tuple[jax.Array, Any]) -> jax.Array:
        return carry[0] < count

    def run_chunk(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        start, out = carry
        index = jax.lax.dynamic_slice(rows, (start,), (size,))
        chunk = jax.tree.map(lambda x: x[jnp.minimum(index, num - 1)], (hints, *worlds))
        done = jax.vmap(lambda active, *world: choice.full(context, active, *world))(index < num, *chunk)
        return start + size, jax.tree.map(lambda old, new: old.at[index].set(new, mode="drop"), out, done)

    return jax.lax.while_loop(is_left, run_chunk, (jnp.int32(0), first))[1]
