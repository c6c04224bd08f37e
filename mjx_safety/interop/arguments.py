"""Checks of arguments that all adapters share."""

from __future__ import annotations

from typing import Any

NEEDED = ("reset", "step", "obs_size", "cost_names")  # of one world (`types.Environment`)


def require_world(env: Any, taker: str) -> None:
    """Raise ValueError unless this is one world, as `mjx_safety.make` returns it. taker: the name of the adapter."""
    if not isinstance(env, type) and not hasattr(env, "num_envs") and all(hasattr(env, name) for name in NEEDED):
        return
    given = f"the class {env.__name__}" if isinstance(env, type) else f"a {type(env).__name__}"
    raise ValueError(f"{taker} got {given}; it takes one world, such as of mjx_safety.make")
