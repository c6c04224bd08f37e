"""A replay buffer on the device. New steps overwrite the oldest. Samples are uniform."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Replay:
    """Up to N steps."""

    steps: Any  # pytree of arrays [N, ...]
    position: jax.Array  # [] int32 in [0, N), index of the next step
    size: jax.Array  # [] int32, number of stored steps, at most N


def init(capacity: int, step: Any) -> Replay:
    """Return an empty buffer. capacity: N; step: pytree of arrays, or of their shapes, of one step."""
    steps = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), step)
    return Replay(steps, position=jnp.int32(0), size=jnp.int32(0))


def add(replay: Replay, steps: Any) -> Replay:
    """Write M steps, oldest first, in place if `replay` is donated. steps: pytree of arrays [M, ...], M <= N."""
    capacity, num_steps = _length(replay.steps), _length(steps)
    if num_steps > capacity:
        raise ValueError(f"the replay holds {capacity} steps; it must hold at least the {num_steps} of one rollout")
    index = (replay.position + jnp.arange(num_steps, dtype=jnp.int32)) % capacity

    def write(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[index].set(new, mode="promise_in_bounds", unique_indices=True)

    return Replay(
        steps=jax.tree.map(write, replay.steps, steps),
        position=(replay.position + num_steps) % capacity,
        size=jnp.minimum(replay.size + num_steps, capacity),
    )


def sample(replay: Replay, key: jax.Array, num_samples: int) -> Any:
    """Draw steps with replacement, each with the same probability. Returns a pytree of arrays [num_samples, ...]."""
    index = jax.random.randint(key, (num_samples,), 0, replay.size)
    return jax.tree.map(lambda leaf: leaf.at[index].get(mode="promise_in_bounds"), replay.steps)


def _length(tree: Any) -> int:
    """The leading axis."""
    return jax.tree.leaves(tree)[0].shape[0]
