"""The numeric settings of this package, independent of the settings of the program around it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

P = ParamSpec("P")
T = TypeVar("T")


def single_precision(function: Callable[P, T]) -> Callable[P, T]:
    """Trace a function with float32 and int32, and with NumPy's rules for mixed types and ranks.

    Results then do not depend on `jax_enable_x64`, `jax_numpy_dtype_promotion` or `jax_numpy_rank_promotion`. 64-bit
    arguments are rounded. Put this decorator below `jax.jit`, where it takes no time at run time.
    """

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> T:
        args, kwargs = jax.tree.map(_rounded, (args, kwargs))
        with own_settings():
            return function(*args, **kwargs)

    return traced


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Trace with float32 and int32, and with NumPy's rules for mixed types and ranks. See `single_precision`."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _rounded(leaf: Any) -> Any:
    narrow = _NARROW.get(str(getattr(leaf, "dtype", "")))
    return leaf if narrow is None else leaf.astype(narrow)


_NARROW = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32}
