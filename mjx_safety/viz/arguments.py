"""Checks of what the functions of this package draw."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from mjx_safety.env.base import AbstractEnv, check_shapes
from mjx_safety.types import State


def require_states(env: Any, state: Any, taker: str) -> tuple[int, ...]:
    """Return the shape of a batch of worlds, () for one. Raises ValueError for states that the environment lacks.

    taker: the function that draws, for the message.
    """
    if not isinstance(env, AbstractEnv):
        raise ValueError(f"{taker} got {_word(env)} as its env; it takes an environment of mjx_safety.make")
    if not isinstance(state, State):
        hint = "states.env_state of this VecState" if hasattr(state, "env_state") else "one that env.step returned"
        raise ValueError(f"{taker} got {_word(state)} as its state; it takes a State, such as {hint}")
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(state)):
        raise ValueError(
            f"{taker} got a traced state; it draws on the host, so call it outside of jax.jit and jax.vmap"
        )
    shape = np.shape(state.reward)
    check_shapes(env, state, taker, shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path((state.obs, state.data, state.places)):
        if np.issubdtype(leaf.dtype, np.floating) and not np.all(np.isfinite(np.asarray(leaf))):
            name = ("obs", "data", "places")[path[0].idx] + jax.tree_util.keystr(path[1:])
            raise ValueError(f"{taker} got a state whose {name} is not finite; it draws what has a place")
    return shape


def require_one(env: Any, state: Any, taker: str) -> None:
    """Raise ValueError unless it is the state of one world of this environment. taker: for the message."""
    shape = require_states(env, state, taker)
    if shape:
        raise ValueError(
            f"{taker} draws one world, and this state holds {shape};"
            " choose one with jax.tree.map(lambda x: x[0], state)"
        )


def _word(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
