"""The learning table: trains what is missing of a list, one run at a time, and keeps a small file of each.

    python benchmarks/campaign.py                          # go on with the first tier
    python benchmarks/campaign.py --tier 2 --minutes 30
    python benchmarks/campaign.py --envs PointGoal1 --algos ppo-lag cpo --seeds 0 1
    python benchmarks/campaign.py --list                   # what is there and what is missing

A run trains with the defaults of the command line, then 256 fresh episodes judge it. It can be stopped at any time: the
next call resumes it from its checkpoint. Results: benchmarks/results/campaign/<env>-<algo>-seed<seed>.json and .png.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import leaderboard
import learning
import programs
import tyro

from mjx_safety.agents import checkpoint
from mjx_safety.runs import run_folder
from mjx_safety.runs.training_options import Steps

WORK = Path("runs") / "campaign"
RESULTS = learning.RESULTS.parent / "campaign"
OFF_POLICY_STEPS, STEPS = 1_000_000, 10_000_000
POINT = ("PointGoal1", "PointGoal2", "PointButton1", "PointButton2")
MORE_POINT = ("PointPush1", "PointPush2", "PointCircle1", "PointCircle2")
MORE_CAR = ("CarGoal2", "CarButton2", "CarCircle1", "DoggoGoal1")
CAR = ("CarGoal1", "CarButton1")
VELOCITY = tuple(f"{robot}Velocity-v1" for robot in ("HalfCheetah", "Hopper", "Walker2d", "Swimmer", "Ant"))
MAIN = ("ppo-lag", "ppo-pid", "trpo-lag", "cpo")
TIERS = {  # environments, algorithms, number of seeds
    1: ((POINT, ("ppo", "trpo", *MAIN, "focops"), 5), (CAR, MAIN, 3)),
    2: (
        (POINT, ("cup", "p3o", "ipo", "pcpo", "crpo", "ppo-early", "trpo-early"), 3),
        (POINT, ("sac-lag", "sac-pid", "td3-lag", "td3-pid"), 3),
        (MORE_POINT, MAIN, 3),
        (MORE_CAR, MAIN, 3),
    ),
    3: ((VELOCITY, ("ppo", *MAIN), 3), (("HumanoidVelocity-v1",), ("ppo", "ppo-pid"), 1)),
}


class Run(NamedTuple):
    """One training of the list."""

    env: str
    algo: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its result."""
        return f"{self.env}-{self.algo}-seed{self.seed}"

    @property
    def env_id(self) -> str:
        """Whole id of its environment."""
        return f"Safety{self.env}" if "-v" in self.env else f"Safety{self.env}-v0"

    def is_kept(self, total_steps: int | None = None) -> bool:
        """Whether its result is there, with so many environment steps if they are given."""
        file = RESULTS / f"{self.name}.json"
        if not file.exists() or total_steps is None:
            return file.exists()
        return json.loads(file.read_text())["run"]["total_steps"] == total_steps


@dataclasses.dataclass
class Args:
    """What to train."""

    tier: Literal[1, 2, 3] = 1
    """Part of the list: 1 and 2 for navigation, 3 for the Velocity family."""
    envs: tuple[str, ...] = ()
    """Environments, without Safety, and without a version if it is v0; none: those of the tier."""
    algos: tuple[str, ...] = ()
    """Algorithms; none: those of the tier."""
    seeds: tuple[int, ...] = ()
    """Seeds; none: those of the tier."""
    total_steps: Steps | None = None
    """Environment steps of a run, also of those that are there; None: 1e7, off-policy 1e6, and any of those."""
    minutes: float = float("inf")
    """Begin no further run after this time."""
    list: bool = False
    """Only say what is there and what is missing."""


def planned(args: Args) -> Iterator[Run]:
    """The list in its order: the first seed of everything, then the second."""
    parts = TIERS[args.tier]
    most = max(num for _, _, num in parts)
    for seed in args.seeds or range(most):
        for envs, algos, num in parts:
            for env in args.envs or envs:
                for algo in args.algos or algos:
                    if seed < num or args.seeds:
                        yield Run(env, algo, seed)


def train(run: Run, total_steps: int) -> dict[str, Any]:
    """Train one run, or go on with it, then judge and keep it. Returns its evaluation by the mean action."""
    folder = WORK / run.name
    if not is_whole(folder, total_steps):
        if (folder / "checkpoints").exists():
            flags = ["--resume", str(folder)]
        else:
            shutil.rmtree(folder, ignore_errors=True)
            flags = ["--env", run.env_id, "--algo", run.algo, "--seed", str(run.seed), "--out", str(folder)]
            flags += ["--total-steps", str(total_steps)]
        programs.call("train", *flags)
    refuse_stopped(folder, total_steps)
    programs.call("evaluate", str(folder))
    if run.algo.endswith("-early"):
        programs.call("evaluate", str(folder), "--end-at-limit")
    kept = learning.keep(folder, run.name, RESULTS)
    leaderboard.draw(run.env)
    return kept["evaluation"]["policies"]["mean"]


def is_whole(folder: Path, total_steps: int) -> bool:
    """Whether the newest checkpoint of a run folder is the end of so many steps. The metrics may be ahead of it."""
    newest = checkpoint.latest(folder / "checkpoints")
    return newest is not None and int(newest.name) == total_steps // run_folder.read_rows(folder)[0]["env_steps"]


def refuse_stopped(folder: Path, total_steps: int) -> None:
    """End this script if a signal stopped the training, so that only whole trainings are judged."""
    rows = run_folder.read_rows(folder)
    if total_steps - rows[-1]["env_steps"] >= rows[0]["env_steps"]:
        raise SystemExit(f"{folder} was stopped at {rows[-1]['env_steps']:,} steps; the same command goes on with it")


def main(args: Args) -> None:
    """Train what is missing."""
    runs, begun = list(dict.fromkeys(planned(args))), time.monotonic()
    missing = [run for run in runs if not run.is_kept(args.total_steps)]
    print(f"{len(runs) - len(missing)} of {len(runs)} runs are there")
    for number, run in enumerate(missing):
        if args.list or time.monotonic() - begun > 60 * args.minutes:
            print(f"missing: {', '.join(other.name for other in missing[number:])}")
            return
        start = time.monotonic()
        end = train(run, args.total_steps or (OFF_POLICY_STEPS if run.algo.startswith(("sac", "td3")) else STEPS))
        figures = f"{end['episode_return_mean']:.1f} / {end['episode_cost_mean']:.1f}"
        print(f"{run.name}: {figures} by the mean action, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
