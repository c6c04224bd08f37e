"""The tables of the README's performance section: environments, engines, bare rollout, safety-gymnasium.

    python benchmarks/throughput.py cpu --peer-python ../peer/bin/python   # two CPU cores
    python benchmarks/throughput.py gpu                                     # one GPU: mjx and, where it runs, warp

Each runs `python -m mjx_safety.benchmark` with fixed flags, one environment at a time, and writes
results/throughput_<name>.json and .png; what is not installed is left out and said.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import tyro

from mjx_safety import benchmark, registry

RESULTS = Path(__file__).parent / "results"
ENVS = ("PointGoal1", "PointGoal2", "CarGoal1", "CarButton1", "DoggoGoal1", "DoggoGoal2", "PointPush1")


@dataclasses.dataclass
class Args:
    """Which table."""

    table: tyro.conf.Positional[Literal["cpu", "gpu"]]
    """cpu: mujoco, mjx, bare rollout, safety-gymnasium; gpu: mjx and warp, from 256 to 65536 worlds."""
    peer_python: Path | None = None
    """Interpreter with safety-gymnasium."""
    tiny: bool = False
    """Few worlds and steps, to try the script."""
    out: Path = RESULTS
    """Folder for the results."""


def why_not_warp() -> str:
    """Say what the engine warp lacks here; empty if nothing."""
    try:
        registry.resolve_physics("warp")
    except ValueError as error:
        return str(error)
    return ""


def flags_of(args: Args) -> list[str]:
    """Command line of `mjx_safety.benchmark`."""
    flags = ["--envs", *(f"Safety{name}-v0" for name in ENVS)]
    if args.table == "cpu":
        worlds, steps = (["8"], "2") if args.tiny else (["256"], "10")
        flags += ["--physics", "mujoco", "mjx", "--num-envs", *worlds, "--num-steps", steps]
        if args.peer_python:
            flags += ["--peer-python", str(args.peer_python)]
    else:
        worlds = ["8", "16"] if args.tiny else ["256", "1024", "4096", "16384", "65536"]
        engines = ["mjx"] if why_not_warp() else ["mjx", "warp"]
        flags += ["--physics", *engines, "--num-envs", *worlds, "--num-steps", "2" if args.tiny else "16"]
    return [*flags, "--repeats", "2" if args.tiny else "5", "--out", str(args.out / f"throughput_{args.table}.json")]


def main(args: Args) -> int:
    """Say what is missing, then measure."""
    if args.table == "gpu" and jax.default_backend() == "cpu":
        print("No GPU: these are figures of a CPU")
    if args.table == "gpu" and why_not_warp():
        print(f"Without warp: {why_not_warp()}")
    if args.table == "cpu" and args.peer_python is None:
        print("Without safety-gymnasium: give --peer-python")
    return benchmark.main(flags_of(args))


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Args, description=__doc__)))
