"""One training per folder: a lock of the operating system, which ends with its process however that ends (host)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from mjx_safety.runs.errors import UsageError

FILE = ".lock"


@contextlib.contextmanager
def hold(folders: Sequence[Path]) -> Iterator[None]:
    """Make the folders and hold their locks. Folders that are empty at the end are removed.

    Raises UsageError if another process trains into one of them, or if one cannot be written.
    """
    made: list[Path] = []
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, made)
        for folder in dict.fromkeys(folders):
            try:
                made += [path for path in (folder, *folder.parents) if not path.exists()]
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder / FILE, timeout=0))
            except Timeout:
                raise UsageError(
                    f"{folder} is in use: another process trains into it; wait for it, or stop it"
                ) from None
            except OSError as error:
                reason = error.strerror or str(error)
                raise UsageError(f"{folder} cannot be written: {reason}; choose another folder with --out") from error
        yield


def _remove_empty(made: Sequence[Path]) -> None:
    """Remove those of the new folders that hold nothing but a lock."""
    for folder in sorted(set(made), key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):
            if [path.name for path in folder.iterdir()] == [FILE]:
                (folder / FILE).unlink()
            folder.rmdir()
