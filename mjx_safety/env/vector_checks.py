"""Checks of what `vectorize` takes, and of what a user's own environment returns, with readable errors."""

from __future__ import annotations

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_safety.types import VectorEnvironment


def check_fields(venv: VectorEnvironment[Any], states: Any, caller: str) -> None:
    """Raise ValueError unless the states [B] of a user's own environment have the shapes of `EnvState`.

    caller: the function of the environment that returned them.
    """
    sizes = {"obs": (venv.obs_size,), "costs": (len(venv.cost_names),)}
    for name in ("obs", "reward", "cost", "costs", "goal_met", "terminated", "truncated", "step_count"):
        given, shape = jnp.shape(getattr(states, name))[1:], sizes.get(name, ())
        if given != shape:
            raise ValueError(f"env.{caller} returns {name} of shape {given}; for one world it must be {shape}")
    for name in ("terminated", "truncated"):
        dtype = getattr(states, name).dtype
        if dtype != jnp.bool_:
            raise ValueError(f"env.{caller} returns {name} of type {dtype}; it must be bool")


def check_mask(chosen: Any, num_envs: int, caller: str) -> None:
    """Raise ValueError unless the chosen worlds are a bool for each. Indices would pass for truth values."""
    is_array = isinstance(chosen, (jax.Array, np.ndarray))
    if not (is_array and chosen.dtype == bool and chosen.shape == (num_envs,)):
        given = f"{chosen.dtype}{list(chosen.shape)}" if is_array else f"a {type(chosen).__name__}"
        raise ValueError(f"{caller} got {given} as the chosen worlds; it takes an array bool[{num_envs}]")


def check_budget(budget: Any, num_envs: int) -> None:
    """Raise ValueError unless it is None, or a number above 0 for all worlds or for each. Traced: its shape."""
    if budget is None:
        return
    is_traced = isinstance(budget, jax.core.Tracer)
    fits = isinstance(budget, (numbers.Real, np.ndarray, jax.Array))
    if fits:
        values = budget if is_traced else np.asarray(budget)
        is_number = any(jnp.issubdtype(values.dtype, kind) for kind in (jnp.floating, jnp.integer))
        fits = is_number and values.shape in ((), (num_envs,))
        fits = fits and (is_traced or bool(np.all(values > 0)))  # False for NaN too
    if not fits:
        raise ValueError(f"cost_budget is {budget!r}; it must be None, a number above 0, or {num_envs} of them")
