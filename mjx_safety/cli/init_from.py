"""`--init-from`: a training that starts with the networks and the normaliser of another run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mjx_safety.agents import TrainState, checkpoint
from mjx_safety.runs import environments, run_folder
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.training_options import Options
from mjx_safety.types import Sizes


def begin(start: Callable[[], TrainState], path: Path, sizes: Sizes, is_group: bool) -> Callable[[], TrainState]:
    """Return `start` with the parameters and the normaliser of the newest checkpoint of a run.

    Worlds, optimisers, multipliers and the estimate of the cost stay fresh. sizes: of the new environment; is_group:
    the state has a leading axis [S]. Raises UsageError for a run that does not fit.
    """
    options, agent = _read(path, sizes)
    mine, its = jax.eval_shape(start), (agent.params, agent.normaliser)
    _check(path, options.run.algo, (mine.params, mine.normaliser), its, int(is_group))

    def begun() -> TrainState:
        state = start()
        params, normaliser = jax.tree.map(
            lambda new, old: jnp.broadcast_to(jnp.asarray(old), new.shape), (state.params, state.normaliser), its
        )
        return state.replace(params=params, normaliser=normaliser)

    return begun


def _read(path: Path, sizes: Sizes) -> tuple[Options, TrainState]:
    """The options and the agent of a run."""
    if not run_folder.holds_run(path):
        raise UsageError(f"--init-from {path} is not a run folder: it has no config.json")
    found = checkpoint.latest(path / "checkpoints")
    if found is None:
        raise UsageError(f"--init-from {path} has no checkpoint")
    try:
        options = run_folder.read_options(path / run_folder.CONFIG)
        algorithm = options.build()
    except UsageError as error:
        raise UsageError(f"--init-from {path}: {error}") from error
    # An environment that is code is not imported. Its sizes must be those of the new one.
    env: Any = sizes
    if ":" not in options.run.env:
        env = options.worlds(environments.build_env(options.run.env, "mujoco", randomize=options.run.randomize))
    for name in ("obs_size", "action_size"):
        if getattr(env, name) != getattr(sizes, name):
            raise UsageError(
                f"--init-from {path}: {options.run.env} has {name} {getattr(env, name)}, and this environment has "
                f"{getattr(sizes, name)}; they must be equal"
            )
    try:
        return options, checkpoint.restore_agent(found, jax.eval_shape(partial(algorithm.init, env), jax.random.key(0)))
    except (KeyError, OSError, ValueError) as error:
        raise UsageError(f"--init-from {path}: the checkpoint {found.name} cannot be read: {error}") from error


def _check(path: Path, algo: str, mine: Any, its: Any, num_axes: int) -> None:
    """Refuse parameters of other networks. num_axes: leading axes of mine that its lack."""
    remedy = "take an --algo of the same kind, and the same --hidden-sizes, --risk-level and number of --cost-limits"
    if jax.tree.structure(mine) != jax.tree.structure(its):
        raise UsageError(f"--init-from {path} has the networks of {algo}, which do not fit this training; {remedy}")
    for (name, new), old in zip(jax.tree_util.tree_leaves_with_path(mine), jax.tree.leaves(its), strict=True):
        if new.shape[num_axes:] != old.shape:
            where = jax.tree_util.keystr(name[1:], simple=True, separator=".")
            shapes = f"{where} has shape {old.shape} there and {new.shape[num_axes:]} here"
            raise UsageError(f"--init-from {path} has other networks: {shapes}; {remedy}")
