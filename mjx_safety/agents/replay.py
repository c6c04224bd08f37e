"""A replay buffer on the device. New steps overwrite the oldest. Samples are uniform."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Replay:
    """Up to N steps in G rings of the same length, one for each part of the worlds; no ring needs another's device."""

    steps: Any  # pytree of arrays [N, ...], ring after ring
    position: jax.Array  # [] int32 in [0, N / G), index of the next step of each ring
    size: jax.Array  # [] int32, number of stored steps, at most N
    num_parts: int = struct.field(pytree_node=False, default=1)  # G


def init(capacity: int, step: Any, num_parts: int = 1) -> Replay:
    """Return an empty buffer. capacity: N, a multiple of num_parts; step: pytree of one step's arrays or shapes."""
    steps = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), step)
    return Replay(steps, position=jnp.int32(0), size=jnp.int32(0), num_parts=num_parts)


def add(replay: Replay, steps: Any) -> Replay:
    """Write M steps, in place if `replay` is donated: part after part, in each the oldest first.

    steps: pytree of arrays [M, ...]; M <= N, a multiple of the number of parts.
    """
    capacity, num_steps = _length(replay.steps), _length(steps)
    if num_steps > capacity:
        raise ValueError(f"the replay holds {capacity} steps; it must hold at least the {num_steps} of one rollout")
    ring = capacity // replay.num_parts
    index = (replay.position + jnp.arange(num_steps // replay.num_parts, dtype=jnp.int32)) % ring

    def write(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[index].set(new, mode="promise_in_bounds", unique_indices=True)

    def write_parts(old: jax.Array, new: jax.Array) -> jax.Array:
        return jax.vmap(write)(_parts(replay, old), _parts(replay, new)).reshape(old.shape)

    return replay.replace(
        steps=jax.tree.map(write_parts, replay.steps, steps),
        position=(replay.position + num_steps // replay.num_parts) % ring,
        size=jnp.minimum(replay.size + num_steps, capacity),
    )


def sample(replay: Replay, key: jax.Array, num_samples: int) -> Any:
    """Draw steps with replacement, the same number from each part, uniformly within a part.

    num_samples: a multiple of the number of parts. Returns a pytree of arrays [num_samples, ...].
    """
    shape = (replay.num_parts, num_samples // replay.num_parts)
    index = jax.random.randint(key, shape, 0, replay.size // replay.num_parts)

    def draw(leaf: jax.Array) -> jax.Array:
        rows = jax.vmap(lambda part, index: part.at[index].get(mode="promise_in_bounds"))(_parts(replay, leaf), index)
        return rows.reshape(num_samples, *leaf.shape[1:])

    return jax.tree.map(draw, replay.steps)


def _parts(replay: Replay, leaf: jax.Array) -> jax.Array:
    """Cut [n, ...] into [G, n / G, ...]."""
    return leaf.reshape(replay.num_parts, len(leaf) // replay.num_parts, *leaf.shape[1:])


def _length(tree: Any) -> int:
    """The leading axis."""
    return jax.tree.leaves(tree)[0].shape[0]
