"""Checks of the arguments of `reset` and `step`, with readable errors."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

FOR_A_BATCH = "for a batch of worlds, use vectorize, or jax.vmap(env.reset) with jax.random.split(key, num)"


def typed_key(caller: str, key: Any, many: str = FOR_A_BATCH) -> jax.Array:
    """Return a typed key [], also for the two numbers of an old-style one. Raises ValueError for anything else.

    many: advice in the error for a caller with several keys.
    """
    is_array = isinstance(key, (jax.Array, np.ndarray))
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ():
        return key
    if is_array and key.dtype == jnp.uint32 and key.shape == jax.random.key_data(jax.random.key(0)).shape:
        return jax.random.wrap_key_data(jnp.asarray(key))
    given = f"{key.dtype}{list(key.shape)}" if is_array else f"a {type(key).__name__}"
    raise ValueError(
        f"{caller} got {given} as its key; it takes one typed PRNG key, such as jax.random.key(0) ({many})"
    )


def typed_keys(caller: str, keys: Any, num: int) -> jax.Array:
    """Return typed keys [num], also for old-style ones [num, 2]. Raises ValueError for anything else."""
    one = jax.random.key_data(jax.random.key(0)).shape
    if isinstance(keys, (jax.Array, np.ndarray)) and keys.dtype == jnp.uint32 and keys.shape == (num, *one):
        return jax.random.wrap_key_data(jnp.asarray(keys))
    if isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) and keys.shape == (num,):
        return keys
    is_array = isinstance(keys, (jax.Array, np.ndarray))
    given = f"keys of shape {keys.shape}" if is_array else f"a {type(keys).__name__} as its keys"
    given += f" and type {keys.dtype}" if is_array and keys.shape == (num,) else ""
    raise ValueError(f"{caller} got {given}; it takes jax.random.split(key, {num})")


def read_num_worlds(caller: str, num: Any) -> int:
    """Return a number of worlds as an int. Raises ValueError unless it is a whole number of at least 1."""
    whole = as_count(num)
    if whole is None:
        raise ValueError(f"{caller} got {num!r} worlds; it takes at least 1, a whole number")
    return whole


def as_count(num: Any) -> int | None:
    """Return a whole number of at least 1 as an int, and None for anything else, also for a traced number."""
    try:
        whole = operator.index(num)
    except TypeError:
        return None
    return None if isinstance(num, (bool, np.bool_)) or whole < 1 else whole


def check_action(action: Any, shape: tuple[int, ...], taker: str) -> None:
    """Raise ValueError unless the action is an array of numbers of this shape.

    taker: for the message, who takes which shape, such as "4 worlds take (4, 2)".
    """
    if not isinstance(action, (jax.Array, np.ndarray)):
        raise ValueError(f"action is a {type(action).__name__}; {taker}: an array such as jnp.zeros({shape})")
    if not any(jnp.issubdtype(action.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(f"action has dtype {action.dtype}; it must be an array of real numbers")
    if action.shape != shape:
        raise ValueError(f"action has shape {action.shape}; {taker}")
