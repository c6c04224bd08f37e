"""Writes files so that a crash, a kill or a full disk leaves them whole (host)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

ABANDONED = 3600.0  # s; a temporary file that is older than its successor by this was left by a killed process
WORDS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}  # numbers that JSON lacks


def write(path: Path, text: str) -> None:
    """Replace a file in one moment. It has the old text or the new one, never a part."""
    with replacing(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of `path` in one moment, once it is on the disk.

    Several processes may write the same file at once: each has a temporary file of its own, and the last one wins.
    Temporary files that killed processes left behind are removed once they are old.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        with new.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        written = new.stat().st_mtime
        new.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # it may be the folder that refuses
            new.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _remove_abandoned(path, written)


def _remove_abandoned(path: Path, now: float) -> None:
    """Remove old temporary files of `path`. now: s, by the clock of the disk."""
    with contextlib.suppress(OSError):  # another process may be faster, and this is only tidying
        for old in path.parent.iterdir():
            is_ours = old.name.startswith(f".{path.name}.") and old.name.endswith(".new")
            if is_ours and old.stat().st_mtime < now - ABANDONED:
                old.unlink()


def append(path: Path, text: str) -> None:
    """Add text to a file, or nothing if the disk refuses. On return it is on the disk."""
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        rest = memoryview(text.encode())
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(before)
            raise OSError(error.errno, error.strerror, str(path)) from error


def to_json(tree: Any) -> str:
    """Return JSON that any program reads: numbers that are not finite become the texts of `WORDS`."""
    return json.dumps(_spelled(tree), default=str, allow_nan=False)


def _spelled(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _spelled(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_spelled(value) for value in tree]
    if isinstance(tree, np.generic):
        return _spelled(tree.item())
    if isinstance(tree, float) and not math.isfinite(tree):
        return next((word for word, value in WORDS.items() if value == tree), "NaN")
    return tree


def with_numbers(tree: Any) -> Any:
    """Undo `to_json` on what a reader of JSON returned."""
    if isinstance(tree, dict):
        return {name: with_numbers(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [with_numbers(value) for value in tree]
    return WORDS.get(tree, tree) if isinstance(tree, str) else tree
