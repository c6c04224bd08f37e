"""Compares the spread of the episode cost under each multiplier rule, from the kept results of learning.

    python benchmarks/spread.py --env PointGoal1 --algos ppo-lag ppo-pid --json benchmarks/results/spread.json

It reads benchmarks/results/learning/<env>-<algo>-seed*.json, all kept seeds. All spreads are standard deviations:

- over the second half of each training: of the cost of ended episodes, and of the less noisy smoothed estimate that the
  multiplier follows. Costs still fall then, so the estimate also counts about its own straight line;
- over the seeds: of the last tenth, and of the evaluation by the mean action.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import result_file
import tyro

RESULTS = Path(__file__).parent / "results" / "learning"


@dataclasses.dataclass
class Args:
    """Which results to compare."""

    env: str = "PointGoal1"
    """Environment, as the files are named."""
    algos: tuple[str, ...] = ("ppo-lag", "ppo-pid")
    """Algorithms, as the files are named."""
    json: Path | None = None
    """Also write the result to this file."""


def in_second_half(result: dict[str, Any]) -> dict[str, float]:
    """Return the spread of the cost of one training in its second half."""
    curve = {name: np.array(values, float) for name, values in result["curve"].items()}  # no value: nan
    half = curve["env_steps"] > 0.5 * curve["env_steps"][-1]
    steps, costs, estimates = (curve[name][half] for name in ("env_steps", "episode_cost", "cost_estimate"))
    line = np.polynomial.Polynomial.fit(steps, estimates, deg=1)
    return {
        "cost_mean": float(np.nanmean(costs)),
        "cost_std": float(np.nanstd(costs, ddof=1)),
        "estimate_std": float(np.std(estimates, ddof=1)),
        "estimate_std_about_its_line": float(np.std(estimates - line(steps), ddof=2)),
    }


def spread(paths: list[Path]) -> dict[str, Any]:
    """Compare the seeds of one algorithm. Lists are per seed."""
    results = [json.loads(path.read_text()) for path in paths]
    moved = [in_second_half(result) for result in results]
    last_tenth = [result["summary"]["last_tenth_episode_cost"] for result in results]
    mean_action = [result["evaluation"]["policies"]["mean"]["episode_cost_mean"] for result in results]

    def over_seeds(costs: list[float]) -> float | None:
        return float(np.std(costs, ddof=1)) if len(costs) > 1 else None

    return {
        "files": [path.name for path in paths],
        **{f"second_half_{name}": [of_one[name] for of_one in moved] for name in moved[0]},
        "last_tenth_cost": last_tenth,
        "last_tenth_cost_std_over_seeds": over_seeds(last_tenth),
        "mean_action_cost": mean_action,
        "mean_action_cost_std_over_seeds": over_seeds(mean_action),
    }


def main(args: Args) -> None:
    """Print and write the spreads."""
    rows = {}
    for algo in args.algos:
        paths = sorted(RESULTS.glob(f"{args.env}-{algo}-seed*.json"))
        if not paths:
            raise SystemExit(f"No results {args.env}-{algo}-seed*.json in {RESULTS.name}.")
        rows[algo] = spread(paths)
        print(algo)
        for name, value in rows[algo].items():
            text = ", ".join(f"{v:.1f}" if isinstance(v, float) else v for v in np.atleast_1d(value).tolist() if v)
            print(f"  {name:41} {text}")
    if args.json:
        result_file.write(args.json, {"env": args.env, "algos": rows})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
