"""Measurements that compile side by side, each in a process of its own, and are then timed one by one.

JAX traces under Python's global lock, so threads of one process would trace one program after the other.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")

Measure = Callable[[T, Callable[[], None]], Any]  # measures a case; calls the function when it has compiled


def measure(function: Measure[T], cases: Sequence[T], jobs: int, limit: float = float("inf")) -> Iterator[Any]:
    """Yield what `function` returns for each case, in order, or an exception if its process gave no result.

    The timing of the first case begins when all have compiled, or after `limit` seconds; cases that are not ready then
    are stopped. jobs: number of processes that compile at a time.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else the first process takes the GPU's memory
    started = _start(function, cases, jobs, time.monotonic() + limit)
    for process, _, is_ready in started:
        if not is_ready:
            process.terminate()
    for process, end, is_ready in started:
        yield _result(end) if is_ready else TimeoutError(f"did not compile in {limit:.0f} s")
        process.join()
    for _ in cases[len(started) :]:
        yield TimeoutError(f"did not compile in {limit:.0f} s")


def _start(function: Measure[T], cases: Sequence[T], jobs: int, deadline: float) -> list[tuple[Any, Connection, bool]]:
    """Start the cases' processes in order, `jobs` at a time, until all have compiled or ended, or until the deadline.

    Returns for each process: the process, our end of its pipe, and whether it has sent a message.
    """
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, Any] = {}
    busy: list[Connection] = []
    while busy or len(processes) < len(cases):
        while len(busy) < jobs and len(processes) < len(cases):
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(function, cases[len(processes)], theirs), daemon=True)
            process.start()
            theirs.close()
            processes[ours] = process
            busy.append(ours)
        heard = wait(busy, None if deadline == float("inf") else max(deadline - time.monotonic(), 0.0))
        if not heard:
            break
        busy = [end for end in busy if end not in heard]
    return [(process, end, end not in busy) for end, process in processes.items()]


def _result(end: Connection) -> Any:
    try:
        has_compiled, result = end.recv()
        if has_compiled:
            end.send("go")
            _, result = end.recv()
        return result
    except (EOFError, OSError):
        return RuntimeError("its process ended without a result; its last words are above")


def _run(function: Measure[T], case: T, theirs: Connection) -> None:
    def compiled() -> None:
        theirs.send((True, None))
        theirs.recv()

    theirs.send((False, function(case, compiled)))
