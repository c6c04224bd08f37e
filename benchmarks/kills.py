"""Kills a training with SIGKILL at random moments and resumes it. Nothing may be lost, broken or doubled.

    python benchmarks/kills.py --json benchmarks/results/kills.json

A third of the kills come at any time, a third while metrics are written, a third while a checkpoint is written. After
each kill all checkpoints must be whole. In the end the metrics must be those of an uninterrupted training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import result_file
import tyro

STEPS = 32  # environment steps of an iteration
TRAIN = [sys.executable, "-m", "mjx_safety.train"]
SMALL = ["--env", "SafetyPointGoal0-v0", "--physics", "mujoco", "--num-envs", "4", "--unroll-length", "8"]
SMALL += ["--num-minibatches", "2", "--num-passes", "1", "--hidden-sizes", "8"]
SMALL += ["--num-iterations", "1000"]  # schedules follow the whole training, whose end is not known yet
SPREAD = 20.0  # s after the start, within which "any time" lies
MOMENTS = ("any time", "metrics", "checkpoint")
TIMES = ("seconds", "steps_per_second")  # columns that no two runs share


@dataclasses.dataclass
class Args:
    """How often to kill."""

    num_kills: int = 20
    """Number of kills."""
    seed: int = 0
    """Seed of the moments."""
    json: Path | None = None
    """Also write the result to this file."""


def kill(run: Path, moment: str, chance: random.Random) -> dict[str, Any]:
    """Start or resume a training, kill it, and look at what it leaves."""
    command = [*TRAIN, *SMALL, "--resume-or-start", str(run), "--save-every", "0", "--total-steps", "1e9"]
    metrics, before = run / "metrics.jsonl", size_of(run / "metrics.jsonl")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        begun = time.monotonic()
        if moment == "any time":
            until = begun + SPREAD * chance.random()
            wait_while(process, lambda: time.monotonic() < until)
        else:
            wait_while(process, lambda: size_of(metrics) <= before)
            until = time.monotonic() + chance.random()
            wait_while(process, lambda: time.monotonic() < until)
            size = size_of(metrics)
            if moment == "metrics":
                wait_while(process, lambda: size_of(metrics) == size)
            else:
                wait_while(process, lambda: not any((run / "checkpoints").glob("*.partial")))
        process.kill()
        said = process.communicate()[0]
        if process.returncode != -9:
            raise RuntimeError(f"the training ended by itself: {said}")
    checkpoints = sorted(path for path in (run / "checkpoints").glob("*") if path.name.isdecimal())
    lines = metrics.read_text().split("\n") if metrics.exists() else [""]
    return {
        "moment": moment,
        "seconds": round(time.monotonic() - begun, 2),
        "checkpoints": [path.name for path in checkpoints],
        "whole_checkpoints": sum(map(is_whole, checkpoints)),
        "half_written": sorted(path.name for path in (run / "checkpoints").glob("*.partial")),
        "rows": len(lines) - 1,
        "bytes_after_the_last_row": len(lines[-1]),
    }


def wait_while(process: subprocess.Popen, condition: Any) -> None:
    """Wait in small steps, while the process lives."""
    while condition() and process.poll() is None:
        time.sleep(0.0005)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def is_whole(checkpoint: Path) -> bool:
    """Return whether both files of a checkpoint have the checksums that they name."""
    with contextlib.suppress(OSError, zipfile.BadZipFile):
        return all(zipfile.ZipFile(checkpoint / f"{part}.npz").testzip() is None for part in ("agent", "world"))
    return False


def rows_of(run: Path) -> Iterator[dict[str, float]]:
    """Rows of metrics without the times."""
    for line in (run / "metrics.jsonl").read_text().splitlines():
        yield {name: value for name, value in json.loads(line).items() if name not in TIMES}


def test(args: Args, folder: Path) -> dict[str, Any]:
    """Kill and resume, then compare with an uninterrupted training. Raises AssertionError if something is lost."""
    run, whole, chance = folder / "killed", folder / "whole", random.Random(args.seed)
    kills = []
    for number in range(args.num_kills):
        kills.append(kill(run, MOMENTS[number % len(MOMENTS)], chance))
        print(f"Kill {number + 1}: {kills[-1]}", flush=True)
        assert kills[-1]["whole_checkpoints"] == len(kills[-1]["checkpoints"]), "a checkpoint is not whole"
    newest = max((int(name) for name in kills[-1]["checkpoints"]), default=0)  # a slow machine may have none yet
    end = (max(newest, kills[-1]["rows"]) + 5) * STEPS
    goes_on = [*TRAIN, *SMALL, "--resume-or-start", str(run), "--total-steps", str(end)]
    subprocess.run(goes_on, check=True, capture_output=True)
    subprocess.run([*TRAIN, *SMALL, "--out", str(whole), "--total-steps", str(end)], check=True, capture_output=True)
    mine, its = list(rows_of(run)), list(rows_of(whole))
    assert [row["env_steps"] for row in mine] == [STEPS * (i + 1) for i in range(end // STEPS)], "rows are missing"
    differing = sum(a != b for a, b in zip(mine, its, strict=True))
    assert not differing, f"{differing} rows differ from those of an uninterrupted training"
    return {"kills": kills, "rows": len(mine), "rows_that_differ": differing}


def main(args: Args) -> None:
    """Run the test and write what happened."""
    if args.num_kills < 1:
        raise SystemExit(f"--num-kills is {args.num_kills}; it must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        result = test(args, Path(folder))
    print(f"{args.num_kills} kills, {result['rows']} rows, none missing, doubled or different")
    if args.json:
        result_file.write(args.json, {**dataclasses.asdict(args), "json": str(args.json), **result})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
