"""Compares the exact line search of the engine mjx with MJX's own: speed and positions.

    python benchmarks/line_search.py --json benchmarks/results/line_search.json

Both run inside MJX's own solver and step the same worlds in turns within one run. Speeds are ratios of medians.
Positions are compared after two steps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from pathlib import Path
from typing import Any

import jax
import numpy as np
import result_file
import tyro

import mjx_safety
from mjx_safety.cli.throughput import driving, in_mid_episode, time_in_turns
from mjx_safety.sim.engines import mjx as engine

ENVS = ("SafetyPointGoal1-v0", "SafetyPointGoal2-v0", "SafetyCarGoal2-v0", "SafetyDoggoGoal1-v0")
T = 10  # steps of a timed call


@dataclasses.dataclass
class Args:
    """What to measure."""

    envs: tuple[str, ...] = ENVS
    """Environments."""
    num_envs: int = 128
    """Worlds."""
    repeats: int = 5
    """Timings of each kind. The median counts."""
    json: Path | None = None
    """Also write the results to this file."""


def stepping(env_id: str, states: mjx_safety.State, actions: jax.Array, searches_exactly: bool) -> Any:
    """Compile steps of worlds [B] under actions [T, B, A]. Returns positions [T, B, nq].

    Equal environments share their traces, so those of the other kind, with its line search, go first.
    """
    jax.clear_caches()
    env = mjx_safety.make(env_id)

    def step(states: mjx_safety.State, action: jax.Array) -> tuple[mjx_safety.State, jax.Array]:
        states = jax.vmap(env.step)(states, action)
        return states, states.data.qpos

    with contextlib.ExitStack() as stack:
        for name in ("own_solver",) if searches_exactly else ("own_solver", "exact_line_search"):
            stack.callback(setattr, engine, name, getattr(engine, name))
            setattr(engine, name, contextlib.nullcontext)
        run = jax.jit(lambda states, actions: jax.lax.scan(step, states, actions)[1])
        return run.lower(states, actions).compile()


def measure(env_id: str, args: Args) -> dict[str, float]:
    """Compare both in one environment."""
    env = mjx_safety.make(env_id)
    states = in_mid_episode(env, args.num_envs).env_state
    actions = driving(jax.random.key(7), T, args.num_envs, env.action_size)
    exact, iterated = (stepping(env_id, states, actions, searches_exactly) for searches_exactly in (True, False))
    if exact.as_text() == iterated.as_text():
        raise RuntimeError(f"{env_id}: both programs are the same, so there is nothing to compare")
    seconds = time_in_turns(
        args.repeats, exact=lambda: exact(states, actions), iterated=lambda: iterated(states, actions)
    )
    median = {name: statistics.median(values) for name, values in seconds.items()}
    apart = np.abs(np.asarray(exact(states, actions))[1] - np.asarray(iterated(states, actions))[1]).max(axis=-1)
    return {
        "times_as_fast": median["iterated"] / median["exact"],
        "apart_median": float(np.median(apart)),  # m or rad
        "apart_99_percent": float(np.quantile(apart, 0.99)),
    }


def main(args: Args) -> None:
    """Measure, print, write."""
    jax.config.update("jax_default_matmul_precision", "highest")
    rows = {}
    for env_id in args.envs:
        rows[env_id] = measure(env_id, args)
        print(env_id, rows[env_id], flush=True)
    if args.json:
        result_file.write(args.json, {"num_envs": args.num_envs, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
