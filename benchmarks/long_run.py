"""Trains and steps for a very long time: memory of process and device must stay flat, and all costs must add up.

    python benchmarks/long_run.py --num-steps 1e8 --num-envs 4096 --physics mjx --json benchmarks/results/long_run.json

Each call of the compiled loop runs whole iterations of PPO-Lagrangian on SafetyPointGoal1-v0. The worlds also count
their costs in whole numbers on the device. In the end, the costs of all steps must be those of the episodes that ended
and of those that are open. A million steps of a fast environment tell nothing about memory, so take 1e8. The mean
action of the policy is then judged in fresh episodes.
"""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import result_file
import tyro
from flax import struct

import mjx_safety
from mjx_safety.agents import Algorithm, TrainState, evaluate, init, iterate, summarise
from mjx_safety.runs.training_options import RunFlags, default_options

PAGE = 4096  # bytes of /proc/self/statm
SETTLED = 0.2  # share of the run after which memory must not grow any more
GROWTH = 0.02  # share by which it may grow from then on
EPISODES = 256  # that judge the policy
JUDGED = ("episode_return_mean", "episode_return_ci95", "episode_cost_mean", "episode_cost_ci95", "over_limit_share")
WORDS = 2**20  # unit of the counters' high words, since a sum in int32 ends at 2e9


@dataclasses.dataclass
class Args:
    """What to run, and for how long."""

    env: str = "SafetyPointGoal1-v0"
    """Environment."""
    physics: str = "auto"
    """Engine."""
    num_steps: float = 1e8
    """Environment steps of all worlds together."""
    num_envs: int = 256
    """Worlds side by side."""
    seconds: float = 10.0
    """Time between two looks at the memory, about."""
    seed: int = 0
    """Seed of all random numbers."""
    json: Path | None = None
    """Also write the result to this file."""


@struct.dataclass
class Totals:
    """Whole numbers over all steps, as low and high words: [2] int32 each, in units of 1 and of WORDS."""

    cost: jax.Array  # costs of all steps
    ended_cost: jax.Array  # costs of the episodes that ended
    ended: jax.Array  # episodes that ended
    ended_steps: jax.Array  # their steps
    blow_ups: jax.Array
    placement_failures: jax.Array


