"""Measures the speed tables of docs/results.md: environments, engines, bare rollout, safety-gymnasium.

    python benchmarks/throughput.py cpu --peer-python ../peer/bin/python   # the C engine on two CPU cores
    python benchmarks/throughput.py mjx --peer-python ../peer/bin/python   # the same with mjx
    python benchmarks/throughput.py size                                    # time of a step by number of worlds
    python benchmarks/throughput.py gpu                                     # one GPU: mjx, and warp if it runs

Each table is a fixed set of measurements of `python -m mjx_safety.benchmark`. After each measurement the script writes
results/throughput_<name>.json and .png. It leaves out what is not installed, and the file names that as missing. --tiny
writes throughput_<name>_tiny, to try the script. On a GPU each program has a process of its own. All compile side by
side before the timing. warp is measured on PointGoal1, PointGoal2 and HalfCheetahVelocity, because its kernels compile
for a minute each.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

import jax
import tyro

from mjx_safety import registry
from mjx_safety.cli import benchmark
from mjx_safety.cli.benchmark import Flags
from mjx_safety.cli.gpu_flags import set_gpu_flags

RESULTS = Path(__file__).parent / "results"
ENVS = ("PointGoal1", "PointGoal2", "CarGoal1", "CarButton1", "DoggoGoal1", "DoggoGoal2", "PointPush1")


@dataclasses.dataclass
class Args:
    """The table to measure."""

    table: tyro.conf.Positional[Literal["cpu", "mjx", "size", "gpu"]]
    """cpu: mujoco with 256 and 1024 worlds, bare rollout, safety-gymnasium; mjx: mujoco, mjx and the others;
    size: mujoco and mjx, 16 to 4096 worlds; gpu: mjx and warp, 4096 to 65536 worlds."""
    peer_python: Path | None = None
    """Interpreter with safety-gymnasium."""
    tiny: bool = False
    """Few worlds and steps, to try the script."""
    compile_limit: float = 300.0
    """gpu: seconds for all compilation, side by side. What has not compiled by then is named as missing."""
    out: Path = RESULTS
    """Folder for the results."""


def why_not_warp() -> str:
    """Return what the engine warp lacks here, or an empty text."""
    try:
        registry.resolve_physics("warp")
    except ValueError as error:
        return str(error)
    return ""


def ids(*names: str) -> tuple[str, ...]:
    """Return ids for short names."""
    return tuple(f"Safety{name}-v0" for name in names)


def plan_of(args: Args) -> list[Flags]:
    """Return the measurements of a table."""
    if args.table == "size":
        common = Flags(envs=ids("PointGoal1"), num_steps=10, repeats=3)
        plan = [
            dataclasses.replace(common, physics=("mujoco",), num_envs=(16, 64, 256, 1024, 4096)),
            dataclasses.replace(common, physics=("mjx",), num_envs=(16, 64, 256, 1024, 4096), rollout=False),
        ]
    elif args.table == "mjx":
        common = Flags(envs=ids(*ENVS), physics=("mujoco", "mjx"), num_envs=(256,), num_steps=10)
        plan = [dataclasses.replace(common, peer_python=args.peer_python)]
    elif args.table == "cpu":
        plan = []
        for name in ENVS:  # each environment in one go, because the machine may become faster or slower
            common = Flags(envs=ids(name), physics=("mujoco",), num_envs=(256,), num_steps=40)
            both = ("fast", "reference")
            plan.append(dataclasses.replace(common, accuracy=both, peer_python=args.peer_python))
            plan.append(dataclasses.replace(common, num_envs=(1024,), num_steps=20, rollout=False))
    else:
        common = Flags(num_envs=(4096,), num_steps=16, physics=("mjx",), repeats=3, rollout=False)
        common = dataclasses.replace(common, jobs=os.cpu_count() or 1, compile_limit=args.compile_limit)
        both = {"physics": ("mjx",) if why_not_warp() else ("mjx", "warp")}
        bare = {"physics": (), "rollout": True, "num_envs": (1024,)}
        quick = ids("PointGoal2", "CarGoal1", "DoggoGoal1", "PointPush1")
        velocity = ids("HalfCheetahVelocity", "HopperVelocity", "AntVelocity")
        plan = [  # the slowest last, for a machine that is lent for minutes
            dataclasses.replace(common, envs=ids("PointGoal1"), num_envs=(4096, 16384, 65536), **both),
            dataclasses.replace(common, envs=ids("PointGoal1"), modes=("train",), num_envs=(4096, 16384)),
            dataclasses.replace(common, envs=(*quick, *velocity), num_envs=(4096,)),
            dataclasses.replace(common, envs=ids("HalfCheetahVelocity", "PointGoal2"), num_envs=(16384,), **both),
            dataclasses.replace(common, envs=ids("CarButton1", "DoggoGoal2"), num_envs=(4096,)),
            dataclasses.replace(common, envs=ids("PointGoal1", "PointGoal2"), **bare),
        ]
    if not args.tiny:
        return plan
    return [dataclasses.replace(part, envs=part.envs[:1], num_envs=(8,), num_steps=2, repeats=2) for part in plan]


def missing(args: Args) -> list[str]:
    """Return the parts of the table that cannot be measured here."""
    notes = []
    if args.table == "gpu" and jax.default_backend() == "cpu":
        notes.append("a GPU: these are figures of a CPU")
    if args.table == "gpu" and why_not_warp():
        notes.append(f"warp: {why_not_warp()}")
    if args.table in ("cpu", "mjx") and args.peer_python is None:
        notes.append("safety-gymnasium: give --peer-python")
    return [*notes, "real sizes: --tiny only tries the script"] if args.tiny else notes


def main(args: Args) -> None:
    """Print what is missing, then measure."""
    set_gpu_flags()
    notes = missing(args)
    for note in notes:
        print(f"Missing: {note}")
    out = args.out / f"throughput_{args.table}{'_tiny' if args.tiny else ''}.json"
    benchmark.measure(plan_of(args), out, "benchmarks/throughput.py", notes)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
