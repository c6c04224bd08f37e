"""Functions that compile on first use, and that name an argument that is no array."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

from mjx_safety.core.precision import single_precision

P = ParamSpec("P")
T = TypeVar("T")

TAKES = {  # argument -> what it may be, for the message
    "key": "one typed PRNG key, such as jax.random.key(0)",
    "action": "an array of real numbers",
    "state": "a State (see `env.reset`)",
    "snapshot": "a Snapshot of arrays",
}


def compiled(function: Callable[P, T], static: str | None = None) -> Callable[P, T]:
    """Compile a function of arrays in single precision. Raises ValueError for an argument that JAX cannot take.

    static: name of an argument that is no array.
    """
    jitted = jax.jit(single_precision(function), static_argnames=static)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return jitted(*args, **kwargs)
        except TypeError:
            wrong = _wrong_argument(function, static, args, kwargs)
            if wrong is None:
                raise
        raise ValueError(wrong)

    setattr(call, "_cache_size", jitted._cache_size)  # noqa: B010 - as of a function of `jax.jit`
    return call


def _wrong_argument(function: Callable[..., Any], static: str | None, args: Any, kwargs: Any) -> str | None:
    """Describe the first leaf of the arguments that is no array of numbers, in one sentence."""
    try:
        arguments = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError:  # another number of arguments
        return None
    for name, argument in arguments.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(argument):
            if name != static and not _is_array(leaf):
                given = f"an array of type {leaf.dtype}" if isinstance(leaf, np.ndarray) else f"a {type(leaf).__name__}"
                place, takes = jax.tree_util.keystr(path), TAKES.get(name, "arrays of numbers")
                return f"{function.__name__.lstrip('_')} got {given} as its {name}{place}; it takes {takes}"
    return None


def _is_array(leaf: Any) -> bool:
    """Whether JAX takes a leaf as an array."""
    try:
        jax.eval_shape(lambda leaf: leaf, leaf)
    except TypeError:
        return False
    return True
