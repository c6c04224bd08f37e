"""Runs random actions for many steps in every environment. Nothing may become NaN, leave the world or overlap at start.

    python benchmarks/soak.py --json benchmarks/results/soak_mujoco.json
    python benchmarks/soak.py --physics mjx --num-steps 100000 --envs SafetyPointGoal2-v0 SafetyCarButton1-v0

The first command takes a million steps in all 27 environments of the benchmark, on the C engine.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import result_file
import tyro

import mjx_safety
from mjx_safety import registry

FAR = 20.0  # m from the origin, further than a robot gets in an episode without a blow-up


@dataclasses.dataclass
class Args:
    """What to run, and for how long."""

    envs: tuple[str, ...] = mjx_safety.BENCHMARK_IDS
    """Environments. They share the steps equally."""
    physics: str = "mujoco"
    """Engine."""
    num_steps: int = 1_000_000
    """Steps of all worlds of all environments together."""
    num_envs: int = 64
    """Worlds side by side."""
    seed: int = 0
    """Seed of layouts and actions."""
    json: Path | None = None
    """Also write the result to this file."""


def overlap(env: mjx_safety.Env, state: mjx_safety.State) -> jax.Array:
    """Deepest violation [] m of two keepouts in a layout, negative if there is none."""
    snapshot = env.snapshot(state)
    places = [snapshot.root_pos[None, :2], *(getattr(snapshot, f"{name}_pos")[:, :2] for name in env.config.placed)]
    xy, keepout = jnp.concatenate(places), env.placement.keepout
    gap = jnp.linalg.norm(xy[:, None] - xy, axis=-1) - keepout[:, None] - keepout - env.placement.margin
    return -jnp.min(jnp.where(jnp.eye(len(xy), dtype=bool), jnp.inf, gap))


def soak(env_id: str, args: Args) -> dict[str, float]:
    """Run one environment. Return what happened."""
    env = mjx_safety.make(env_id, physics=args.physics)
    venv = mjx_safety.vectorize(env, args.num_envs, stagger=True)
    key = jax.random.key(args.seed)
    states = jax.jit(venv.reset)(key)
    deepest = float(jnp.max(jax.jit(jax.vmap(lambda state: overlap(env, state)))(states.env_state)))

    @jax.jit
    def advance(states: mjx_safety.VecState, key: jax.Array) -> tuple[mjx_safety.VecState, dict[str, jax.Array]]:
        actions = jax.random.uniform(key, (args.num_envs, env.action_size), minval=-1.0, maxval=1.0)
        states = venv.step(states, actions)
        return states, {
            "nan": jnp.sum(~jnp.isfinite(states.final_obs).all(-1) | ~jnp.isfinite(states.reward)),
            "blown_up": jnp.sum(states.terminated & ~states.placement_failed),
            "placement_failed": jnp.sum(states.placement_failed),
            "far": jnp.sum(jnp.max(jnp.abs(states.env_state.data.qpos[:, :2]), axis=-1) > FAR),
            "cost": jnp.sum(states.cost),
            "episodes": jnp.sum(states.done),
        }

    total: dict[str, float] = {}
    num_steps = -(-args.num_steps // len(args.envs) // args.num_envs)
    begun = time.perf_counter()
    for index in range(num_steps):
        states, counts = advance(states, jax.random.fold_in(key, index))
        total = {name: total.get(name, 0.0) + float(count) for name, count in counts.items()}
    return {
        "steps": num_steps * args.num_envs,
        **total,
        "deepest_overlap": deepest,
        "seconds": time.perf_counter() - begun,
    }


def main(args: Args) -> None:
    """Run all, and print one line each."""
    for env_id in args.envs:
        if not isinstance(registry.find_config(env_id), mjx_safety.EnvConfig):
            raise SystemExit(f"{env_id} has no layouts to look at; name others, such as {mjx_safety.BENCHMARK_IDS[0]}")
    rows = {}
    for env_id in args.envs:
        rows[env_id] = soak(env_id, args)
        print(env_id, {name: round(value, 4) for name, value in rows[env_id].items()}, flush=True)
    wrong = sum(row["nan"] + row["blown_up"] + row["placement_failed"] + row["far"] for row in rows.values())
    deepest = max(row["deepest_overlap"] for row in rows.values())
    print(f"{sum(row['steps'] for row in rows.values()):g} steps, {wrong:g} faults, deepest overlap {deepest:.2g} m")
    if args.json:
        settings = {"physics": args.physics, "num_envs": args.num_envs, "seed": args.seed}
        result_file.write(args.json, {**settings, "faults": wrong, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
