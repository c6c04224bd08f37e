"""Compiled methods whose programs end, so that a process can make any number of environments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import jax

KEPT = 2  # structures whose programs are kept, per function

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def compiled(function: Callable[Concatenate[S, P], T], **options: Any) -> Callable[Concatenate[S, P], T]:
    """`jax.jit` of a function whose first argument is an environment. options: those of `jax.jit`.

    `jax.jit` keeps a program for every structure of environment that it ever met. This keeps those of the `KEPT` last
    used structures. Environments of equal structure share their programs.
    """

    @functools.lru_cache(maxsize=KEPT)
    def program(structure: Any) -> Callable[..., T]:
        @functools.wraps(function)
        def of_structure(leaves: list[Any], *args: Any, **kwargs: Any) -> T:  # JAX frees its programs along with it
            return function(jax.tree.unflatten(structure, leaves), *args, **kwargs)

        return jax.jit(of_structure, **options)

    @functools.wraps(function)
    def call(env: S, *args: P.args, **kwargs: P.kwargs) -> T:
        leaves, structure = jax.tree.flatten(env)
        return program(structure)(leaves, *args, **kwargs)

    return call
