"""Checks that untouched vases do not cost: idle worlds of Goal2, for each robot's time step, on each engine.

python benchmarks/resting.py --json benchmarks/results/resting.json
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import result_file
import tyro

import mjx_safety
from mjx_safety.core.geometry import norm


@dataclasses.dataclass
class Args:
    """What to run."""

    robots: tuple[str, ...] = ("Point", "Car", "Doggo")
    """Robots. Each has its own time step."""
    engines: tuple[str, ...] = ("mujoco", "mjx")
    """Engines."""
    num_steps: int = 1000
    """Idle steps."""
    num_envs: int = 4
    """Worlds."""
    json: Path | None = None
    """Also write the result to this file."""


def idle(env: mjx_safety.Env, args: Args) -> dict[str, float]:
    """Leave the worlds idle. Return the sum of costs and the highest speed [m/s] of any vase."""
    velocity = env.cost_names.index("vases_velocity")
    states = jax.jit(lambda key: env.reset_many(key, args.num_envs))(jax.random.key(0))
    rest = jnp.zeros((args.num_envs, env.action_size))

    @jax.jit
    def wait(states: mjx_safety.State) -> tuple[mjx_safety.State, jax.Array, jax.Array]:
        states = jax.vmap(env.step)(states, rest)
        speed = norm(jax.vmap(env.snapshot)(states).vases_linvel)
        return states, jnp.sum(states.costs[:, velocity]), jnp.max(speed)

    cost, fastest = 0.0, 0.0
    for _ in range(args.num_steps):
        states, step_cost, speed = wait(states)
        cost, fastest = cost + float(step_cost), max(fastest, float(speed))
    return {"cost": cost, "fastest": fastest, "dt": env.dt}


def main(args: Args) -> None:
    """Run all, and print one line each."""
    rows = {}
    for robot in args.robots:
        for engine in args.engines:
            rows[f"{robot} {engine}"] = idle(mjx_safety.make(f"Safety{robot}Goal2-v0", physics=engine), args)
            print(robot, engine, rows[f"{robot} {engine}"], flush=True)
    if args.json:
        result_file.write(args.json, {"num_steps": args.num_steps, "num_envs": args.num_envs, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
