"""Refuses what no algorithm can learn from, in one sentence and before anything compiles.

The settings of a program are checked where they are used, so that a notebook gets the same answers as the command line.
Values that are traced, such as learning rates under `jax.vmap`, pass.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_safety.agents.types import Algorithm, Constraint, OffPolicyTrainConfig, TrainState
from mjx_safety.core.arguments import as_count

# Infinity is a value of these.
UNBOUNDED = ("target_kl", "max_grad_norm", "multiplier_max", "num_iterations", "final_std")
SIGNED = ("init_log_std", "target_entropy", "target_kl", "unsafe_reward")  # negative numbers are values of these
SHARE = (0.0, 1.0, "at least 0 and at most 1")
POSITIVE = (0.0, math.inf, "above 0")
RANGES = {  # lowest and highest value of a setting, and the range in words; "above" and "below" leave out its ends
    "budget_start": (0.0, 1.0, "above 0 and at most 1"),
    "budget_smoothing": (0.0, 1.0, "above 0 and at most 1"),
    "tau": (0.0, 1.0, "above 0 and at most 1"),
    "average_share": SHARE,
    "backtrack_factor": (0.0, 1.0, "above 0 and below 1"),
    "smoothing": (0.0, 1.0, "at least 0 and below 1"),
    "least_room": POSITIVE,
    "final_std": POSITIVE,
    "sharpness": POSITIVE,
    "temperature": POSITIVE,
    "init_temperature": POSITIVE,
    "updates_per_step": POSITIVE,
}
TRAINING_RANGES = {  # the same of a `TrainConfig`
    **{name: SHARE for name in ("discount", "cost_discount", "gae_lambda", "cost_gae_lambda", "limit_fall")},
    "cost_smoothing": (0.0, 1.0, "at least 0 and below 1"),
    "limit_start": (1.0, math.inf, "at least 1"),
    "num_iterations": (1.0, math.inf, "at least 1"),
}


def is_inside(value: float, bounds: tuple[float, float, str]) -> bool:
    """Whether a number lies in a range. NaN lies in none."""
    low, high, words = bounds
    above = value > low or (value == low and "above" not in words)
    return above and (value < high or (value == high and "below" not in words))


def number(name: str, value: Any) -> float | None:
    """Return a known number, or None for a traced one. Raises ValueError for anything but one number."""
    is_array = isinstance(value, (jax.Array, np.ndarray, np.generic))
    kinds = (jnp.floating, jnp.integer)
    is_real = is_array and any(jnp.issubdtype(value.dtype, kind) for kind in kinds) and jnp.shape(value) == ()
    if not (is_real or (isinstance(value, (int, float)) and not isinstance(value, bool))):
        given = f"an array of shape {jnp.shape(value)}" if is_array else repr(value)
        raise ValueError(f"{name} is {given}; it must be one number")
    return None if isinstance(value, jax.core.Tracer) else float(value)


def check_settings(settings: Any, ranges: dict[str, tuple[float, float, str]] = RANGES) -> None:
    """Raise ValueError for a field of a dataclass that is no number of its range, or no whole number where it counts.

    ranges: of some fields. Any other float is finite and at least 0, unless UNBOUNDED or SIGNED name it.
    """
    for field in dataclasses.fields(settings):
        name, value = field.name, getattr(settings, field.name)
        if field.type in ("int", int):
            if as_count(value) is None:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
        elif name == "hidden_sizes":
            sizes = value if isinstance(value, (tuple, list)) else (None,)
            if any(as_count(size) is None for size in sizes):
                raise ValueError(f"{name} is {value!r}; it must be whole numbers of units, each at least 1: (64, 64)")
        elif field.type not in ("float", float) or (callable(value) and name.endswith("learning_rate")):
            continue  # a field of a user's own, or a schedule of optax
        elif (known := number(name, value)) is not None:
            bounds = ranges.get(name, (-math.inf if name in SIGNED else 0.0, math.inf, "at least 0"))
            if not math.isfinite(known) and not (known > 0.0 and name in UNBOUNDED):
                raise ValueError(f"{name} is {known}; it must be a finite number")
            if not is_inside(known, bounds):
                raise ValueError(f"{name} is {known}; it must be {bounds[2]}")


def check_algorithm(name: str, config: Any, kind: type, constraint: Any, weighs: bool | None = None) -> None:
    """Raise ValueError unless an algorithm can be built from its settings and its constraint.

    kind: class of the settings. weighs: True if the algorithm needs multipliers, False if it has no use for them.
    """
    if not isinstance(config, kind):
        given = f"the class {config.__name__}" if isinstance(config, type) else f"a {type(config).__name__}"
        raise ValueError(f"{name} got {given} as its settings; it takes a {kind.__name__}, such as {kind.__name__}()")
    if not isinstance(constraint, Constraint):
        given = f"a {type(constraint).__name__}"
        raise ValueError(
            f"{name} got {given} as its constraint; it takes one, such as lagrangian(25.0) or hard_limit(25.0)"
        )
    check_settings(config)
    if None in (weighs, constraint.has_multipliers) or weighs == constraint.has_multipliers:
        return
    if weighs:
        raise ValueError(f"{name} holds a limit by multipliers only; hard_limit has none, so take lagrangian(25.0)")
    raise ValueError(f"{name} holds its limit without multipliers, so those do nothing; take hard_limit(25.0)")


def check_training(venv: Any, env_state: Any, config: Any, kind: type) -> None:
    """Raise ValueError unless an iteration can run in these worlds. kind: class of the training's settings."""
    is_off_policy = kind is OffPolicyTrainConfig
    if not isinstance(config, kind):
        use = "an off-policy" if is_off_policy else "an on-policy"
        raise ValueError(
            f"the settings of the training are of type {type(config).__name__}; {use} algorithm takes a {kind.__name__}"
        )
    for field in dataclasses.fields(config) if is_off_policy else ():
        value, names = getattr(config, field.name), {known.name for known in dataclasses.fields(kind)}
        if field.name not in names and (isinstance(value, jax.core.Tracer) or value != field.default):
            raise ValueError(f"{field.name} is {value}; an off-policy algorithm has no use for it, so leave it out")
    check_settings(config, TRAINING_RANGES)
    check_worlds(venv)
    if jnp.shape(env_state.done) != (venv.num_envs,):
        raise ValueError(
            f"the state has {len(env_state.done)} worlds; it must have the {venv.num_envs} of its training"
        )


