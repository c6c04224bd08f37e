"""Measures training throughput as a share of stepping throughput, at the command line's default settings.

python benchmarks/training.py --json benchmarks/results/training.json

Two programs take turns in one run: a training iteration, and as many environment steps by random actions.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import result_file
import tyro

from mjx_safety.agents import init, iterate
from mjx_safety.agents.train import make_chunk
from mjx_safety.cli import common
from mjx_safety.runs import environments, training_options


@dataclasses.dataclass
class Args:
    """What to measure."""

    env: str = "SafetyPointGoal1-v0"
    """Environment."""
    algos: tuple[str, ...] = ("ppo-lag", "trpo-lag", "cpo", "sac-lag")
    """Algorithms."""
    physics: training_options.Physics = "auto"
    """Engine: auto takes mjx on an accelerator and mujoco on a CPU."""
    num_envs: int | None = None
    """Number of worlds; by default that of the command line."""
    repeats: int = 7
    """Timings of each kind. The median counts."""
    json: Path | None = None
    """Also write the results to this file."""


def measure(algo: str, args: Args) -> dict[str, Any]:
    """Time both kinds for one algorithm."""
    options = training_options.default_options(algo, args.num_envs)
    env = environments.build_env(args.env, environments.resolve_physics(args.physics))
    training = options.training(env)
    venv, steps = training.venv, options.train.unroll_length

    @partial(jax.jit, donate_argnums=0)
    def step_only(states: Any, key: jax.Array) -> Any:
        actions = jax.random.uniform(key, (steps, venv.num_envs, venv.action_size), minval=-1.0, maxval=1.0)
        return jax.lax.scan(lambda s, a: (venv.step(s, a), None), states, actions)[0]

    chunk = make_chunk(partial(iterate, *training))
    state = jax.jit(partial(init, venv, training.algorithm))(jax.random.key(0))
    worlds = jax.jit(venv.reset)(jax.random.key(1))
    seconds: dict[str, list[float]] = {"stepping": [], "training": []}
    for repeat in range(args.repeats + 2):  # the first two compile and fill the normaliser
        begun = time.perf_counter()
        worlds = jax.block_until_ready(step_only(worlds, jax.random.key(repeat)))
        between = time.perf_counter()
        state, _ = jax.block_until_ready(chunk(state, jnp.int32(1)))
        ended = time.perf_counter()
        if repeat >= 2:
            seconds["stepping"].append(between - begun)
            seconds["training"].append(ended - between)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "num_envs": venv.num_envs,
        "unroll_length": steps,
        "share_of_stepping": median["stepping"] / median["training"],
        "training_steps_per_second": steps * venv.num_envs / median["training"],
    }


def main(args: Args) -> None:
    """Measure, print, write."""
    common.set_up_jax(compilation_cache=False)
    rows = {}
    for algo in args.algos:
        rows[algo] = measure(algo, args)
        print(algo, rows[algo], flush=True)
    if args.json:
        result_file.write(
            args.json, {"env": args.env, "physics": environments.resolve_physics(args.physics), "rows": rows}
        )


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
