"""Pictures of trainings (host)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, float | None]  # of metrics.jsonl; None: no value yet

ESTIMATES = {"episode_return": "return_estimate", "episode_cost": "cost_estimate"}  # from the rates of rollouts


def metric_to_show(rows: Sequence[Row], name: str) -> str:
    """Return the metric to show, or its estimate if most rows have no ended episode."""
    known = sum(row.get(name) is not None for row in rows)
    return name if 2 * known > len(rows) else ESTIMATES.get(name, name)


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches. Without pyplot, it leaves the backend of a notebook alone."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _title(figure: Figure, title: str) -> None:
    """Write a title above the panels, in as many lines as it needs."""
    figure.suptitle(textwrap.fill(title, int(10 * figure.get_figwidth())), fontsize=11)


def plot_learning_curve(rows: list[Row], cost_limit: float, path: Path, title: str = "") -> None:
    """Draw return and cost against environment steps, with the cost limit."""
    from matplotlib.ticker import EngFormatter

    figure = _figure(10, 4)
    panels = figure.subplots(1, 2)
    _title(figure, title)
    for panel, name in zip(panels, ("return", "cost"), strict=True):
        metric = metric_to_show(rows, f"episode_{name}")
        steps, values = _points(rows, metric)
        if metric.endswith("estimate"):
            label = "estimated: too few whole episodes"
            panel.plot(steps, values, "C0:", marker=_dot(steps), linewidth=2.0, label=label)
        elif len(values):
            window = _window(values)
            if window > 1:
                panel.plot(steps, values, "C0", alpha=0.3, linewidth=0.8, label="episodes of one iteration")
            label = f"mean over {window} iterations" if window > 1 else "episodes of one iteration"
            panel.plot(steps, running_mean(values), "C0", marker=_dot(steps), linewidth=2.0, label=label)
        if name == "cost" and any(row.get("cost_cvar") is not None for row in rows):
            known, tail = _points(rows, "cost_cvar")
            panel.plot(known, tail, "C1", marker=_dot(known), linewidth=2.0, label="CVaR, which has the limit")
        panel.set(xlabel="environment steps", ylabel=f"episode {name}")
        panel.set_xlim(0.0, 1.02 * max([*(float(row["env_steps"] or 0.0) for row in rows), 1.0]))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.grid(alpha=0.3)
    if np.isfinite(cost_limit):
        panels[1].axhline(cost_limit, color="C3", linestyle="--", label=f"limit {cost_limit:g}")
    _begin_at_zero(panels[1])
    for panel in panels:
        if panel.get_legend_handles_labels()[0]:
            panel.legend()
    figure.savefig(path, dpi=120)


class Curve(NamedTuple):
    """One training."""

    label: str  # shared by trainings that differ only in the seed
    cost_limit: float
    rows: Sequence[Row]


PANELS = {  # metric -> label of its axis; the last panel needs a curve with a multiplier
    "episode_return": "episode return",
    "episode_cost": "episode cost",
    "cost_rate": "cost per step, mean since the start",
    "multiplier": "multiplier",
}
GRID = 200  # points of a mean curve
ROOM = 0.02  # of an axis, below 0
LETTER, HANDLE, LINE = 0.088, 0.65, 0.21  # inches, of a legend: a letter; the line before a label; a row


def _begin_at_zero(panel: Any) -> None:
    """Let an axis begin at 0, with room above a curve that is flat at its top, and for the line of one at 0."""
    top = 1.05 * panel.get_ylim()[1]
    panel.set_ylim(-ROOM * top, top)


def _begin_left_at_zero(panel: Any) -> None:
    """Let the costs of points begin at 0, with room for the whole of a point at 0."""
    right = panel.get_xlim()[1]
    panel.set_xlim(-ROOM * right, right)


def _dot(steps: np.ndarray) -> str:
    """Return the marker of a curve: of a single point no line is seen."""
    return "o" if len(steps) == 1 else ""


def _legend_below(figure: Figure, panel: Any) -> None:
    """Put the legend below the panels, in as many columns as fit into the width. Its rows make the figure higher."""
    handles, labels = panel.get_legend_handles_labels()
    if not labels:
        return
    width, height = figure.get_size_inches()
    labels = [textwrap.fill(label, int((width - HANDLE) / LETTER)) for label in labels]
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = max(1, min(4, len(labels), int(width / (HANDLE + LETTER * longest))))
    lines = -(-len(labels) // columns) * max(label.count("\n") + 1 for label in labels)
    figure.set_size_inches(width, height + LINE * max(0, lines - 2))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def plot_curves(curves: Sequence[Curve], path: Path, title: str = "") -> None:
    """Draw return, cost with the limit, cost rate and multiplier against environment steps.

    Each label is the mean over its seeds in a band of one standard deviation, or the raw values of a single seed.
    Trainings without an ended episode are shown by estimates, dotted.
    """
    from matplotlib.ticker import EngFormatter

    shown = [name for name in PANELS if any(_has(curve, name) for curve in curves)]
    rows, columns = (2, 2) if len(shown) == 4 else (1, len(shown))
    figure = _figure(5 * columns, 3.4 * rows + 0.6)
    grid = np.atleast_1d(figure.subplots(rows, columns))
    _title(figure, title)
    estimated = False  # whether any curve is
    axes, limits = grid.ravel(), {curve.cost_limit for curve in curves}
    for label, colour in _colours(curve.label for curve in curves).items():
        group = [curve for curve in curves if curve.label == label]
        seeds = f" ({len(group)} seeds)" if len(group) > 1 else ""
        for panel, name in zip(axes, shown, strict=True):
            if any(_has(curve, name) for curve in group):
                metric = metric_to_show([row for curve in group for row in curve.rows], name)
                estimated |= metric != name
                points = [_points(curve.rows, metric) for curve in group]
                _draw_group(panel, points, colour, label + seeds, "-" if metric == name else ":")
            if name == "episode_cost" and np.isfinite(group[0].cost_limit):
                line = {"color": "black" if len(limits) == 1 else colour, "linestyle": "--", "linewidth": 1.0}
                panel.axhline(group[0].cost_limit, **line)
    for panel, name in zip(axes, shown, strict=True):
        notes = ["dashed: limit"] * (name == "episode_cost") + ["dotted: estimate"] * (estimated and name in ESTIMATES)
        panel.set(xlabel="environment steps", title=PANELS[name] + (f" ({'; '.join(notes)})" if notes else ""))
        panel.grid(alpha=0.3)
        panel.set_xlim(0.0, 1.02 * max(float(curve.rows[-1]["env_steps"] or 1.0) for curve in curves))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        if name != "episode_return":
            _begin_at_zero(panel)
    _legend_below(figure, axes[0])
    figure.savefig(path, dpi=120)


def _colours(labels: Iterable[str]) -> dict[str, Any]:
    """One colour per label: of ten, of twenty, or shades of a spectrum if there are more."""
    from matplotlib import colormaps

    names = list(dict.fromkeys(labels))
    if len(names) > 20:
        return {name: colormaps["turbo"](number / (len(names) - 1)) for number, name in enumerate(names)}
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"].colors
    return dict(zip(names, colours, strict=False))


def _has(curve: Curve, name: str) -> bool:
    """Return whether a training has a metric or an estimate of it, and of multipliers one that ever acts."""
    if name == "multiplier":
        return any((row.get(name) or 0.0) > 0.0 for row in curve.rows)
    return any(row.get(known) is not None for row in curve.rows for known in (name, ESTIMATES.get(name, name)))


def _points(rows: Sequence[Row], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [N] and known values [N] of one training's metric."""
    pairs = [(row["env_steps"], value) for row in rows if (value := row.get(name)) is not None]
    steps, values = np.array(pairs, float).reshape(-1, 2).T
    return steps, np.cumsum(values) / np.arange(1, len(values) + 1) if name == "cost_rate" else values


