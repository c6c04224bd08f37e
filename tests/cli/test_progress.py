"""The view of a running training: lines where there is no terminal, a table where there is one."""

import io
import sys

import pytest
from rich.console import Console

from mjx_safety.cli import progress as progress_view
from mjx_safety.cli.progress import Progress

ROW = {
    "env_steps": 1000.0,
    "steps_per_second": 100.0,
    "episode_return": None,
    "return_estimate": 1.5,
    "episode_cost": 30.0,
    "cost_estimate": 20.0,
    "violation": 5.0,
    "multiplier": 0.25,
}


@pytest.mark.parametrize("is_terminal", [False, True])
def test_rows_are_shown(is_terminal):
    file = io.StringIO()
    with Progress("ppo", 4000, 25.0, Console(file=file, force_terminal=is_terminal, width=120)) as progress:
        progress.update(ROW)
        first = file.getvalue()
        progress.update(ROW)
    assert "ppo: compiling the first iteration" in first
    assert "100 with compiling" in first and "0:30" not in first  # no promise from a speed that holds compilation
    later = file.getvalue().removeprefix(first)
    for text in ("1,000 of 4,000 (25 %)", "100", "~1.50", "30.00 (limit 25)", "0.250", "0:30"):
        assert text in later
    assert "compiling" not in later


class Closed(io.StringIO):
    """A pipe that nobody reads after the first line."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        if self.getvalue():
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")])
def test_an_output_that_cannot_be_written_ends_nothing(error, monkeypatch):
    monkeypatch.setattr(progress_view, "drop_output", lambda: None)
    monkeypatch.setattr(Console, "on_broken_pipe", lambda self: sys.exit(1))  # as rich does, without closing stdout
    with Progress("ppo", 4000, 25.0, Console(file=Closed(error), width=120)) as progress:
        assert not progress.is_unheard
        progress.update(ROW)
        progress.update(ROW)
        progress.warn("nobody reads this")
    assert progress.is_unheard


def test_limits_by_source_stand_in_place_of_the_one_on_the_whole_cost():
    file = io.StringIO()
    limits = {"hazards": 20.0, "speed": 5.0}
    with Progress("ppo", 4000, 25.0, Console(file=file, width=200), cost_limits=limits) as progress:
        progress.update(ROW | {"cost_estimate_hazards": 21.5, "cost_estimate_speed": 0.25})
    assert "cost 30.00 (hazards ~21.50, limit 20; speed ~0.25, limit 5)" in file.getvalue()
    assert "limit 25" not in file.getvalue()


@pytest.mark.parametrize(
    ("limits", "shown"), [((15.0, 5.0), "limits 5, 15"), ((25.0, 25.0), "limit 25"), ((float("inf"),), "no limit")]
)
def test_trainings_side_by_side_show_each_limit(limits, shown):
    file = io.StringIO()
    with Progress("ppo", 4000, limits, Console(file=file, width=200)) as progress:
        progress.update(ROW)
    assert f"cost 30.00 ({shown})" in file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0, "0:00"), (59.7, "1:00"), (3599.6, "1:00:00"), (36061.0, "10:01:01"), (90.0, "1:30")]
)
def test_times_have_whole_minutes_and_hours(seconds, shown):
    assert progress_view.clock(seconds) == shown
