"""Shared parts of the adapters to Gymnasium: building worlds, their spaces, the info of a step."""

from __future__ import annotations

import operator
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

import mjx_safety
from mjx_safety import AbstractEnv, EnvConfig, LocomotionConfig, registry
from mjx_safety.interop.arguments import require_world
from mjx_safety.interop.named_costs import costs_by_name

Settings = EnvConfig | LocomotionConfig
OBSERVATIONS = ("flat", "dict")


def build(env: str | Settings | AbstractEnv, physics: str, overrides: dict[str, Any]) -> AbstractEnv:
    """Build the world of an id or of settings, or return an existing one."""
    if not hasattr(env, "step"):
        return mjx_safety.make(cast(Settings, env), physics=physics, **overrides)
    require_world(env, "the Gymnasium adapter")
    if overrides:
        raise ValueError(f"{sorted(overrides)[0]!r} cannot be changed in a finished Env; give it to mjx_safety.make")
    return cast(AbstractEnv, env)


def refuse_fork() -> None:
    """Raise RuntimeError in a process forked after JAX started. JAX's threads are gone there, and it would hang."""
    if registry.started_in() not in (None, os.getpid()):
        raise RuntimeError(
            "this process was forked after JAX had started, and JAX would hang in it; use gymnasium.make_vec(id,"
            " num_envs=...), which steps all worlds in one program, or context='forkserver' or 'spawn'"
        )


def observation_space(env: AbstractEnv, observation: str) -> spaces.Box | spaces.Dict:
    """Describe one world's observation: float32 without bounds, as in the reference."""
    if observation not in OBSERVATIONS:
        raise ValueError(f"unknown observation {observation!r}; choose from {', '.join(OBSERVATIONS)}")
    if observation == "flat":
        return _unbounded(env.obs_size)
    parts = [(name, _unbounded(part.stop - part.start)) for name, part in env.obs_slices.items()]
    return spaces.Dict(OrderedDict(parts))  # Gymnasium would sort a plain dict, and flatten it in that order


def action_space(env: AbstractEnv) -> spaces.Box:
    """Describe one world's action: float32 in [-1, 1]."""
    return spaces.Box(-1.0, 1.0, (env.action_size,), np.float32)


def draw_key(random: np.random.Generator) -> jax.Array:
    """Draw a PRNG key [] from Gymnasium's generator."""
    seed, more = random.integers(2**32, size=2, dtype=np.uint32)
    return jax.random.fold_in(jax.random.key(seed), more)


def _unbounded(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)


def parts_of(env: AbstractEnv, observation: str) -> dict[str, slice] | None:
    """Slices of the entries of a "dict" observation; None for a flat one."""
    return env.obs_slices if observation == "dict" else None


def read_options(options: dict[str, Any] | None, known: tuple[str, ...]) -> dict[str, Any]:
    """Check the options of a reset. Raises ValueError for an unknown one, and for options that are no dictionary."""
    if options is None:
        return {}
    allowed = f"it takes {', '.join(known)}" if known else "it takes none"
    if not isinstance(options, Mapping):
        raise ValueError(f"options is a {type(options).__name__}, not a dictionary; {allowed}")
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"reset has no option {unknown[0]!r}; {allowed}")
    return dict(options)


def read_seed(seed: Any) -> int | None:
    """Read one seed. Raises ValueError unless it is a whole number of at least 0, or None. A bool is no number here."""
    try:
        number = None if seed is None else operator.index(seed)
    except TypeError:
        number = -1
    if isinstance(seed, bool):
        number = -1
    if number is not None and number < 0:
        raise ValueError(f"seed is {seed!r}; it must be a whole number of at least 0, or None")
    return number


def read_actions(actions: Any) -> np.ndarray:
    """Return actions as a float32 array. Raises ValueError unless they are real numbers."""
    try:
        array = np.asarray(actions)
    except ValueError:  # rows of different lengths
        raise ValueError(
            f"action is a {type(actions).__name__} without a shape; it must be an array of real numbers"
        ) from None
    if array.dtype.kind not in "biuf" and not jnp.issubdtype(array.dtype, jnp.floating):  # bfloat16 is floating
        raise ValueError(f"action has dtype {array.dtype}; it must be an array of real numbers")
    return np.asarray(array, np.float32)


def read_seeds(seeds: Any, num_envs: int) -> list[int | None]:
    """Read a list of seeds [B]. Raises ValueError for another type or length."""
    try:
        numbers = [None if seed is None else operator.index(seed) for seed in seeds]
    except TypeError:
        numbers = None
    if numbers is None or isinstance(seeds, Mapping):
        raise ValueError(f"seed is {seeds!r}; it must be a whole number, or a list of them or of None")
    numbers = [read_seed(seed) for seed in seeds]
    if len(numbers) != num_envs:
        raise ValueError(f"there are {len(numbers)} seeds for {num_envs} worlds; give one seed, or one for each")
    return numbers


def step_info(env: AbstractEnv, state: Any) -> dict[str, jax.Array]:
    """Return the info of a step or a reset. state: of one world or of a batch."""
    failed = state.placement_failed if hasattr(state, "placement_failed") else state.terminated & False
    named = {"goal_met": state.goal_met, "placement_failed": failed}
    return {"cost": state.cost, **costs_by_name(env, state.costs), **named}
