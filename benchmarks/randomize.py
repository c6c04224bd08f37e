"""Judges a policy in worlds with other masses and gains than those of its training.

    python benchmarks/randomize.py runs/campaign/PointGoal1-ppo-lag-seed0 --json benchmarks/results/randomize.json

Each row is 256 fresh episodes of the mean action.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import programs
import result_file
import tyro

KEPT = ("num_episodes", "episode_return_mean", "episode_return_std", "episode_cost_mean", "episode_cost_std")


@dataclasses.dataclass
class Args:
    """What to judge."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    words: tuple[str, ...] = ("none", "mass=0.5,1.5", "gain=0.5,1.5")
    """Ranges, each in an evaluation of its own."""
    json: Path | None = None
    """Also write the result to this file."""


def judge(run: Path, words: str) -> dict[str, float]:
    """Evaluate the run in such worlds, in a process of its own. Returns the statistics of the mean action."""
    said = programs.call("evaluate", str(run), "--randomize", words, "--action", "mean", "--json")
    result = json.loads(said)["policies"]["mean"]
    return {name: result[name] for name in KEPT}


def main(args: Args) -> None:
    """Judge, print, write."""
    rows: dict[str, Any] = {}
    for words in args.words:
        rows[words] = judge(args.run, words)
        print(words, rows[words], flush=True)
    if args.json:
        config = json.loads((args.run / "config.json").read_text())
        result_file.write(args.json, {"env": config["run"]["env"], "run": str(args.run), "results": rows})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
