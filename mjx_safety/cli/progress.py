"""The progress of a training: a live table on a terminal, plain lines elsewhere (host)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mjx_safety.cli.common import drop_output, plain_console
from mjx_safety.viz.plots import Row


class Progress:
    """Shows the newest metrics. Use it as a context manager.

    If the output is closed (a pipe or a terminal), it sets `is_unheard` and prints nothing more.
    """

    def __init__(
        self,
        title: str,
        total_steps: int,
        cost_limit: float | tuple[float, ...],
        console: Console | None = None,
        cost_limits: Mapping[str, float] | None = None,
    ):
        self.title: str = title
        self.cost_limits: Mapping[str, float] = cost_limits or {}  # by source, instead of cost_limit
        self.total_steps: int = total_steps
        self.cost_limit: float | tuple[float, ...] = cost_limit  # of several trainings, one of each
        self.console: Console = console or plain_console()
        self._compiled, self._warnings = False, set[str]()
        self.is_unheard: bool = False  # whether the terminal or the pipe is closed
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.__enter__()
        self._say(f"{self.title}: compiling the first iteration ... (~: estimates, until whole episodes have ended)")
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._tell(self._live.stop)

    def update(self, row: Row) -> None:
        """Show one row of metrics."""
        cells = describe(row, self.total_steps, self.cost_limit, self.cost_limits)
        if not self._compiled:
            cells |= {"steps/s": f"{cells['steps/s']} with compiling", "time left": "-"}
            self._compiled = True
        if not self._live:
            self._say("  ".join(f"{name} {text}" for name, text in cells.items()))
            return
        table = Table(title=self.title, show_header=False, min_width=48)
        table.add_column(style="bold")
        table.add_column(justify="right")
        for name, text in cells.items():
            over = name == "cost" and (row.get("violation") or 0.0) > 0.0
            table.add_row(name, text, style="red" if over else None)
        self._tell(self._live.update, table, refresh=True)

    def warn(self, text: str) -> None:
        """Show a warning, once."""
        if text not in self._warnings:
            self._warnings.add(text)
            shown = Text.assemble(("warning:", "yellow"), f" {text}")
            self._tell(self.console.print, shown, highlight=False, soft_wrap=True)

    def _say(self, text: str) -> None:
        if self._live:
            self._tell(self._live.update, text, refresh=True)
        else:
            self._tell(self.console.print, text, highlight=False, soft_wrap=True)

    def _tell(self, call: Callable[..., object], *args: Any, **settings: Any) -> None:
        """Write to the console, unless it is closed. For a closed pipe, rich raises SystemExit."""
        if self.is_unheard:
            return
        try:
            call(*args, **settings)
        except (OSError, SystemExit):
            self.is_unheard = True
            drop_output()


def describe(
    row: Row,
    total_steps: int,
    cost_limit: float | tuple[float, ...],
    cost_limits: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Turn a row of metrics into short texts. Before an episode has ended, ~ marks estimates from rates.

    cost_limit: of the whole cost, or that of each of several trainings; cost_limits: by source, instead of it.
    """
    steps, speed = row["env_steps"] or 0.0, row["steps_per_second"] or 0.0
    each = sorted({cost_limit} if isinstance(cost_limit, int | float) else set(cost_limit))
    limit = f"limit{'s' * (len(each) > 1)} {', '.join(f'{value:g}' for value in each)}"
    limit = "no limit" if math.isinf(each[0]) else limit
    if cost_limits:
        shown = {name: row.get(f"cost_estimate_{name}") or 0.0 for name in cost_limits}
        limit = "; ".join(f"{name} ~{shown[name]:.2f}, limit {value:g}" for name, value in cost_limits.items())
    left = max(total_steps - steps, 0.0) / speed if speed else 0.0
    return {
        "steps": f"{steps:,.0f} of {total_steps:,} ({100 * steps / total_steps:.0f} %)",
        "steps/s": f"{speed:,.0f}",
        "return": _estimate(row, "episode_return", "return_estimate"),
        "cost": f"{_estimate(row, 'episode_cost', 'cost_estimate')} ({_cvar(row)}{limit})",
        "multiplier": f"{row.get('multiplier') or 0.0:.3f}",
        "time left": clock(left),
    }


def clock(seconds: float) -> str:
    """Return a time as m:ss, or as h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _cvar(row: Row) -> str:
    """Return the CVaR, if the limit holds for it and it is known."""
    value = row.get("cost_cvar")
    return "" if value is None else f"CVaR {value:.1f}, "


def _estimate(row: Row, exact: str, rate: str) -> str:
    value = row.get(exact)
    return f"{value:.2f}" if value is not None else f"~{row.get(rate) or 0.0:.2f}"
