"""Saves a TrainState and restores it bit for bit (host).

A checkpoint is a folder with two orbax trees: `world` (the worlds and the replay buffer) and `agent` (the rest). Users
can therefore read a policy without the engine or the number of worlds of its training.
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
KEEP = 2  # number of newest checkpoints to keep


def save(folder: Path, state: TrainState) -> Path:
    """Write folder/<number of rollouts> atomically, and delete all but the newest KEEP. Returns its path."""
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
    """The newest checkpoint in a folder, or None."""
    paths = found(folder)
    return paths[-1] if paths else None


def restore(path: Path, like: TrainState) -> TrainState:
    """Read a whole checkpoint. like: a TrainState, or its shapes from `jax.eval_shape(train.init, ...)`."""
    env_state, replay = _read(path / "world", (like.env_state, like.replay))
    return restore_agent(path, like).replace(env_state=env_state, replay=replay)


def restore_agent(path: Path, like: TrainState) -> TrainState:
    """Read everything but worlds and replay buffer: `env_state` is None and `replay` is () in the result."""
    return _read(path / "agent", _agent(like))


def found(folder: Path) -> list[Path]:
    """All checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("*") if path.name.isdigit())


def _checkpointer() -> ocp.StandardCheckpointer:
    """A checkpointer of this process alone, also if several train together."""
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _agent(state: TrainState) -> TrainState:
    """The state without the worlds and the replay buffer."""
    return state.replace(env_state=None, replay=())


def _names(tree: Any) -> list[str]:
    """Name leaves by position and path. Positions make names unique, paths make them readable."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return [f"{i:04d}_{jax.tree_util.keystr(path, simple=True, separator='-')}" for i, path in enumerate(paths)]


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Flatten to plain arrays: keys as their words, without empty arrays, which orbax cannot store."""
    leaves = [np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for leaf in jax.tree.leaves(tree)]
    return {name: leaf for name, leaf in zip(_names(tree), leaves, strict=True) if leaf.size}


def _read(path: Path, like: Tree) -> Tree:
    """Read the arrays of `_to_arrays` into the structure of `like`. Raises ValueError if they do not fit."""
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
