"""Measures the overhead of an environment step over its physics, and the start-up of each engine.

    python benchmarks/engines.py --json benchmarks/results/engines.json

All figures are ratios. Those of a row take turns within one run, as medians.
"""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import result_file
import tyro
from mujoco import mjx

import mjx_safety
from mjx_safety.cli.throughput import bare_rollout, time_in_turns
from mjx_safety.env.vector import VecEnv
from mjx_safety.sim.state import PhysicsState

MJX_WORLDS = 256


NUM_SUBSTEPS = 10  # physics steps in one environment step, in all presets


@dataclasses.dataclass
class Args:
    """What to measure."""

    envs: tuple[str, ...] = (
        "SafetyPointGoal0-v0",
        "SafetyPointGoal1-v0",
        "SafetyPointGoal2-v0",
        "SafetyPointButton1-v0",
    )
    """Environments to step on the C engine."""
    num_envs: int = 1024
    """Worlds side by side on the C engine."""
    num_steps: int = 10
    """Environment steps in one timing."""
    repeats: int = 9
    """Timings of each kind. The median counts."""
    mjx: bool = True
    """Also measure start-up and state size on mjx (some minutes of compilation)."""
    largest: tuple[str, ...] = ("SafetyDoggoGoal2-v0", "SafetyDoggoButton2-v0")
    """Environments whose start-up with 64 worlds is also measured on mjx, once each."""
    json: Path | None = None
    """Also write the results to this file."""


