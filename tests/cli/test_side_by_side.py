"""Measurements in processes of their own: order, turns, limits, processes that end."""

import os
import time

from mjx_safety.cli import side_by_side


def measure(case, compiled):
    """A stand-in: waits, then says when it was timed. `crash` ends its process, `refuse` fails before the timing."""
    name, seconds = case
    time.sleep(seconds)
    if name == "crash":
        os._exit(3)
    if name == "refuse":
        return name, 0.0, 0.0
    ready = time.time()
    compiled()
    begun = time.time()
    time.sleep(0.2)
    return name, ready, begun


def test_timing_begins_when_all_have_compiled_and_goes_by_turn():
    (first, ready_first, begun_first), (second, ready_second, begun_second) = side_by_side.measure(
        measure, [("a", 0.5), ("b", 0.0)], jobs=2
    )
    assert (first, second) == ("a", "b") and ready_second < ready_first
    assert begun_first >= max(ready_first, ready_second) and begun_second >= begun_first + 0.2


def test_what_fails_or_crashes_does_not_stop_the_others():
    crashed, refused, good = side_by_side.measure(measure, [("crash", 0.0), ("refuse", 0.0), ("a", 0.0)], jobs=1)
    assert isinstance(crashed, RuntimeError) and "ended without a result" in str(crashed)
    assert refused[0] == "refuse" and good[0] == "a"


def test_what_does_not_compile_in_time_is_stopped():
    (late,) = side_by_side.measure(measure, [("slow", 600.0)], jobs=1, limit=1.0)
    assert isinstance(late, TimeoutError) and str(late) == "did not compile in 1 s"
