"""Silences MuJoCo's warnings of a blow-up, so that no log fills the user's folder. The environment handles blow-ups."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import mujoco

_LOCK, _INSIDE = threading.Lock(), [0]  # guards the number of threads that are inside of `no_warnings`


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Keep MuJoCo from writing MUJOCO_LOG.TXT meanwhile. A handler that the program has installed stays in charge."""
    with _LOCK:
        _INSIDE[0] += 1
        if mujoco.get_mju_user_warning() is None:
            mujoco.set_mju_user_warning(_ignore)
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE[0] -= 1
            if not _INSIDE[0] and mujoco.get_mju_user_warning() is _ignore:
                mujoco.set_mju_user_warning(None)


def _ignore(message: str) -> None:
    """Do nothing: `Env.step` reports the blow-up."""
