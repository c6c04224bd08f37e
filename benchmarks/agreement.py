"""Compares engines by episode statistics of a scripted robot that seeks its goal, because trajectories diverge.

    python benchmarks/agreement.py --envs SafetyPointGoal2-v0 --num-steps 150
    python benchmarks/agreement.py --json benchmarks/results/agreement.json

Each engine runs the same number of episodes from the same distribution of layouts. For each source of cost the result
holds costly steps and contact points per episode, as mean and 95 % confidence interval. It also says whether the
difference of the engines' means lies within the interval of that difference.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import result_file
import tyro
from gaits import CONTROLLERS

import mjx_safety

ENVS = ("SafetyPointGoal2-v0", "SafetyPointPush2-v0", "SafetyCarButton1-v0", "SafetyDoggoGoal2-v0")
Z95 = 1.96


@dataclasses.dataclass
class Args:
    """What to run."""

    envs: tuple[str, ...] = ENVS
    """Environments."""
    engines: tuple[str, str] = ("mujoco", "mjx")
    """The two engines to compare."""
    num_episodes: int = 1000
    """Number of episodes, one per world."""
    num_steps: int = 1000
    """Steps of an episode."""
    chunk: int = 250
    """Worlds per batch."""
    seed: int = 0
    """Seed of the layouts."""
    json: Path | None = None
    """Also write the result to this file. It keeps environments that are not run again."""


def with_compass(env_id: str, physics: str) -> mjx_safety.Env:
    """Make the environment with a compass for the controller."""
    config = mjx_safety.make(env_id, physics="mujoco").config
    task = config.task
    place = "push_box" if config.task.name == "Push" else "goal"
    task = dataclasses.replace(task, **{place: dataclasses.replace(getattr(task, place), compass=True)})
    return mjx_safety.make(config, physics=physics, task=task)


def run(env: mjx_safety.Env, args: Args) -> dict[str, np.ndarray]:
    """Run the episodes. Returns per episode [E]: return, goals, cost, and for each source its raw sum and its steps."""
    direct = next(where for name, where in env.obs_slices.items() if name.endswith("_comp"))
    control = CONTROLLERS[env.config.robot.name]
    reset = jax.jit(env.reset_many, static_argnums=1)

    @jax.jit
    def advance(states: mjx_safety.State, index: jax.Array) -> mjx_safety.State:
        return jax.vmap(env.step)(states, control(states.obs[:, direct], index))

    episodes, begun = [], time.perf_counter()
    for chunk, before in enumerate(range(0, args.num_episodes, args.chunk)):
        until = min(before + args.chunk, args.num_episodes)
        states = reset(jax.random.fold_in(jax.random.key(args.seed), chunk), until - before)
        sums: dict[str, Any] = {}
        for index in range(args.num_steps):
            states = advance(states, jnp.int32(index))
            values = {"return": states.reward, "goals": states.goal_met, "cost_steps": states.cost}
            for source, name in enumerate(env.cost_names):
                values[f"{name}_sum"] = states.costs[:, source]
                values[f"{name}_steps"] = states.costs[:, source] > 0
            sums = {name: sums.get(name, 0.0) + np.asarray(value, float) for name, value in values.items()}
        episodes.append(sums)
        print(f"  {until} episodes after {time.perf_counter() - begun:.0f} s", flush=True)
    return {name: np.concatenate([sums[name] for sums in episodes]) for name in episodes[0]}


def compare(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Means per episode with 95 % intervals, and whether they agree."""
    rows = {}
    for name, (a, b) in {name: (first[name], second[name]) for name in first}.items():
        half = [Z95 * x.std(ddof=1) / np.sqrt(len(x)) for x in (a, b)]
        difference, allowed = float(b.mean() - a.mean()), float(np.hypot(*half))
        rows[name] = {
            "means": [float(a.mean()), float(b.mean())],
            "half_widths": [float(h) for h in half],
            "difference": difference,
            "allowed": allowed,
            "agree": bool(abs(difference) <= allowed),
        }
    return rows


def main(args: Args) -> None:
    """Run all environments on both engines and print the results."""
    results = result_file.read(args.json).get("envs", {}) if args.json else {}
    for env_id in args.envs:
        begun, sums = time.perf_counter(), []
        for engine in args.engines:
            with jax.default_device(jax.devices("cpu" if engine == "mujoco" else None)[0]):  # also beside a GPU
                sums.append(run(with_compass(env_id, engine), args))
            print(f"{env_id} {engine}: {time.perf_counter() - begun:.0f} s", flush=True)
        rows = compare(*sums)
        for name, row in rows.items():
            means = "   ".join(f"{m:9.3f} +- {h:.3f}" for m, h in zip(row["means"], row["half_widths"], strict=True))
            print(f"  {name:24} {means}   {'agree' if row['agree'] else 'DIFFER'}", flush=True)
        settings = {"num_episodes": args.num_episodes, "num_steps": args.num_steps, "seed": args.seed}
        results[env_id] = {**result_file.origin(), **settings, "engines": args.engines, "rows": rows}
        if args.json:
            result_file.write(args.json, {"envs": results})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
