"""Compare trainings: `python -m mjx_safety.plot runs/a runs/b --out curves.png`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from mjx_safety.cli import common, outcomes
from mjx_safety.runs import run_folder, training_options
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.scores import MAX_DIFFERENCES
from mjx_safety.viz import plots
from mjx_safety.viz.plots import Curve

SAME = training_options.WITHOUT_EFFECT | {"physics"}  # of RunFlags
PARTS = ("run", *training_options.PARTS)  # of config.json
SUFFIXES = (".png", ".svg", ".pdf")


@dataclasses.dataclass(frozen=True)
class Flags:
    """Draw return, cost with the limit, cost per step and multiplier, as mean and standard deviation over seeds."""

    run: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders that contain run folders, such as those of --num-seeds and --sweep."""
    out: Path = Path("curves.png")
    """The picture: .png, .svg or .pdf."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    flags = tyro.cli(Flags, prog="python -m mjx_safety.plot", args=list(argv))
    if flags.out.suffix not in SUFFIXES:
        raise UsageError(f"--out {flags.out} is of no known kind; its name must end in one of: {', '.join(SUFFIXES)}")
    common.check_outputs(flags.out)
    stderr = common.plain_console(stderr=True)
    paths = without_diverged(find_runs(flags.run), stderr)
    curves = read(paths)
    for path in paths:
        outcomes.tell_damage(path, stderr)
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    plots.plot_curves(curves, flags.out, title_of(paths))
    for label in dict.fromkeys(curve.label for curve in curves):
        print(describe([curve for curve in curves if curve.label == label]))
    print(f"Wrote {flags.out}")


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders among the given folders and inside them, each once."""
    if not paths:
        raise UsageError("no run folder is given; name one or more, such as runs/my-run")
    found: list[Path] = []
    for path in paths:
        inside = run_folder.runs_in(path)
        if not run_folder.holds_run(path) and not inside:
            raise UsageError(f"{path} is not a run folder: it has no config.json, and no folder in it has one")
        found += [path] if run_folder.holds_run(path) else inside
    return list({path.resolve(): path for path in found}.values())


def without_diverged(paths: Sequence[Path], stderr: Console) -> list[Path]:
    """Leave out trainings that have diverged, and name them. If all have, they are drawn."""
    lost = {path: reason for path in paths if (reason := run_folder.why_diverged(path))}
    kept = [path for path in paths if path not in lost]
    for path, reason in lost.items():
        outcomes.tell(stderr, f"note: {path} has diverged ({reason}){'; it is left out' if kept else ''}")
    return kept or list(paths)


def read(paths: Sequence[Path]) -> list[Curve]:
    """Read trainings. Those that differ only in the seed or the length share a label."""
    configs = []
    for path in paths:
        try:
            configs.append(_settings(run_folder.read_config(path)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}/config.json cannot be read: {type(error).__name__}: {error}") from error
    curves = []
    for path, config, label in zip(paths, configs, label_all(configs), strict=True):
        rows = run_folder.read_rows(path)
        if not rows:
            raise UsageError(f"{path} has no metrics yet: its metrics.jsonl is missing or empty")
        limit = float(config["run.cost_limit"])
        if not limit >= 0.0:
            raise UsageError(f"{path}/config.json has cost_limit {limit}; it must be at least 0")
        curves.append(Curve(label, np.inf if config.get("run.cost_limits") else limit, rows))
    return curves


def label_all(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Label trainings by their algorithm and by the settings that differ."""
    distinct = list({json.dumps(config, sort_keys=True, default=str): config for config in configs}.values())
    names = dict.fromkeys(name for config in configs for name in config)
    differing = []
    for name in names:
        rivals = [config for config in distinct if name in config]  # others lack this setting
        if name != "run.algo" and any(
            a["run.algo"] == b["run.algo"] or name == "run.env" for a in rivals for b in rivals if a[name] != b[name]
        ):
            differing.append(name)
    return [_label(config, differing) for config in configs]


def title_of(paths: Sequence[Path]) -> str:
    """Return the environment that all trainings share. If they differ, it is empty and the labels name it."""
    envs = {run_folder.read_config(path)["run"]["env"] for path in paths}
    return envs.pop() if len(envs) == 1 else ""


def describe(curves: Sequence[Curve]) -> str:
    """Return the outcome per label: means over the last tenth, and standard deviations over seeds.

    A ~ marks an estimate from rates, before an episode has ended.
    """
    parts = []
    for name in ("return", "cost"):
        metrics = [plots.metric_to_show(curve.rows, f"episode_{name}") for curve in curves]
        values = np.array([plots.last_tenth(curve.rows, m) for curve, m in zip(curves, metrics, strict=True)])
        about = "~" if any(metric.endswith("estimate") for metric in metrics) else ""
        spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
        parts.append(f"{name} {about}{values.mean():.2f}{spread}")
    seeds = f"{len(curves)} seed{'s' * (len(curves) > 1)}"
    limit = "no limit on the whole cost" if np.isinf(curves[0].cost_limit) else f"limit {curves[0].cost_limit:g}"
    return f"{curves[0].label}: {seeds}, last tenth: {', '.join(parts)}, {limit}"


def _label(config: dict[str, Any], differing: Sequence[str]) -> str:
    words = [str(config["run.algo"])]
    named = [name for name in differing if name in config]
    for name in named[:MAX_DIFFERENCES]:
        value = config[name]
        text = f"{value:g}" if isinstance(value, float) else str(value)
        words.append(text if name == "run.env" else f"{name.partition('.')[2].replace('_', ' ')} {text}")
    return ", ".join(words) + (", ..." if len(named) > MAX_DIFFERENCES else "")


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """All settings that affect learning, flat: `run.env`, `train.discount`, ..."""
    flat = {f"{part}.{name}": value for part in PARTS for name, value in (config.get(part) or {}).items()}
    flat = {name: value for name, value in flat.items() if name not in {f"run.{name}" for name in SAME}}
    for needed in ("run.env", "run.algo", "run.cost_limit"):
        flat[needed]  # KeyError if it is missing
    return flat