def check_worlds(venv: Any) -> None:
    """Raise ValueError unless these are many worlds whose ended episodes are replaced in the step that ends them."""
    if as_count(getattr(venv, "num_envs", None)) is None:
        raise ValueError(f"the worlds are a {type(venv).__name__}; agents train on those of vectorize(env, num_envs)")
    check_autoreset(venv)


def check_autoreset(venv: Any) -> None:
    """Raise ValueError for worlds whose ended episodes are replaced later than agents expect, or never."""
    inner = venv
    while hasattr(inner, "venv"):  # worlds around others, such as those with a budget
        inner = inner.venv
    autoreset = getattr(inner, "autoreset", "same_step")
    if autoreset != "same_step":
        raise ValueError(f"the worlds have autoreset={autoreset!r}; agents take those with autoreset='same_step'")


def check_state(algorithm: Algorithm, venv: Any, state: TrainState) -> None:
    """Raise ValueError unless `init` of this algorithm, in these worlds, makes such a state."""
    made = jax.eval_shape(partial(algorithm.init, venv), jax.random.key(0))
    for name in ("params", "opt_state", "constraint", "normaliser", "replay", "recent_costs"):
        ours, given = (jax.tree.map(jnp.shape, getattr(each, name)) for each in (made, state))
        if jax.tree.structure(ours) != jax.tree.structure(given) or ours != given:
            raise ValueError(
                f"another algorithm, or the same with other settings, began the state: its {name} differs; "
                "begin with init(venv, algorithm, key)"
            )


def check_same(before: Any, after: Any) -> None:
    """Raise ValueError unless a step gave the worlds [B] back with the same fields, shapes and types."""
    old, new = (jax.tree_util.tree_leaves_with_path(tree) for tree in (before, after))
    types = [{jax.tree_util.keystr(path): _type_of(leaf) for path, leaf in tree} for tree in (old, new)]
    for name in {**types[0], **types[1]}:
        was, is_now = (each.get(name) for each in types)
        if was != is_now:
            told = [f"{one[1]}{list(one[0])}" if one else "nothing" for one in (was, is_now)]
            field = name.lstrip(".").replace("env_state.", "")
            raise ValueError(f"reset gives {field} as {told[0]} and step as {told[1]}; both must give the same type")


def _type_of(leaf: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype of an array, a key or a number."""
    return jnp.shape(leaf), leaf.dtype if hasattr(leaf, "dtype") else jnp.asarray(leaf).dtype