def medians(repeats: int, **calls: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each call. Calls take turns after one warm-up call each."""
    return {name: statistics.median(seconds) for name, seconds in time_in_turns(repeats, **calls).items()}


def step_many(venv: VecEnv, num_steps: int) -> Callable[[Any, jax.Array], Any]:
    """Jit `num_steps` steps of all worlds with given actions [T, B, A]."""

    def run(states: Any, actions: jax.Array) -> Any:
        return jax.lax.scan(lambda s, a: (venv.step(s, a), None), states, actions, length=num_steps)[0]

    return jax.jit(run)


def measure_overhead(env_id: str, args: Args) -> dict[str, Any]:
    """Time an environment step with auto-reset on the C engine against bare rollouts of the same physics."""
    env = mjx_safety.make(env_id, physics="mujoco", accuracy="reference")
    venv = mjx_safety.vectorize(env, args.num_envs)
    states = jax.jit(venv.reset)(jax.random.key(0))
    shape = (args.num_steps, args.num_envs, env.action_size)
    actions = jax.random.uniform(jax.random.key(1), shape, minval=-1.0, maxval=1.0)
    run = step_many(venv, args.num_steps)
    states = run(states, actions)
    host = np.asarray(actions, np.float64)
    seconds = medians(
        args.repeats,
        env_step=lambda: run(states, actions),
        rollout_with_reading=bare_rollout(env, states.env_state.data, host, NUM_SUBSTEPS + 1),
        rollout_without_reading=bare_rollout(env, states.env_state.data, host, NUM_SUBSTEPS),
    )
    steps = args.num_steps * args.num_envs
    return {
        "num_envs": args.num_envs,
        "env_steps_per_second": steps / seconds["env_step"],
        # an eleventh row gives the sensors of the final state, as in the environment
        "share_of_rollout_with_reading": seconds["rollout_with_reading"] / seconds["env_step"],
        "share_of_rollout_without_reading": seconds["rollout_without_reading"] / seconds["env_step"],
    }


def measure_reset(args: Args) -> dict[str, Any]:
    """Time what auto-reset adds to a step on the C engine: bookkeeping per step, and a fresh pool per episode.

    The pool has one world per world of the batch. It is refilled once in `episode_length` steps, whether the episodes
    end together or one by one. The sum of both parts holds in both cases.
    """
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")
    venv = mjx_safety.vectorize(env, args.num_envs)
    reset, step, plain_step = jax.jit(venv.reset), jax.jit(venv.step), jax.jit(jax.vmap(env.step))
    states, action = reset(jax.random.key(0)), jnp.zeros((args.num_envs, env.action_size))
    seconds = medians(
        3 * args.repeats,
        plain=lambda: plain_step(states.env_state, action),
        with_bookkeeping=lambda: step(states, action),
        pool=lambda: reset(jax.random.key(1)),
    )
    every_step = seconds["with_bookkeeping"] / seconds["plain"] - 1
    pool = seconds["pool"] / seconds["plain"] / env.episode_length
    return {"share_every_step": every_step, "share_pool": pool, "share": every_step + pool}


START = """
import time, jax, mjx_safety
jax.config.update("jax_enable_compilation_cache", False)
jax.numpy.zeros(1).block_until_ready()
start = time.perf_counter()
env = mjx_safety.make({env!r}, physics={physics!r})
keys = jax.random.split(jax.random.key(0), {num_envs})
states = jax.jit(jax.vmap(env.reset))(keys)
jax.block_until_ready(jax.jit(jax.vmap(env.step))(states, jax.numpy.zeros(({num_envs}, env.action_size))))
print(time.perf_counter() - start)
"""


def measure_start(env_id: str, physics: str, num_envs: int = 1, repeats: int = 3) -> float:
    """Seconds from `make` to the end of the first step in a fresh process without any compilation cache, median."""
    script = START.format(env=env_id, physics=physics, num_envs=num_envs)
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(repeats)
    ]
    return statistics.median(float(run.stdout.splitlines()[-1]) for run in runs)


def measure_state(repeats: int) -> dict[str, Any]:
    """Compare carrying the whole `mjx.Data` with carrying the 30 numbers that determine it (SafetyPointGoal1-v0)."""
    env = mjx_safety.make("SafetyPointGoal1-v0")
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), MJX_WORLDS))
    actions = jax.random.uniform(jax.random.key(1), (MJX_WORLDS, env.action_size), minval=-1.0, maxval=1.0)
    model = env.physics.model

    def step_lean(data: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        return env.physics.near.step(data.replace(ctrl=ctrl), NUM_SUBSTEPS, None, jnp.float32(jnp.nan))[
            0
        ]  # all worlds alike, as below

    def step_whole(data: mjx.Data, ctrl: jax.Array) -> mjx.Data:
        data = jax.lax.fori_loop(0, NUM_SUBSTEPS, lambda _, d: mjx.step(model, d), data.replace(ctrl=ctrl))
        return mjx.forward(model, data)

    whole = jax.jit(jax.vmap(env.mjx_data))(states)
    lean_step, whole_step = jax.jit(jax.vmap(step_lean)), jax.jit(jax.vmap(step_whole))
    compile_seconds = {}
    for name, step, data in (("lean", lean_step, states.data), ("whole", whole_step, whole)):
        start = time.perf_counter()
        jax.block_until_ready(step(data, actions))
        compile_seconds[name] = time.perf_counter() - start
    seconds = medians(repeats, lean=lambda: lean_step(states.data, actions), whole=lambda: whole_step(whole, actions))
    return {
        "kib_per_world": {"lean": _kib(states.data), "whole": _kib(whole), "env_state": _kib(states)},
        "first_call_seconds_whole_over_lean": compile_seconds["whole"] / compile_seconds["lean"],
        "speed_lean_over_whole": seconds["whole"] / seconds["lean"],
    }


def _kib(tree: Any) -> float:
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree) if not _is_key(leaf)) / MJX_WORLDS / 1024


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def main(args: Args) -> None:
    """Measure, print, write."""
    result: dict[str, Any] = {"overhead": {env_id: measure_overhead(env_id, args) for env_id in args.envs}}
    result["auto_reset"] = measure_reset(args)
    engines = ("mujoco", "mjx") if args.mjx else ("mujoco",)
    result["start_seconds"] = {engine: measure_start("SafetyPointGoal1-v0", engine) for engine in engines}
    if args.mjx:
        result["start_seconds_64_worlds_mjx"] = {env_id: measure_start(env_id, "mjx", 64, 1) for env_id in args.largest}
        result["mjx_state"] = measure_state(args.repeats)
    for name, part in result.items():
        print(name, part)
    if args.json:
        result_file.write(args.json, result)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
