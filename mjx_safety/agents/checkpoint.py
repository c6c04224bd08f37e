"""Saves a TrainState and restores it bit for bit (host).

A checkpoint is a folder with two files of NumPy arrays: `world.npz` (the worlds and the replay buffer) and `agent.npz`
(the rest). Users can therefore read a policy without the engine or the number of worlds of its training. A checkpoint
appears whole or not at all. Checksums tell whether it still is. Reading it runs no code.
"""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from mjx_safety.agents.types import TrainState

Tree = TypeVar("Tree")
KEEP = 2  # number of newest checkpoints to keep
FORMAT = 1  # of the files; another number belongs to another version of this module
UNREADABLE = (  # what NumPy and zipfile raise for damaged files; RuntimeError: bits say that a member is encrypted
    *(OSError, EOFError, KeyError, MemoryError, OverflowError, RuntimeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read. The message is one sentence."""


def save(folder: Path, state: TrainState) -> Path:
    """Write folder/<number of rollouts> atomically, and delete all but the newest KEEP. Returns its path.

    A checkpoint of that number stays as it is: it is of the same state. Raises CheckpointError if the disk refuses.
    """
    target = folder.resolve() / f"{int(state.num_rollouts):08d}"
    if not target.exists():
        try:
            _write(target, state)
        except OSError as error:
            shutil.rmtree(_partial(target), ignore_errors=True)
            raise CheckpointError(f"the checkpoint {target} cannot be written: {error.strerror}") from error
    for old in found(folder)[:-KEEP]:
        _delete(old)
    return target


def drop_after(folder: Path, number: int) -> None:
    """Delete the checkpoints of later iterations than `number`, and what a killed process left behind."""
    for path in folder.glob("*.partial"):
        shutil.rmtree(path, ignore_errors=True)
    for path in found(folder):
        if int(path.name) > number:
            _delete(path)


def _write(target: Path, state: TrainState) -> None:
    partial = _partial(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for part, tree in {"agent": _agent(state), "world": (state.env_state, state.replay)}.items():
        write_arrays(partial / f"{part}.npz", tree)
    _sync(partial)
    partial.rename(target)
    _sync(target.parent)


def write_arrays(path: Path, tree: Any) -> None:
    """Write a pytree of arrays to an .npz file, and wait until it is on the disk."""
    with path.open("wb") as file:
        arrays: dict[str, Any] = {"format": np.int32(FORMAT), **_to_arrays(tree)}
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def _delete(path: Path) -> None:
    """Delete a checkpoint. It loses its name first, so that no half of it is ever taken for a whole."""
    doomed = _partial(path)
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Wait until a folder's list of files is on the disk."""
    if os.name != "posix":
        return  # only POSIX opens folders
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in a folder, or None."""
    paths = found(folder)
    return paths[-1] if paths else None


def restore(path: Path, like: TrainState) -> TrainState:
    """Read a whole checkpoint. like: a TrainState, or its shapes from `jax.eval_shape(train.init, ...)`.

    Raises CheckpointError if it is cut short, of another version, or of another training.
    """
    env_state, replay = read_arrays(path / "world.npz", (like.env_state, like.replay))
    return restore_agent(path, like).replace(env_state=env_state, replay=replay)


def restore_agent(path: Path, like: TrainState) -> TrainState:
    """Read everything but worlds and replay buffer: `env_state` is None and `replay` is () in the result."""
    return read_arrays(path / "agent.npz", _agent(like))


def found(folder: Path) -> list[Path]:
    """All checkpoints in a folder, oldest first."""
    paths = (path for path in folder.glob("*") if path.name.isdecimal() and path.is_dir())
    return sorted(paths, key=lambda path: int(path.name))


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
    """Flatten to plain arrays: keys as their words, without empty arrays."""
    leaves = [np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for leaf in jax.tree.leaves(tree)]
    return {name: leaf for name, leaf in zip(_names(tree), leaves, strict=True) if leaf.size}


def read_arrays(path: Path, like: Tree) -> Tree:
    """Read the file of `write_arrays` into the structure of `like`. Runs no code of the file.

    Raises CheckpointError if the file is cut short, of another version, or of another structure.
    """
    leaves, structure = jax.tree.flatten(like)
    shapes = [jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf for leaf in leaves]
    names = _names(like)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
            is_whole, arrays = members.zip.testzip() is None, dict(members)
    except UNREADABLE:
        is_whole, arrays = False, {}
    if not is_whole:
        raise CheckpointError(f"the file {path} is damaged: it is missing, cut short or changed")
    made = arrays.pop("format", None)
    if made != FORMAT:
        raise CheckpointError(f"the file {path} has format {made}; this version of mjx_safety reads {FORMAT}")
    expected = {
        name: (shape.shape, np.dtype(shape.dtype)) for name, shape in zip(names, shapes, strict=True) if shape.size
    }
    stored = {name: (array.shape, np.dtype(array.dtype)) for name, array in arrays.items()}
    if stored != expected:
        wrong = sorted(name for name in stored.keys() | expected.keys() if stored.get(name) != expected.get(name))
        raise CheckpointError(
            f"the file {path} does not fit this training: {wrong[0]} is {stored.get(wrong[0])} in it and "
            f"{expected.get(wrong[0])} here ({len(wrong)} arrays differ)"
        )
    read = []
    for name, leaf, shape in zip(names, leaves, shapes, strict=True):
        array = jax.numpy.asarray(arrays[name]) if name in arrays else jax.numpy.zeros(shape.shape, shape.dtype)
        read.append(jax.random.wrap_key_data(array) if _is_key(leaf) else array)
    return jax.tree.unflatten(structure, read)
