"""XLA's flags for a GPU: a whole env step as one CUDA graph instead of thousands of launches."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import MutableMapping

CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")

# Loops and conditionals too become part of the graph; without them each loop ends it. It takes CUDA 12.3 or newer, and
# XLA leaves them out by itself where the driver is older.
COMMAND_BUFFER = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,WHILE,CONDITIONAL,DYNAMIC_SLICE_FUSION",
    "xla_gpu_graph_min_graph_size": 1,
}


def set_gpu_flags(environ: MutableMapping[str, str] = os.environ) -> None:
    """Add `COMMAND_BUFFER` to XLA_FLAGS where JAX can use an NVIDIA GPU. A flag that is there already stays as it is.

    Only the command line calls this, before JAX looks for devices: importing mjx_safety changes no setting.
    """
    if not any(importlib.util.find_spec(name) for name in CUDA_PLUGINS):
        return
    given = environ.get("XLA_FLAGS", "")
    new = [f"--{name}={value}" for name, value in COMMAND_BUFFER.items() if f"--{name}=" not in given]
    environ["XLA_FLAGS"] = " ".join([*given.split(), *new])
