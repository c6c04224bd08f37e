"""Env steps per second of the velocity environments beside Gymnasium's own, in turns within one run.

    python benchmarks/velocity_throughput.py --robots HalfCheetah
    python benchmarks/velocity_throughput.py --json benchmarks/results/velocity_throughput.json

Gymnasium's are v5 (`pip install "gymnasium[mujoco]"`). Its own `AsyncVectorEnv` (a process per environment) and
`SyncVectorEnv` step them; the best number of environments counts. Ours are `vectorize` on one engine, with auto-reset.
Actions are random on both sides. "CPU" is the processor time of an env step in this process, which other programs on
the machine do not change: of ours, and of `SyncVectorEnv`, which does without `AsyncVectorEnv`'s messages.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import result_file
import tyro

import mjx_safety
from mjx_safety.world.locomotion.robots import ROBOTS


@dataclasses.dataclass
class Args:
    """What to measure."""

    robots: tuple[str, ...] = tuple(robot.name for robot in ROBOTS)
    """Robots."""
    physics: str = "mujoco"
    """Engine of ours."""
    num_envs: tuple[int, ...] = (256,)
    """Worlds of ours side by side; the best number counts."""
    peers: tuple[int, ...] = (2, 8)
    """Environments of Gymnasium's side by side; the best number counts."""
    seconds: float = 1.5
    """Least time of one timing."""
    repeats: int = 3
    """Timings of each kind. The median counts."""
    json: Path | None = None
    """Also write the result to this file; robots that it holds already are kept unless run again."""


def ours(robot: str, args: Args, num_envs: int) -> Callable[[], int]:
    """Step a batch of ours some times. Returns the env steps taken."""
    batch = mjx_safety.vectorize(mjx_safety.make(f"Safety{robot}Velocity-v1", physics=args.physics), num_envs)
    step = jax.jit(batch.step, donate_argnums=0)
    held = {"states": jax.jit(batch.reset)(jax.random.key(0))}
    actions = np.random.default_rng(0).uniform(-1, 1, (10, num_envs, batch.action_size)).astype(np.float32)

    def run() -> int:
        for action in actions:
            held["states"] = step(held["states"], action)
            jax.block_until_ready(held["states"].reward)
        return len(actions) * num_envs

    return run


def peer(robot: str, mode: str, num_envs: int) -> tuple[Callable[[], int], Callable[[], None]]:
    """Step Gymnasium's own vector environment some times, and close it."""
    processes = {"vector_kwargs": {"context": "forkserver"}} if mode == "async" else {}  # JAX's threads forbid a fork
    envs = gymnasium.make_vec(f"{robot}-v5", num_envs=num_envs, vectorization_mode=mode, **processes)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    actions = [envs.action_space.sample() for _ in range(50)]

    def run() -> int:
        for action in actions:
            envs.step(action)
        return len(actions) * num_envs

    return run, envs.close


def rate(run: Callable[[], int], seconds: float) -> tuple[float, float]:
    """Env steps per second over at least some seconds, and processor time of a step in us."""
    begun, used, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < seconds:
        steps += run()
    return steps / (time.perf_counter() - begun), (time.process_time() - used) / steps * 1e6


def measure(robot: str, args: Args) -> dict[str, Any]:
    """Time all kinds in turns, after one call each."""
    runs: dict[str, Callable[[], int]] = {f"ours {num}": ours(robot, args, num) for num in args.num_envs}
    closers = []
    for mode in ("async", "sync"):
        for num in args.peers:
            runs[f"{mode} {num}"], close = peer(robot, mode, num)
            closers.append(close)
    for run in runs.values():
        run()
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name, run in runs.items():
            rates[name].append(rate(run, args.seconds))
    for close in closers:
        close()
    medians = {name: statistics.median(x for x, _ in values) for name, values in rates.items()}
    cpu = {name: statistics.median(x for _, x in values) for name, values in rates.items() if "async" not in name}
    best = {kind: max(x for name, x in medians.items() if name.startswith(kind)) for kind in ("ours", "async", "sync")}
    return {
        "rates": medians,
        "cpu_us": cpu,
        "best": best,
        "over_async": best["ours"] / best["async"],
        "over_sync": best["ours"] / best["sync"],
    }


def main(args: Args) -> None:
    """Measure all robots and print the results."""
    results: dict[str, Any] = result_file.read(args.json).get("robots", {}) if args.json else {}
    for robot in args.robots:
        row = measure(robot, args)
        best = ", ".join(f"{kind} {x:,.0f}/s" for kind, x in row["best"].items())
        print(f"{robot}: {best}; {row['over_async']:.1f} x async, {row['over_sync']:.1f} x sync", flush=True)
        print("  CPU us of a step: " + ", ".join(f"{kind} {x:.0f}" for kind, x in row["cpu_us"].items()), flush=True)
        results[robot] = {**result_file.origin(), "physics": args.physics, **row}
        if args.json:
            result_file.write(args.json, {"robots": results})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
