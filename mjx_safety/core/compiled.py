"""Methods that compile on first use, name an argument that is no array, and free programs of long ago."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import jax
import numpy as np

from mjx_safety.core.precision import single_precision

KEPT = 32  # structures whose programs are kept, per method

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

TAKES = {  # argument -> what it may be, for the message
    "key": "one typed PRNG key, such as jax.random.key(0)",
    "action": "an array of real numbers",
    "state": "a State (see `env.reset`)",
    "snapshot": "a Snapshot of arrays",
}


def compiled(function: Callable[Concatenate[S, P], T], static: str | None = None) -> Callable[Concatenate[S, P], T]:
    """Compile a method of an environment, in single precision. Raises ValueError for an argument that JAX cannot take.

    `jax.jit` keeps a program for every structure of environment that it ever met. This keeps those of the `KEPT` last
    used structures, so a process can make any number of environments. Environments of equal structure share programs.
    static: name of an argument that is no array.
    """
    traced = single_precision(function)

    @functools.lru_cache(maxsize=KEPT)
    def program(structure: Any) -> Callable[..., T]:
        @functools.wraps(function)
        def of_structure(leaves: list[Any], *args: Any, **kwargs: Any) -> T:  # JAX frees its programs along with it
            return traced(jax.tree.unflatten(structure, leaves), *args, **kwargs)

        return jax.jit(of_structure, static_argnames=static)

    @functools.wraps(function)
    def call(env: S, *args: P.args, **kwargs: P.kwargs) -> T:
        leaves, structure = jax.tree.flatten(env)
        try:
            return program(structure)(leaves, *args, **kwargs)
        except TypeError:
            wrong = _wrong_argument(function, static, (env, *args), kwargs)
            if wrong is None:
                raise
        raise ValueError(wrong)

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
