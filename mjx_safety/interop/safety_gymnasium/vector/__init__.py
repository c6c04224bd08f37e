"""safety-gymnasium's `vector`. `make` steps all worlds in one program. The classes loop over single worlds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium

from mjx_safety.interop.safety_gymnasium import six_values
from mjx_safety.interop.safety_gymnasium.vector.async_vector_env import SafetyAsyncVectorEnv
from mjx_safety.interop.safety_gymnasium.vector.sync_vector_env import SafetySyncVectorEnv

Wrapper = Callable[[gymnasium.Env], gymnasium.Env]


def make(
    env_id: str,
    num_envs: int = 1,
    asynchronous: bool = True,
    wrappers: Wrapper | Sequence[Wrapper] | None = None,
    **settings: Any,
) -> six_values.SixValuesVector | SafetySyncVectorEnv:
    """Make a batch. asynchronous: has no effect; wrappers: of each world. With wrappers, worlds step one by one."""
    if not wrappers:
        return six_values.make_vector(env_id, num_envs, **settings)
    chain = list(wrappers) if isinstance(wrappers, Iterable) else [wrappers]

    def make_one() -> gymnasium.Env:
        env: gymnasium.Env = six_values.make(env_id, **settings)
        for wrapper in chain:
            env = wrapper(env)
        return env

    return SafetySyncVectorEnv([make_one] * num_envs)


__all__ = ["SafetyAsyncVectorEnv", "SafetySyncVectorEnv", "make"]
