"""Checks that a file holds a policy: its arrays, its network, its training (host)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mjx_safety.agents import actor

MOMENTS = ("obs_mean", "obs_std")
ORIGIN = {"config": dict, "env_steps": int, "versions": dict}  # types of what a policy knows of its training
RUN = {"env": str, "algo": str, "physics": str, "cost_limits": list, "randomize": list}  # of the flags of its training


def check(known: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError, TypeError, AttributeError or KeyError if a policy could not act or tell where it is from.

    known: `about` of its file.
    """
    sizes = {name: known[name]["size"] for name in ("observation", "action")}
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise ValueError(f"its {name} has the size {size!r}; it must be a whole number of at least 1")
    _check_arrays(sizes["observation"], sizes["action"], arrays)
    _check_network(known["network"])
    run_of(known["origin"])


def run_of(origin: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the flags `run` of a policy's training, as far as they are known. Raises TypeError for wrong types."""
    _check_types("its origin", {"": origin}, {"": dict})
    _check_types("its origin", origin, ORIGIN)
    run = origin.get("config", {}).get("run", {})
    _check_types("its training", {"": run}, {"": dict})
    _check_types("its training", run, RUN)
    return run


def _check_arrays(obs_size: int, action_size: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays that are not finite, and layers that do not fit each other."""
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"its {name} has entries that are no finite numbers")
    num_layers = sum(name.startswith("weight_") for name in arrays)
    if not num_layers:
        raise ValueError("it has no layers")
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(MOMENTS, (obs_size,))
    inputs = obs_size
    for i in range(num_layers):
        outputs = arrays[f"bias_{i}"].size
        if i == num_layers - 1:  # means, and without `log_std` also the logarithms of the spread
            outputs = action_size if "log_std" in arrays else 2 * action_size
        shapes |= {f"weight_{i}": (inputs, outputs), f"bias_{i}": (outputs,)}
        inputs = outputs
    if "log_std" in arrays:
        shapes["log_std"] = (action_size,)
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(f"its {name} has shape {arrays[name].shape}; it must have {shape}")
    if not (arrays["obs_std"] > 0.0).all():
        raise ValueError("its obs_std must be above 0")


def _check_network(network: Mapping[str, Any]) -> None:
    for name, allowed in {"activation": actor.ACTIVATIONS, "squash": actor.SQUASHES}.items():
        if network[name] not in allowed:
            raise ValueError(f"its {name} is {network[name]!r}; it must be one of: {', '.join(allowed)}")
    low, high = network["log_std_range"]
    for value in (network["obs_clip"], *(end for end in (low, high) if end is not None)):
        if isinstance(value, bool) or math.isnan(value):
            raise ValueError(f"its network has the bound {value!r}, which is no number")


def _check_types(whose: str, values: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Refuse values of another type. Names that are not there pass; the entries of lists must be texts."""
    for name, kind in kinds.items():
        value = values.get(name, kind())
        is_list_of_others = isinstance(value, list) and not all(isinstance(entry, str) for entry in value)
        if not isinstance(value, kind) or is_list_of_others:
            wanted = "a list of texts" if kind is list else f"of type {kind.__name__}"
            raise TypeError(f"{whose} has {name or 'a value'} {str(value)[:40]!r}; it must be {wanted}")
