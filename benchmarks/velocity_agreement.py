"""Whether the engines agree on whole episodes of the velocity environments, where trajectories cannot be compared.

    python benchmarks/velocity_agreement.py --robots HalfCheetah
    python benchmarks/velocity_agreement.py --json benchmarks/results/velocity_agreement.json

Each robot swings its joints by a fixed gait that does not look at the world (`GAITS`), for 1000 steps or until it
falls. Episodes differ by their start. The result holds return, cost and length: mean and 95 % confidence interval on
each engine, and whether the difference of the means lies within the interval of that difference.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import result_file
import tyro
from agreement import compare

import mjx_safety
from mjx_safety import LocomotionEnv, State

GAITS: dict[str, tuple[float, float, float]] = {  # robot -> amplitude (1), rate rad per step, phase rad per joint
    "HalfCheetah": (0.56, 0.925, 0.47),
    "Hopper": (0.23, 0.084, 0.17),
    "Walker2d": (0.08, 0.062, 1.47),
    "Swimmer": (1.0, 0.16, -1.8),
    "Ant": (0.42, 0.655, 2.76),
    "Humanoid": (0.12, 0.052, 2.18),
}
BLOCK = 50  # steps between two looks at who still runs
THRESHOLDS = {"HalfCheetah": 1.2, "Hopper": 0.7, "Walker2d": 0.1, "Swimmer": 0.2, "Ant": 0.5, "Humanoid": 0.3}
"""m/s, near the speed of the gait, so that some steps cost and others do not"""


@dataclasses.dataclass
class Args:
    """What to run."""

    robots: tuple[str, ...] = tuple(GAITS)
    """Robots."""
    engines: tuple[str, str] = ("mujoco", "mjx")
    """The engines to compare."""
    num_episodes: int = 200
    """Episodes, one in each of as many worlds."""
    num_steps: int = 1000
    """Steps of an episode, at most."""
    seed: int = 0
    """Seed of the starts."""
    json: Path | None = None
    """Also write the result to this file; robots that it holds already are kept unless run again."""


def run(env: LocomotionEnv, args: Args) -> dict[str, np.ndarray]:
    """Run the episodes. Returns per episode [E]: return, cost, length."""
    amplitude, rate, phase = GAITS[env.robot_name]
    names = ("return", "cost", "length")

    def step(carry: tuple[State, dict[str, jax.Array]], index: jax.Array) -> tuple[tuple, None]:
        states, sums = carry
        runs = ~states.terminated
        action = amplitude * jnp.sin(rate * index + phase * jnp.arange(env.action_size))
        after = jax.vmap(env.step)(states, jnp.tile(action, (args.num_episodes, 1)))
        values = {"return": after.reward, "cost": after.cost, "length": jnp.ones(args.num_episodes)}
        sums = {name: sums[name] + jnp.where(runs, values[name], 0.0) for name in names}
        return (after.replace(terminated=after.terminated | states.terminated), sums), None

    @functools.partial(jax.jit, static_argnums=2)
    def advance(carry: tuple, start: jax.Array, num_steps: int) -> tuple:
        return jax.lax.scan(step, carry, start + jnp.arange(num_steps))[0]

    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(args.seed), args.num_episodes))
    carry = (states, {name: jnp.zeros(args.num_episodes) for name in names})
    for start in range(0, args.num_steps, BLOCK):
        carry = advance(carry, jnp.int32(start), min(BLOCK, args.num_steps - start))
        if np.all(carry[0].terminated):
            break
    return {name: np.asarray(value, float) for name, value in carry[1].items()}


def main(args: Args) -> None:
    """Run all robots on both engines and print the results."""
    results: dict[str, Any] = result_file.read(args.json).get("robots", {}) if args.json else {}
    for robot in args.robots:
        sums = []
        for engine in args.engines:
            begun = time.perf_counter()
            env = mjx_safety.make(f"Safety{robot}Velocity-v1", physics=engine, threshold=THRESHOLDS[robot])
            sums.append(run(env, args))
            print(f"{robot} {engine}: {time.perf_counter() - begun:.0f} s", flush=True)
        rows = compare(*sums)
        for name, row in rows.items():
            means = "   ".join(f"{m:9.3f} +- {h:.3f}" for m, h in zip(row["means"], row["half_widths"], strict=True))
            print(f"  {name:8} {means}   {'agree' if row['agree'] else 'DIFFER'}", flush=True)
        settings = {"num_episodes": args.num_episodes, "num_steps": args.num_steps, "seed": args.seed}
        results[robot] = {
            **result_file.origin(),
            **settings,
            "gait": GAITS[robot],
            "threshold": THRESHOLDS[robot],
            "engines": args.engines,
            "rows": rows,
        }
        if args.json:
            result_file.write(args.json, {"robots": results})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
