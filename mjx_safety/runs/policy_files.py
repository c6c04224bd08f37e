"""Files of a policy for programs without this package: .npz for NumPy, .onnx for ONNX runtimes (host).

An .npz has the arrays `obs_mean`, `obs_std`, `weight_0`, `bias_0`, ... and the text `about`: JSON with the observation,
the action, the network and the training. It also has `log_std` if the policy's spread does not depend on the
observation.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mjx_safety.agents.types import Actor
from mjx_safety.core import files
from mjx_safety.runs import policy_checks
from mjx_safety.runs.policy import Policy

FORMAT = 1
SUFFIXES = (".npz", ".onnx")
OPSET, IR_VERSION = 17, 8  # of ONNX; old enough for runtimes since 2022
INPUT, OUTPUT = "obs", "action"
UNREADABLE = (
    *(AttributeError, EOFError, KeyError, MemoryError, OverflowError, TypeError, ValueError, RecursionError),
    *(OSError, RuntimeError, zipfile.BadZipFile, zlib.error),  # RuntimeError: bits say that a member is encrypted
)
STATIC = ("activation", "squash", "log_std_range", "obs_clip")  # fields of `Actor` that are no arrays


def about(policy: Policy) -> dict[str, Any]:
    """What a program must know to use the policy, as plain values. None in `log_std_range`: no bound."""
    network = {name: getattr(policy.actor, name) for name in STATIC}
    network["log_std_range"] = [end if math.isfinite(end) else None for end in policy.actor.log_std_range]
    return {
        "format": FORMAT,
        "env": policy.env_id,
        "observation": {
            "size": policy.obs_size,
            "slices": {name: [part.start, part.stop] for name, part in policy.obs_slices.items()},
        },
        "action": {"size": policy.action_size, "names": list(policy.action_names), "low": -1.0, "high": 1.0},
        "network": network,
        "origin": policy.origin,
    }


def write(policy: Policy, path: Path) -> None:
    """Write the policy as its suffix says. Raises ValueError for a suffix that is none of `SUFFIXES`."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is of no known kind; it must end in: {', '.join(SUFFIXES)}")
    (write_npz if path.suffix == ".npz" else write_onnx)(policy, path)


def write_npz(policy: Policy, path: Path) -> None:
    """Write the policy as NumPy arrays."""
    arrays = {"obs_mean": policy.actor.obs_mean, "obs_std": policy.actor.obs_std}
    for i, (weight, bias) in enumerate(zip(policy.actor.weights, policy.actor.biases, strict=True)):
        arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
    if policy.actor.log_std is not None:
        arrays["log_std"] = policy.actor.log_std
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    text = files.to_json(about(policy))
    with files.replacing(path) as file:
        np.savez_compressed(file, about=np.array(text), **content)


def read_npz(path: Path) -> Policy:
    """Read a file of `write_npz`. Raises ValueError for another file."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        known = json.loads(str(arrays.pop("about")))
        if known["format"] != FORMAT:
            raise ValueError(f"it has format {known['format']}, and this version reads {FORMAT}")
        if not isinstance(known["env"], str):
            raise ValueError(f"its environment is {known['env']!r}, not an id")
        policy_checks.check(known, arrays)
        return _policy(known, arrays)
    except UNREADABLE as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise ValueError(f"{path} is no policy of mjx_safety.export: {reason}") from error


def _policy(known: dict[str, Any], arrays: dict[str, np.ndarray]) -> Policy:
    num_layers = sum(name.startswith("weight_") for name in arrays)
    low, high = known["network"]["log_std_range"]
    bounds = -math.inf if low is None else low, math.inf if high is None else high
    network = dict(known["network"], log_std_range=bounds)
    return Policy(
        env_id=known["env"],
        obs_size=known["observation"]["size"],
        action_size=known["action"]["size"],
        obs_slices={name: slice(*ends) for name, ends in known["observation"]["slices"].items()},
        action_names=tuple(known["action"]["names"]),
        actor=Actor(
            obs_mean=jnp.asarray(arrays["obs_mean"]),
            obs_std=jnp.asarray(arrays["obs_std"]),
            weights=tuple(jnp.asarray(arrays[f"weight_{i}"]) for i in range(num_layers)),
            biases=tuple(jnp.asarray(arrays[f"bias_{i}"]) for i in range(num_layers)),
            log_std=jnp.asarray(arrays["log_std"]) if "log_std" in arrays else None,
            **network,
        ),
        origin=files.with_numbers(known["origin"]),
    )


def write_onnx(policy: Policy, path: Path) -> None:
    """Write the mean action as an ONNX graph: `obs` [N, O] raw -> `action` [N, A]. Its metadata has `about`.

    Needs the package onnx.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants: dict[str, Any] = {
        "mean": policy.actor.obs_mean,
        "std": policy.actor.obs_std,
        "one": 1.0,
        "minus_one": -1.0,
    }
    constants |= {"top": policy.actor.obs_clip, "bottom": -policy.actor.obs_clip}
    nodes = [
        helper.make_node("Sub", [INPUT, "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "bottom", "top"], ["hidden_0"]),
    ]
    last = len(policy.actor.weights) - 1
    for i, (weight, bias) in enumerate(zip(policy.actor.weights, policy.actor.biases, strict=True)):
        size = policy.action_size if i == last else None  # a head that also gives the spread is cut
        constants |= {f"weight_{i}": weight[:, :size], f"bias_{i}": bias[:size]}
        nodes.append(helper.make_node("Gemm", [f"hidden_{i}", f"weight_{i}", f"bias_{i}"], [f"linear_{i}"]))
        if i < last:
            kind = {"tanh": "Tanh", "relu": "Relu"}[policy.actor.activation]
            nodes.append(helper.make_node(kind, [f"linear_{i}"], [f"hidden_{i + 1}"]))
    end = f"linear_{last}"
    squash = {"clip": ("Clip", [end, "minus_one", "one"]), "tanh": ("Tanh", [end])}[policy.actor.squash]
    graph = helper.make_graph(
        [*nodes, helper.make_node(*squash, [OUTPUT])],
        "policy",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", policy.obs_size])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", policy.action_size])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="mjx_safety")
    helper.set_model_props(model, {"about": files.to_json(about(policy))})
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as file:
        file.write(model.SerializeToString())
