"""The class that SafePO imports. JAX and MuJoCo use all cores, so worlds need no own processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from mjx_safety.interop.safety_gymnasium.vector.sync_vector_env import SafetySyncVectorEnv


class SafetyAsyncVectorEnv(SafetySyncVectorEnv):
    """Steps worlds one after the other in this process. The reference's options for processes have no effect."""

    def __init__(self, env_fns: Sequence[Callable[[], gymnasium.Env]], **process_options: Any):
        super().__init__(env_fns)
