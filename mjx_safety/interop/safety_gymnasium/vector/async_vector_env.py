"""The class that SafePO imports. JAX and MuJoCo use all cores, so worlds need no processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from mjx_safety.interop.safety_gymnasium.vector.sync_vector_env import SafetySyncVectorEnv


class SafetyAsyncVectorEnv(SafetySyncVectorEnv):
    """Steps worlds one after the other in this process.

    env_fns: see `SafetySyncVectorEnv`; all others: the reference's, without effect.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gymnasium.Env]],
        observation_space: Any = None,
        action_space: Any = None,
        shared_memory: bool = True,
        copy: bool = True,
        context: str | None = None,
        daemon: bool = True,
        worker: Callable[..., Any] | None = None,
    ):
        super().__init__(env_fns)
