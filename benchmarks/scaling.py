"""Trains PPO with different numbers of worlds and equal total steps, to see how well the defaults fit.

    python benchmarks/scaling.py --json benchmarks/results/scaling.json

The seeds of one number of worlds train side by side in one program. Then 256 fresh episodes judge each by the mean
action.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import programs
import result_file
import tyro

WORK = Path("runs") / "scaling"


@dataclasses.dataclass
class Args:
    """What to train."""

    env: str = "SafetyPointGoal1-v0"
    """Environment."""
    algo: str = "ppo"
    """Algorithm."""
    num_envs: tuple[int, ...] = (256, 64, 1024, 4096)
    """Numbers of worlds."""
    num_seeds: tuple[int, ...] = (6, 2, 2, 2)
    """Seeds of each number of worlds."""
    total_steps: int = 1_000_000
    """Environment steps of a training."""
    json: Path | None = None
    """Also write the result to this file."""


def train(args: Args, num_envs: int, num_seeds: int) -> dict[str, Any]:
    """Train and judge one number of worlds. Returns return and cost of each seed."""
    folder = WORK / f"{args.algo}-{num_envs}"
    shutil.rmtree(folder, ignore_errors=True)
    flags = ["--env", args.env, "--algo", args.algo, "--num-envs", str(num_envs), "--num-seeds", str(num_seeds)]
    programs.call("train", *flags, "--total-steps", str(args.total_steps), "--out", str(folder))
    programs.call("evaluate", str(folder), "--action", "mean")
    members = sorted(path.parent for path in folder.rglob("evaluation.json"))
    if len(members) < num_seeds:
        raise SystemExit(f"{folder}: {num_seeds - len(members)} of {num_seeds} seeds have no evaluation")
    judged = [json.loads((member / "evaluation.json").read_text())["policies"]["mean"] for member in members]
    config = json.loads((members[0] / "config.json").read_text())
    return {
        "num_envs": num_envs,
        "unroll_length": config["train"]["unroll_length"],
        "num_minibatches": config["algorithm"]["num_minibatches"],
        "returns": [policy["episode_return_mean"] for policy in judged],
        "costs": [policy["episode_cost_mean"] for policy in judged],
    }


def main(args: Args) -> None:
    """Train, print, write after each number of worlds."""
    if len(args.num_envs) != len(args.num_seeds):
        raise SystemExit(f"--num-envs has {len(args.num_envs)} numbers and --num-seeds {len(args.num_seeds)}")
    rows: list[dict[str, Any]] = []
    for num_envs, num_seeds in zip(args.num_envs, args.num_seeds, strict=True):
        rows.append(train(args, num_envs, num_seeds))
        print(rows[-1], flush=True)
        if args.json:
            about = {"env": args.env, "algo": args.algo, "total_steps": args.total_steps}
            result_file.write(args.json, about | {"rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
