"""Waits for slow calls, so that a signal ends the program within seconds, also while it compiles (host).

Python handles a signal only between two of its instructions in the main thread. A compilation is one long call. It
therefore runs in another thread, which cannot be ended from outside. The main thread gives up the waiting instead.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import NoReturn, TypeVar

from mjx_safety.cli.common import GracefulStop

T = TypeVar("T")
PATIENCE = 5.0  # s that a call may go on after the request to stop; saving and drawing take the rest of ten
TICK = 0.2  # s between looks at the request
NAME = "mjx_safety call"  # of the threads


class Abandoned(Exception):  # noqa: N818  it is no error
    """The user asked to stop, and the call did not end in time. It goes on until the process ends."""


def wait_for(call: Callable[[], T], stop: GracefulStop, patience: float = PATIENCE) -> T:
    """Run a call and return its result. Raises Abandoned if it goes on for `patience` s after the request to stop."""
    if threading.current_thread() is not threading.main_thread():
        return call()  # no signal comes here
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, name=NAME, daemon=True).start()
    while not wait([result], timeout=TICK).done:
        if stop.requested and time.monotonic() > stop.requested_at + patience:
            raise Abandoned
    return result.result()


def leave(status: int) -> NoReturn:
    """End the process, and with it the calls that `wait_for` has abandoned."""
    if any(thread.name == NAME for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise SystemExit(status)
