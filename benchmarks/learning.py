"""Keeps the results of a training run: final numbers, the curve, the exact command.

    python -m mjx_safety.train --env SafetyPointGoal1-v0 --algo ppo-lag --total-steps 10000000 --out runs/lag
    python -m mjx_safety.evaluate runs/lag
    python benchmarks/learning.py runs/lag --name PointGoal1-ppo-lag-seed0

This writes <name>.json and <name>.png to benchmarks/results/learning.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mjx_safety.core import files
from mjx_safety.viz.plots import last_tenth, metric_to_show

RESULTS = Path(__file__).parent / "results" / "learning"
ENGINES = ("mujoco", "mjx", "warp")
EVALUATIONS = ("evaluation.json", *(f"evaluation-{engine}.json" for engine in ENGINES))  # the first: its own engine
ENDED = "evaluation-end-at-limit.json"
POINTS = 200  # kept points of the curve
CURVE = (
    "env_steps",
    "episode_return",
    "episode_cost",
    "return_estimate",
    "cost_estimate",
    "cost_rate",
    "multiplier",
    "margin",
    "kl",
)


@dataclasses.dataclass
class Args:
    """A run, and the name of its result."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    name: str
    """File name of the results, without ending."""


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Means over the last tenth of training (estimates in a short one), cost rate over all of it, and speed."""
    last = [row for row in rows if row["env_steps"] > 0.9 * rows[-1]["env_steps"]]
    mean = {
        name: last_tenth(rows, metric_to_show(rows, name)) for name in ("episode_return", "episode_cost", "multiplier")
    }
    costs = [row[metric_to_show(rows, "episode_cost")] for row in last]
    cases = {name: float(np.mean([row[name] for row in rows[1:]])) for name in rows[0] if name.startswith("case_")}
    result = {f"last_tenth_{name}": value for name, value in mean.items()}
    result |= {f"{name}_share": value for name, value in cases.items()}  # CPO: numbered in trust_region
    return result | {
        "last_tenth_episode_cost_std": float(np.std([cost for cost in costs if cost is not None])),
        "training_cost_rate": float(np.mean([row["cost_rate"] for row in rows])),
        "env_steps": rows[-1]["env_steps"],
        "seconds": rows[-1]["seconds"],
        "env_steps_per_second": rows[-1]["env_steps"] / rows[-1]["seconds"],
        "env_steps_per_second_without_compiling": float(np.median([row["steps_per_second"] for row in rows[1:]])),
    }


def _without_paths(command: list[str]) -> str:
    """A command as one would type it on another machine."""
    return shlex.join(["python", "-m", f"mjx_safety.{Path(command[1]).stem}", *command[2:]])


def _evaluation(path: Path) -> dict[str, Any]:
    judged = json.loads(path.read_text())
    if "machine" in judged:
        judged["machine"]["command"] = _without_paths(judged["machine"]["command"])
    return judged


def keep(run: Path, name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Write the results of a run folder to name.json and name.png. Returns them."""
    config = json.loads((run / "config.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    thinned = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, POINTS).astype(int))]
    evaluations = [run / name for name in EVALUATIONS if (run / name).exists()]
    ended = run / ENDED
    command = _without_paths(config["machine"].pop("command"))
    for machine in config.get("resumed", []):
        machine["command"] = _without_paths(machine["command"])
    judged = _evaluation(evaluations[0]) if evaluations else None
    result = {
        **config,
        "command": command,
        "summary": summarise(rows),
        "evaluation": judged,
        **({"evaluation_of_episodes_that_end_at_the_limit": _evaluation(ended)} if ended.exists() else {}),
        "curve": {column: [_short(row.get(column)) for row in thinned] for column in CURVE},
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1).replace(str(run), f"runs/{name}")
    text = re.sub(r"\[[^][{}]*\]", lambda match: " ".join(match[0].split()), text)  # a list a line
    shutil.copy(run / "learning_curve.png", folder / f"{name}.png")
    files.write(folder / f"{name}.json", text + "\n")  # last: whoever finds it takes the result for whole
    return result


def _short(value: float | None) -> float | None:
    return value if value is None else float(f"{value:.4g}")


if __name__ == "__main__":
    flags = tyro.cli(Args, description=__doc__)
    print(json.dumps(keep(flags.run, flags.name)["summary"], indent=1))
