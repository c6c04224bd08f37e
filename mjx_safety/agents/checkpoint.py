"""Saving a TrainState and getting it back bit for bit (host).

A checkpoint is a folder with two orbax trees, `world` (the worlds, and past steps in a replay) and `agent` (the rest),
so that a policy can be read where the training's engine or number of worlds is not available.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from mjx_safety.agents.types import TrainState

Tree = TypeVar("Tree")
KEEP = 2  # newest checkpoints that stay


def save(folder: Path, state: TrainState) -> Path:
    """Write folder/<number of rollouts>, whole or not at all; drop all but the newest KEEP. Returns its path."""
    target = folder.resolve() / f"{int(state.num_rollouts):08d}"
    partial = target.with_name(f"{target.name}.partial")
    for leftover in (partial, target):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    with _checkpointer() as checkpointer:
        checkpointer.save(partial / "agent", _to_arrays(_agent(state)))
        checkpointer.wait_until_finished()
        checkpointer.save(partial / "world", _to_arrays((state.env_state, state.replay)))
    partial.rename(target)
    for old in found(folder)[:-KEEP]:
        shutil.rmtree(old)
    return target


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in a folder, if there is one."""
    paths = found(folder)
    return paths[-1] if paths else None


def restore(path: Path, like: TrainState) -> TrainState:
    """Read a whole checkpoint. like: a TrainState, or its shapes from `jax.eval_shape(train.init, ...)`."""
    env_state, replay = _read(path / "world", (like.env_state, like.replay))
    return restore_agent(path, like).replace(env_state=env_state, replay=replay)


def restore_agent(path: Path, like: TrainState) -> TrainState:
    """Read all but the worlds and the past steps: `env_state` is None and `replay` is () in the result."""
    return _read(path / "agent", _agent(like))


def found(folder: Path) -> list[Path]:
    """All checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("*") if path.name.isdigit())


def _checkpointer() -> ocp.StandardCheckpointer:
    """Read and write by this process alone, wherever several train together."""
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _agent(state: TrainState) -> TrainState:
    """What acts and learns, without the worlds and the past steps."""
    return state.replace(env_state=None, replay=())


def _names(tree: Any) -> list[str]:
    """Name leaves by their position and path. Positions keep names apart, paths keep them readable."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return [f"{i:04d}_{jax.tree_util.keystr(path, simple=True, separator='-')}" for i, path in enumerate(paths)]


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Flatten to plain arrays: keys as their words, empty arrays left out (orbax stores none)."""
    leaves = [np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for leaf in jax.tree.leaves(tree)]
    return {name: leaf for name, leaf in zip(_names(tree), leaves, strict=True) if leaf.size}


def _read(path: Path, like: Tree) -> Tree:
    """Read what `_to_arrays` wrote into the structure of `like`, and refuse anything that does not fit."""
    leaves, structure = jax.tree.flatten(like)
    shapes = [jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf for leaf in leaves]
    names = _names(like)
    with _checkpointer() as checkpointer:
        arrays = checkpointer.restore(path.resolve())
    expected = {
        name: (shape.shape, np.dtype(shape.dtype)) for name, shape in zip(names, shapes, strict=True) if shape.size
    }
    stored = {name: (array.shape, np.dtype(array.dtype)) for name, array in arrays.items()}
    if stored != expected:
        wrong = sorted(name for name in stored.keys() | expected.keys() if stored.get(name) != expected.get(name))
        raise ValueError(
            f"{path} does not fit this training: {wrong[0]} is {stored.get(wrong[0])} in the checkpoint and "
            f"{expected.get(wrong[0])} here ({len(wrong)} arrays differ)"
        )
    read = []
    for name, leaf, shape in zip(names, leaves, shapes, strict=True):
        array = jax.numpy.asarray(arrays[name]) if name in arrays else jax.numpy.zeros(shape.shape, shape.dtype)
        read.append(jax.random.wrap_key_data(array) if _is_key(leaf) else array)
    return jax.tree.unflatten(structure, read)