def add(total: jax.Array, number: jax.Array) -> jax.Array:
    """Add a number [] below 2**30 to low and high words."""
    low = total[0] + number.astype(jnp.int32)
    return jnp.stack([low % WORDS, total[1] + low // WORDS])


def read(total: jax.Array) -> int:
    """The whole number."""
    low, high = np.asarray(total).tolist()
    return high * WORDS + low


class Counting:
    """A vector environment that adds up what its worlds report."""

    def __init__(self, venv: Any):
        self.venv = venv

    def __getattr__(self, name: str) -> Any:
        return getattr(self.venv, name)

    def reset(self, key: jax.Array) -> Any:
        """Start with all totals at 0."""
        zero = jnp.zeros(2, jnp.int32)
        return Counted(self.venv.reset(key), Totals(*[zero] * len(dataclasses.fields(Totals))))

    def step(self, states: Counted, actions: jax.Array) -> Counted:
        """Step and count."""
        worlds, total = self.venv.step(states.worlds, actions), states.totals
        done = worlds.done
        return Counted(
            worlds,
            Totals(
                cost=add(total.cost, jnp.sum(worlds.cost)),
                ended_cost=add(total.ended_cost, jnp.sum(jnp.where(done, worlds.episode_cost, 0.0))),
                ended=add(total.ended, jnp.sum(done)),
                ended_steps=add(total.ended_steps, jnp.sum(jnp.where(done, worlds.episode_length, 0))),
                blow_ups=add(total.blow_ups, jnp.sum(worlds.blew_up)),
                placement_failures=add(total.placement_failures, jnp.sum(worlds.placement_failed)),
            ),
        )


@struct.dataclass
class Counted:
    """States of the worlds, and the totals."""

    worlds: Any
    totals: Totals

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.worlds, name)


def memory() -> dict[str, int]:
    """Bytes of this process and, on an accelerator, of its device."""
    device = jax.devices()[0].memory_stats() or {}
    process = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    return {"process": process} | ({"device": device["bytes_in_use"]} if device else {})


def grows(samples: list[dict[str, Any]], name: str) -> float:
    """Relative growth of a memory after the run has settled: means of the first and the last fifth of the rest."""
    values = [sample[name] for sample in samples[int(len(samples) * SETTLED) :] if name in sample]
    part = max(len(values) // 5, 1)
    return float(np.mean(values[-part:]) / np.mean(values[:part]) - 1.0)


def judge(args: Args, algorithm: Algorithm, state: TrainState) -> dict[str, float]:
    """Return and cost of the mean action in fresh episodes."""
    venv = mjx_safety.vectorize(mjx_safety.make(args.env, physics=args.physics), EPISODES)
    run_episodes = jax.jit(partial(evaluate, venv, algorithm, sampled=False))
    episodes = run_episodes(state.params, state.normaliser, jax.random.key(args.seed + 1))
    summary = summarise(episodes, RunFlags.cost_limit)
    return {name: summary[name] for name in JUDGED}


def run(args: Args) -> dict[str, Any]:
    """Train, look at the memory, and add up."""
    options = default_options("ppo-lag", args.num_envs, int(args.num_steps))
    venv = Counting(mjx_safety.vectorize(mjx_safety.make(args.env, physics=args.physics), args.num_envs, stagger=True))
    algorithm = options.build()
    once = jax.jit(partial(iterate, venv, algorithm, options.train), donate_argnums=0)
    state = jax.jit(partial(init, venv, algorithm))(jax.random.key(args.seed))
    samples, begun, due, per_iteration = [], time.monotonic(), 0.0, args.num_envs * options.train.unroll_length
    iterations = int(args.num_steps) // per_iteration
    not_finite = 0
    for index in range(iterations):
        state, metrics = once(state)
        if time.monotonic() >= due or index == iterations - 1:
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            not_finite += not all(map(np.isfinite, values.values()))
            sample = {
                "env_steps": (index + 1) * per_iteration,
                "seconds": round(time.monotonic() - begun, 1),
                **memory(),
            }
            samples.append(sample | {name: values[name] for name in ("episode_return", "episode_cost", "multiplier")})
            print("  ".join(f"{name} {value:,.4g}" for name, value in samples[-1].items()), flush=True)
            due = time.monotonic() + args.seconds
    worlds = state.env_state.worlds
    totals = {name: read(value) for name, value in vars(state.env_state.totals).items()}
    is_open = int(np.sum(np.where(worlds.done, 0.0, worlds.episode_cost), dtype=np.int64))
    open_steps = int(np.sum(np.where(worlds.done, 0, worlds.episode_length), dtype=np.int64))
    return {
        "env_steps": iterations * per_iteration,
        "iterations": int(state.num_rollouts),
        "normaliser_count": int(state.normaliser.count_high) * 2**32 + int(state.normaliser.count_low),
        **totals,
        "open_cost": is_open,
        "open_steps": open_steps,
        "cost_that_is_lost": totals["cost"] - totals["ended_cost"] - is_open,
        "steps_that_are_lost": iterations * per_iteration - totals["ended_steps"] - open_steps,
        "looks_with_metrics_that_are_not_finite": not_finite,
        "unroll_length": options.train.unroll_length,
        "evaluation": judge(args, algorithm, state),
        "growth": {name: grows(samples, name) for name in ("process", "device") if name in samples[-1]},
        "samples": samples,
    }


def main(args: Args) -> None:
    """Run, write, and fail if something is lost or grows."""
    result = run(args)
    print({name: value for name, value in result.items() if name != "samples"})
    if args.json:
        result_file.write(args.json, {**dataclasses.asdict(args), "json": str(args.json), **result})
    assert (
        result["normaliser_count"]
        == result["env_steps"]
        == result["iterations"] * result["env_steps"] // max(result["iterations"], 1)
    )
    assert result["cost_that_is_lost"] == 0, "costs of episodes do not add up"
    assert result["steps_that_are_lost"] == 0, "steps of episodes do not add up"
    assert result["looks_with_metrics_that_are_not_finite"] == 0
    assert all(growth < GROWTH for growth in result["growth"].values()), f"memory grows: {result['growth']}"


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
