"""External policies: a function of observations, an .onnx file, or a policy of this package (host)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mjx_safety.core.importing import import_function
from mjx_safety.runs.loading import load_policy

ActFn = Callable[[np.ndarray], Any]  # raw observations [B, O] float32 -> actions [B, A]


class BadActionError(ValueError):
    """A policy returned what is no action."""


class Function(NamedTuple):
    """A policy, and what is known of it."""

    name: str
    act_fn: ActFn
    env_id: str = ""  # empty: it does not say


def find_function(source: str) -> Function:
    """Find the policy that a text means: package.module:function, a file, a run folder or a name of `load_policy`.

    Raises ValueError if there is none, and ImportError for an .onnx file without the package onnxruntime.
    """
    if source.endswith(".onnx"):
        return _read_onnx(Path(source))
    if ":" in source and not Path(source).exists():
        function = import_function(source, "policy", "a function of observations that returns actions")
        return Function(source, function, str(getattr(function, "env_id", "")))
    policy = load_policy(source)
    return Function(source, policy, policy.env_id)


def checked(function: Function, num_envs: int, action_size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Wrap the function to clip actions to [-1, 1], and to raise BadActionError unless they are finite and [B, A]."""

    def act(obs: np.ndarray) -> np.ndarray:
        action = np.asarray(function.act_fn(obs), np.float32)
        if action.shape != (num_envs, action_size):
            wanted = f"[B, A] = {(num_envs, action_size)} for observations of shape {obs.shape}"
            raise BadActionError(f"{function.name} returned actions of shape {action.shape}; they must be {wanted}")
        if not np.isfinite(action).all():
            raise BadActionError(f"{function.name} returned an action that is not finite")
        return np.clip(action, -1.0, 1.0)

    return act


def _read_onnx(path: Path) -> Function:
    """Run a graph whose first input is [N, O] and whose first output is [N, A]."""
    import onnxruntime

    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own types share no base class
        raise ValueError(f"{path} is no ONNX model that onnxruntime can run: {error}") from error
    first, output = session.get_inputs()[0], session.get_outputs()[0].name
    about = json.loads(session.get_modelmeta().custom_metadata_map.get("about", "{}"))

    def act(obs: np.ndarray) -> np.ndarray:
        batches = [obs] if first.shape[0] != 1 else [row[None] for row in obs]  # graphs for one observation
        return np.concatenate([np.asarray(session.run([output], {first.name: batch})[0]) for batch in batches])

    return Function(str(path), act, about.get("env", ""))