def _draw_group(
    panel: Any, group: Sequence[tuple[np.ndarray, np.ndarray]], colour: str, label: str, style: str
) -> None:
    """Draw mean and sample standard deviation, up to the length of the shortest training."""
    group = [points for points in group if len(points[0])]
    if not group:
        return
    start, end = max(steps[0] for steps, _ in group), min(steps[-1] for steps, _ in group)
    grid = np.linspace(start, max(start, end), GRID)
    smooth = np.array([np.interp(grid, steps, running_mean(values)) for steps, values in group])
    mean = smooth.mean(axis=0)
    if len(group) == 1:
        panel.plot(*group[0], color=colour, alpha=0.25, linewidth=0.8)
    else:
        spread = smooth.std(axis=0, ddof=1)
        panel.fill_between(grid, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
    marker = _dot(np.unique(grid))
    if marker and len(group) > 1:
        panel.errorbar(start, mean[0], smooth[:, 0].std(ddof=1), color=colour, capsize=3)
    panel.plot(grid, mean, style, marker=marker, color=colour, linewidth=2.0, label=label)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Running mean of the values [N], over a thirtieth of them."""
    weights = np.ones(_window(values))
    return np.convolve(values, weights, "same") / np.convolve(np.ones_like(values), weights, "same")


def _window(values: np.ndarray) -> int:
    """Number of values in a running mean."""
    return max(1, len(values) // 30)


class Outcome(NamedTuple):
    """The outcome of one training."""

    label: str  # shared by trainings that differ only in the seed
    cost_limit: float
    episode_return: float  # mean over the last tenth of training
    episode_cost: float


def last_tenth(rows: Sequence[Row], name: str) -> float:
    """Mean of a metric over the last tenth of training, over rows that have it; nan if none has."""
    end = 0.9 * float(rows[-1]["env_steps"] or 0.0) if rows else 0.0
    values = [value for row in rows if float(row["env_steps"] or 0.0) > end and (value := row.get(name)) is not None]
    return float(np.mean(values)) if values else float("nan")


def plot_pareto(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw return against cost, one point per label: mean and standard deviation over seeds, and the limit."""
    figure = _figure(7, 5)
    panel = figure.subplots()
    for label, colour in _colours(outcome.label for outcome in outcomes).items():
        group = [outcome for outcome in outcomes if outcome.label == label]
        cost, gain = (np.array([getattr(o, f"episode_{name}") for o in group]) for name in ("cost", "return"))
        panel.scatter(cost, gain, color=colour, alpha=0.3, s=15)
        panel.errorbar(
            cost.mean(), gain.mean(), _spread(gain), _spread(cost), color=colour, fmt="o", capsize=3, label=label
        )
        if np.isfinite(group[0].cost_limit):
            panel.axvline(group[0].cost_limit, color=colour, linestyle="--", linewidth=0.8)
    panel.set(xlabel="episode cost (dashed: limit)", ylabel="episode return", title="last tenth of training")
    _begin_left_at_zero(panel)
    panel.grid(alpha=0.3)
    _legend_below(figure, panel)
    figure.savefig(path, dpi=120)


def _spread(values: np.ndarray) -> float:
    """Sample standard deviation of values [N]; 0 of one value."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def plot_episodes(results: Mapping[str, np.ndarray], cost_limits: Sequence[float], path: Path) -> None:
    """Draw return against cost of single episodes, and their limits. results: [N, 2] return and cost, by policy."""
    from matplotlib import colormaps

    figure = _figure(7, 5)
    panel = figure.subplots()
    colours = colormaps["viridis"](np.linspace(0.0, 0.9, len(results)))
    for colour, (label, rows) in zip(colours, results.items(), strict=True):
        panel.scatter(rows[:, 1], rows[:, 0], color=colour, alpha=0.5, s=12, label=label)
    for limit in dict.fromkeys(cost_limits):
        panel.axvline(limit, color="black", linestyle="--", linewidth=0.8)
    panel.set(xlabel="episode cost (dashed: limit)", ylabel="episode return", title="recorded episodes")
    _begin_left_at_zero(panel)
    panel.grid(alpha=0.3)
    if len(results) <= 10:
        _legend_below(figure, panel)
    figure.savefig(path, dpi=120)


def plot_throughput(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw environment steps per second against worlds: one panel per environment, one line per engine."""
    from matplotlib.ticker import NullLocator

    envs = list(dict.fromkeys(row["env"] for row in rows))
    labels = list(dict.fromkeys(_engine_and_mode(row) for row in rows))
    worlds = sorted({row["num_envs"] for row in rows})
    columns = min(4, len(envs))
    lines = -(-len(envs) // columns)
    figure = _figure(2.2 + 2.6 * columns, 1.2 + 2.4 * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for panel in grid.flat[len(envs) :]:
        panel.set_visible(False)
    for env, panel in zip(envs, grid.flat, strict=False):
        for index, label in enumerate(labels):
            mine = [row for row in rows if row["env"] == env and _engine_and_mode(row) == label]
            points = sorted((row["num_envs"], row["env_steps_per_second"]) for row in mine)
            panel.plot([x for x, _ in points], [y for _, y in points], "o-", color=f"C{index}", label=label)
        panel.set(title=env, xscale="log", yscale="log")
        panel.set_xticks(worlds, map(str, worlds), rotation=45, ha="right", rotation_mode="anchor")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.3)
    for panel in grid.flat[max(0, len(envs) - columns) : len(envs)]:
        panel.tick_params(labelbottom=True)  # nothing may stand below
    figure.supxlabel("worlds")
    figure.supylabel("environment steps per second")
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=120)


def _engine_and_mode(row: Mapping[str, Any]) -> str:
    return row["engine"] + (f", {row['mode']}" if row["mode"] != "step" else "")
