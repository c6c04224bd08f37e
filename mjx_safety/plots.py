"""Pictures of trainings (host)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Row = dict[str, float | None]


def plot_learning_curve(rows: list[Row], cost_limit: float, path: Path) -> None:
    """Draw return and cost against environment steps, with the cost limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for panel, name in zip(panels, ("return", "cost"), strict=True):
        points = [(row["env_steps"], row[f"episode_{name}"]) for row in rows if row.get(f"episode_{name}") is not None]
        if points:
            steps, values = np.array(points, float).T
            window = max(1, len(values) // 30)
            weights = np.ones(window)
            mean = np.convolve(values, weights, "same") / np.convolve(np.ones_like(values), weights, "same")
            panel.plot(steps, values, "C0", alpha=0.3, linewidth=0.8, label="episodes of one iteration")
            panel.plot(steps, mean, "C0", linewidth=2.0, label=f"mean over {window} iterations")
        panel.set(xlabel="environment steps", ylabel=f"episode {name}")
        panel.grid(alpha=0.3)
    panels[1].axhline(cost_limit, color="C3", linestyle="--", label=f"limit {cost_limit:g}")
    panels[1].set_ylim(bottom=0.0)
    for panel in panels:
        if panel.get_legend_handles_labels()[0]:
            panel.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


class Outcome(NamedTuple):
    """Where one training ended."""

    label: str  # shared by trainings that differ in their seed only
    cost_limit: float
    episode_return: float  # mean over the last tenth of training
    episode_cost: float


def last_tenth(rows: Sequence[Row], name: str) -> float:
    """Mean of a metric over the last tenth of training, of the rows that have it; nan if none has."""
    end = 0.9 * float(rows[-1]["env_steps"] or 0.0) if rows else 0.0
    values = [value for row in rows if float(row["env_steps"] or 0.0) > end and (value := row.get(name)) is not None]
    return float(np.mean(values)) if values else float("nan")


def plot_pareto(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw return against cost, one point for each label: mean and standard deviation over its seeds, and its limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(7, 5), layout="constrained")
    for number, label in enumerate(dict.fromkeys(outcome.label for outcome in outcomes)):
        group = [outcome for outcome in outcomes if outcome.label == label]
        cost, gain = (np.array([getattr(o, f"episode_{name}") for o in group]) for name in ("cost", "return"))
        colour, spread = f"C{number % 10}", {"xerr": cost.std(), "yerr": gain.std()}
        panel.scatter(cost, gain, color=colour, alpha=0.3, s=15)
        panel.errorbar(cost.mean(), gain.mean(), **spread, color=colour, fmt="o", capsize=3, label=label)
        if np.isfinite(group[0].cost_limit):
            panel.axvline(group[0].cost_limit, color=colour, linestyle="--", linewidth=0.8)
    panel.set(xlabel="episode cost (dashed: limit)", ylabel="episode return", title="last tenth of training")
    panel.set_xlim(left=0.0)
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def plot_throughput(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw environment steps per second against worlds, one line for each environment, engine and mode."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(8, 5), layout="constrained")
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        label = f"{row['env']}, {row['engine']}" + (f", {row['mode']}" if row["mode"] != "step" else "")
        lines.setdefault(label, []).append((row["num_envs"], row["env_steps_per_second"]))
    for label, points in lines.items():
        panel.plot(*zip(*sorted(points), strict=True), marker="o", label=label)
    panel.set(xlabel="worlds", ylabel="environment steps per second", xscale="log", yscale="log")
    panel.grid(alpha=0.3, which="both")
    panel.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
