"""Measures the speed and the position error of each choice that makes MJX's model cheap.

    python benchmarks/fast_scenes.py --json benchmarks/results/fast_scenes.json

The first row is the reference's model. Each row adds one choice to those above it. All rows step the same worlds with
the same random actions, in turns within one run. Robots were driven into these worlds before. The errors are those of
a single step from the same states, relative to the C engine.
"""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import mujoco
import numpy as np
import result_file
import tyro
from mujoco import mjx

import mjx_safety
from mjx_safety.cli import common
from mjx_safety.cli.throughput import buffers, driving, in_mid_episode, share_with_objects, time_in_turns
from mjx_safety.env.env import Env
from mjx_safety.sim.engines.mjx import MjxPhysics, Part
from mjx_safety.sim.relevance.slots import Nearby
from mjx_safety.sim.scene import Scene, build_scene

Edit = Callable[[mujoco.MjModel], None]


@dataclasses.dataclass
class Args:
    """What to measure."""

    env: str = "SafetyPointGoal2-v0"
    """Environment without cylinders, which MJX cannot collide with boxes."""
    num_envs: int = 64
    """Worlds side by side."""
    num_steps: int = 5
    """Environment steps of one timing. The first row takes one step."""
    repeats: int = 5
    """Timings of each row. The median counts."""
    json: Path | None = None
    """Also write the result to this file."""


def sparse(model: mujoco.MjModel) -> None:
    """Undo the choice of dense matrices."""
    model.opt.jacobian = mujoco.mjtJacobian.mjJAC_AUTO


def as_it_stands(model: mujoco.MjModel) -> None:
    """Undo masks and solver settings too."""
    sparse(model)
    model.geom_contype[:] = model.geom_conaffinity[:] = 1
    model.opt.ls_iterations = 50


def edited(scene: Scene, edit: Edit) -> Scene:
    """Change a copy of a scene's model."""
    model = copy.copy(scene.model)
    edit(model)
    return dataclasses.replace(scene, model=model)


def variants(env: Env) -> dict[str, Env]:
    """Name -> the environment with some of the choices."""
    default, config = env.physics, env.config
    whole, limited = (
        build_scene(config.robot, config.objects, engine="mjx", accuracy=name) for name in ("reference", "fast")
    )

    def with_all(scene: Scene) -> Env:
        part = Part(model=mjx.put_model(scene.model), nearby=Nearby(full=default.scene, near=scene))
        return env.replace(physics=MjxPhysics(near=part, alone=None))

    return {
        "the reference's model": with_all(edited(whole, as_it_stands)),
        "masks, 10 line-search steps": with_all(edited(whole, sparse)),
        "dense matrices (accuracy='reference')": with_all(whole),
        "nearest pairs, deepest contacts": with_all(limited),
        "objects near the robot only": env.replace(physics=default.replace(alone=None)),
        "the robot alone first (accuracy='fast')": env,
    }


def rollout(env: Env, num_steps: int) -> Callable[[Any, jax.Array], Any]:
    """Jit `num_steps` steps of all worlds with given actions [T, B, A]."""

    def run(states: Any, actions: jax.Array) -> Any:
        return jax.lax.scan(lambda s, a: (jax.vmap(env.step)(s, a), None), states, actions, length=num_steps)[0]

    return jax.jit(run)


def main(args: Args) -> None:
    """Measure, print, write."""
    common.set_up_jax(compilation_cache=False)
    exact, env = (mjx_safety.make(args.env, physics=physics) for physics in ("mujoco", "mjx"))
    actions = driving(jax.random.key(1), args.num_steps, args.num_envs, env.action_size)
    states = in_mid_episode(exact, args.num_envs).env_state
    expected = np.asarray(rollout(exact, 1)(states, actions[:1]).data.qpos)

    rows: dict[str, dict[str, Any]] = {}
    calls, steps = {}, {}
    for name, variant in variants(env).items():
        steps[name] = 1 if not rows else args.num_steps
        run = rollout(variant, steps[name])
        begun = time.perf_counter()
        jax.block_until_ready(run(states, actions[: steps[name]]))
        seconds = time.perf_counter() - begun
        after = np.asarray(rollout(variant, 1)(states, actions[:1]).data.qpos)
        error = np.abs(after - expected)[:, : env.scene.robot_nq].max(axis=-1)
        calls[name] = partial(run, states, actions[: steps[name]])
        rows[name] = buffers(variant) | {
            "first_call_seconds": seconds,
            "error_m": {"median": float(np.median(error)), "max": float(error.max())},
        }
    for name, seconds in time_in_turns(args.repeats, **calls).items():
        rows[name]["env_steps_per_second"] = steps[name] * args.num_envs / statistics.median(seconds)
    slowest = rows["the reference's model"]["env_steps_per_second"]
    for name, row in rows.items():
        row["times_the_first_row"] = row["env_steps_per_second"] / slowest
        print(f"{name:36} {row['times_the_first_row']:7.1f} x", row, flush=True)
    if args.json:
        settings = {name: getattr(args, name) for name in ("env", "num_envs", "num_steps")}
        result_file.write(
            args.json,
            {**settings, "worlds_that_need_objects": float(share_with_objects(env, states.data)), "rows": rows},
        )


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
