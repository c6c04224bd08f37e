"""Measurements that compile side by side, each in a process of its own, and are then timed one by one.

JAX traces under Python's global lock, so threads of one process would trace one program after the other.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")

Measure = Callable[[T, Callable[[], None]], Any]  # measures a case; calls the function when it has compiled


def measure(function: Measure[T], cases: Sequence[T], jobs: int, limit: float = float("inf")) -> Iterator[Any]:
    """Yield what `function` returns for each case, in order; an exception where its process gave no result.

    The timing of the first case begins when all have compiled, or after `limit` seconds; cases that are not ready then
    are stopped. jobs: number of processes that compile at a time.
    """
    context = multiprocessing.get_context("spawn")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else the first process takes the GPU's memory
    room = context.Semaphore(jobs)
    ends, processes = [], []
    for case in cases:
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(function, case, theirs, room), daemon=True)
        process.start()
        theirs.close()
        ends.append(ours)
        processes.append(process)
    ready = _until_ready(ends, time.monotonic() + limit)
    for process, ours in zip(processes, ends, strict=True):
        if ours not in ready:
            process.terminate()
    for process, ours in zip(processes, ends, strict=True):
        yield _result(ours) if ours in ready else TimeoutError(f"did not compile in {limit:.0f} s")
        process.join()


def _until_ready(ends: Sequence[Connection], deadline: float) -> set[Connection]:
    """Wait until every process has compiled or failed. Returns the ends of those that have a result to give."""
    ready: set[Connection] = set()
    while waiting := [end for end in ends if end not in ready]:
        heard = wait(waiting, None if deadline == float("inf") else max(deadline - time.monotonic(), 0.0))
        if not heard:
            break
        ready.update(end for end in heard if isinstance(end, Connection))
    return ready


def _result(ours: Connection) -> Any:
    try:
        has_compiled, result = ours.recv()
        if has_compiled:
            ours.send("go")
            _, result = ours.recv()
        return result
    except (EOFError, OSError):
        return RuntimeError("its process ended without a result; its last words are above")


def _run(function: Measure[T], case: T, theirs: Connection, room: Any) -> None:
    with contextlib.ExitStack() as compiling:
        compiling.enter_context(room)

        def compiled() -> None:
            compiling.close()
            theirs.send((True, None))
            theirs.recv()

        theirs.send((False, function(case, compiled)))
