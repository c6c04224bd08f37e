"""How far the cost of an episode wanders under each way of setting the multiplier, from the kept results of learning.

    python benchmarks/spread.py --env PointGoal1 --algos ppo-lag ppo-pid --json benchmarks/results/spread.json

Reads benchmarks/results/learning/<env>-<algo>-seed*.json, all seeds that are kept. Two spreads, both standard
deviations: over the training of one seed in its second half, and over the seeds in the last tenth.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import record
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


def during_training(result: dict[str, Any]) -> tuple[float, float]:
    """Mean and standard deviation of the episode cost over the points of the curve in the second half."""
    curve = result["curve"]
    half = 0.5 * curve["env_steps"][-1]
    pairs = zip(curve["env_steps"], curve["episode_cost"], strict=True)
    costs = [cost for steps, cost in pairs if steps > half and cost is not None]
    return float(np.mean(costs)), float(np.std(costs, ddof=1))


def spread(paths: list[Path]) -> dict[str, Any]:
    """Compare the seeds of one algorithm; lists are per seed."""
    results = [json.loads(path.read_text()) for path in paths]
    means, deviations = zip(*map(during_training, results), strict=True)
    ends = {name: [r["summary"][f"last_tenth_episode_{name}"] for r in results] for name in ("return", "cost")}
    policies = [result["evaluation"]["policies"]["mean"] for result in results]
    judged = {name: [policy[f"episode_{name}_mean"] for policy in policies] for name in ("return", "cost")}

    def over_seeds(costs: list[float]) -> float | None:
        return float(np.std(costs, ddof=1)) if len(costs) > 1 else None

    return {
        "files": [path.name for path in paths],
        "second_half_cost_mean": means,
        "second_half_cost_std": deviations,
        "last_tenth_return": ends["return"],
        "last_tenth_cost": ends["cost"],
        "last_tenth_cost_std_over_seeds": over_seeds(ends["cost"]),
        "mean_action_return": judged["return"],
        "mean_action_cost": judged["cost"],
        "mean_action_cost_std_over_seeds": over_seeds(judged["cost"]),
    }


def main(args: Args) -> None:
    """Print and keep the spreads."""
    rows = {}
    for algo in args.algos:
        paths = sorted(RESULTS.glob(f"{args.env}-{algo}-seed*.json"))
        if not paths:
            raise SystemExit(f"No results {args.env}-{algo}-seed*.json in {RESULTS.name}.")
        rows[algo] = spread(paths)
        print(algo)
        for name, value in rows[algo].items():
            text = ", ".join(f"{v:.1f}" if isinstance(v, float) else v for v in np.atleast_1d(value).tolist() if v)
            print(f"  {name:32} {text}")
    if args.json:
        record.write(args.json, {"env": args.env, "algos": rows})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
