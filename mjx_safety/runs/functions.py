"""External policies: a function of observations, an .onnx file, or a policy of this package (host)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from mjx_safety.core import files
from mjx_safety.core.importing import import_function
from mjx_safety.runs import policy_checks
from mjx_safety.runs.errors import last_line
from mjx_safety.runs.loading import load_policy

PolicyFn = Callable[[np.ndarray], Any]  # raw observations [B, O] float32 -> actions [B, A]


class BadActionError(ValueError):
    """A policy returned something that is not an action."""


class ExternalPolicy(NamedTuple):
    """A function from observations to actions, and what is known of it."""

    name: str
    act_fn: PolicyFn
    env_id: str = ""  # empty: it does not say
    obs_size: int | None = None  # None: it does not say
    action_size: int | None = None
    is_code: bool = False  # whether it is a function of the user's module, not a file
    run: Mapping[str, Any] = MappingProxyType({})  # flags `run` of its training, as far as they are known


def find_function(source: str, trust: bool = False) -> ExternalPolicy:
    """Find a policy by package.module:function, a file, a run folder or a name of `load_policy`.

    Raises ValueError if there is none, and ImportError for an .onnx file without the package onnxruntime. trust: see
    `load_policy`.
    """
    if source.endswith(".onnx"):
        return _read_onnx(Path(source))
    if ":" in source and not Path(source).exists():
        function = import_function(source, "policy", "a function of observations that returns actions")
        return ExternalPolicy(source, function, str(getattr(function, "env_id", "")), is_code=True)
    policy = load_policy(source, trust=trust)
    run = policy_checks.run_of(policy.origin)
    return ExternalPolicy(source, policy, policy.env_id, policy.obs_size, policy.action_size, run=run)


def checked(function: ExternalPolicy, num_envs: int, action_size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Wrap the function to clip actions to [-1, 1], and to raise BadActionError unless they are finite and [B, A]."""

    def act(obs: np.ndarray) -> np.ndarray:
        given = function.act_fn(obs)
        try:
            action = np.asarray(given, np.float32)
        except (TypeError, ValueError) as error:
            kind = type(given).__name__
            raise BadActionError(f"{function.name} returned a {kind}; it must return an array of actions") from error
        if action.shape != (num_envs, action_size):
            wanted = f"[B, A] = {(num_envs, action_size)} for observations of shape {obs.shape}"
            raise BadActionError(f"{function.name} returned actions of shape {action.shape}; they must be {wanted}")
        if not np.isfinite(action).all():
            raise BadActionError(f"{function.name} returned an action that is not finite")
        return np.clip(action, -1.0, 1.0)

    return act


def _read_onnx(path: Path) -> ExternalPolicy:
    """Run a graph whose first input is [N, O] and whose first output is [N, A]."""
    import onnxruntime

    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own types share no base class
        raise ValueError(f"{path} is no ONNX model that onnxruntime can run: {error}") from error
    first, output = session.get_inputs()[0], session.get_outputs()[0]

    def act(obs: np.ndarray) -> np.ndarray:
        batches = [obs] if first.shape[:1] != [1] else [row[None] for row in obs]  # graphs for one observation
        try:
            results = [np.asarray(session.run([output.name], {first.name: batch})[0]) for batch in batches]
        except Exception as error:
            raise BadActionError(
                f"{path} cannot act on observations {list(obs.shape)}: {last_line(str(error))}"
            ) from error
        return np.concatenate(results)

    env_id, run = _training_of(session, path)
    return ExternalPolicy(str(path), act, env_id, _width(first.shape), _width(output.shape), run=run)


def _training_of(session: Any, path: Path) -> tuple[str, Mapping[str, Any]]:
    """Return environment and flags of the training of a graph, or nothing. Raises ValueError for wrong metadata."""
    try:
        about = files.with_numbers(json.loads(session.get_modelmeta().custom_metadata_map.get("about", "{}")))
        env_id, origin = str(about.get("env", "")), about.get("origin", {})
    except (AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} has metadata 'about' that is no mapping in JSON: {error}") from error
    try:
        return env_id, policy_checks.run_of(origin)
    except TypeError as error:
        raise ValueError(f"{path} has metadata 'about' with wrong entries: {error}") from error


def _width(shape: Sequence[Any]) -> int | None:
    """Return the last of two axes of a graph's input or output, if it is a number."""
    return shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None
