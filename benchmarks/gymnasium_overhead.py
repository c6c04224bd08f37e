"""Measures the overhead of Gymnasium's vector interface over the bare jitted batch.

    python benchmarks/gymnasium_overhead.py --json benchmarks/results/gymnasium_overhead.json

All figures are ratios of medians, taken in turns within one run. Both sides wait for each step's results. Both reuse
the batch's memory from step to step (donation).
"""

from __future__ import annotations

import dataclasses
import importlib.util
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
import mjx_safety.interop.gymnasium


@dataclasses.dataclass
class Args:
    """What to measure."""

    env: str = "SafetyPointGoal1-v0"
    """Environment."""
    physics: str = "mujoco"
    """Engine."""
    num_envs: int = 1024
    """Worlds side by side."""
    num_steps: int = 10
    """Steps in one timing."""
    repeats: int = 31
    """Timings of each kind. The median counts."""
    json: Path | None = None
    """Also write the result to this file."""


def bare_batch(args: Args, actions: jax.Array) -> Callable[[], None]:
    """Step the jitted batch of `vectorize`, and wait for each step. actions: [T, B, A]."""
    batch = mjx_safety.vectorize(mjx_safety.make(args.env, physics=args.physics), args.num_envs)
    step = jax.jit(batch.step, donate_argnums=0)
    held = {"states": jax.jit(batch.reset)(jax.random.key(0))}

    def run() -> None:
        for action in actions:
            held["states"] = step(held["states"], action)
            jax.block_until_ready(held["states"].reward)

    return run


def through_gymnasium(args: Args, actions: Any, **settings: Any) -> Callable[[], None]:
    """Step the environment of `make_vec`. actions: [T, B, A] of the backend's type."""
    name = f"mjx_safety/{args.env}"
    envs = gymnasium.make_vec(name, num_envs=args.num_envs, physics=args.physics, **settings)
    envs.reset(seed=0)

    def run() -> None:
        for action in actions:
            _, reward, *_ = envs.step(action)
            jax.block_until_ready(reward)  # has no effect on other arrays, which are already complete

    return run


def measure(args: Args) -> dict[str, Any]:
    """Time each kind in turns, after one call each to compile. Returns seconds."""
    shape = (args.num_steps, args.num_envs, mjx_safety.make(args.env, physics=args.physics).action_size)
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    on_device = [jax.numpy.asarray(action) for action in actions]
    calls = {
        "bare": bare_batch(args, on_device),
        "numpy": through_gymnasium(args, actions),
        "numpy_dict": through_gymnasium(args, actions, observation="dict"),
        "jax": through_gymnasium(args, on_device, backend="jax"),
    }
    if importlib.util.find_spec("torch"):
        import torch

        calls["torch"] = through_gymnasium(args, torch.as_tensor(actions), backend="torch")
    for _ in range(2):
        for call in calls.values():
            call()
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.repeats):
        for name, call in calls.items():
            start = time.perf_counter(), time.process_time()
            call()
            wall[name].append(time.perf_counter() - start[0])
            cpu[name].append(time.process_time() - start[1])
    return {
        "num_envs": args.num_envs,
        "steps_per_second": {
            name: args.num_steps * args.num_envs / statistics.median(values) for name, values in wall.items()
        },
        "overhead": over_bare(wall),
        "overhead_cpu_time": over_bare(cpu),  # of all threads, so it is meaningful on a busy machine too
    }


def over_bare(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Median over the turns of the extra time of each kind over the bare batch in the same turn, as a share."""
    return {
        name: statistics.median(a / b - 1 for a, b in zip(values, seconds["bare"], strict=True))
        for name, values in seconds.items()
        if name != "bare"
    }


def main(args: Args) -> None:
    """Measure, print, write."""
    result = {"env": args.env, "physics": args.physics, **measure(args)}
    for name, part in result.items():
        print(name, part)
    if args.json:
        result_file.write(args.json, result)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
