"""Measures `record` against one Gymnasium environment that the same policy drives, the way data sets are usually made.

    python benchmarks/recording.py --json benchmarks/results/recording.json

Both sides record whole episodes of sampled actions and write them to HDF5. They take turns within one run, after one
turn each to compile.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
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
from mjx_safety.runs import datasets
from mjx_safety.runs.recording import Episode, Recorder


@dataclasses.dataclass
class Args:
    """What to measure."""

    policy: str = "SafetyPointGoal1-v0/ppo-lag"
    """Shipped policy, run folder or file."""
    physics: str = "mujoco"
    """Engine of both sides."""
    num_envs: int = 128
    """Worlds side by side, and episodes of a turn of `record`."""
    repeats: int = 5
    """Turns of each kind. The median counts."""
    json: Path | None = None
    """Also write the result to this file."""


def side_by_side(args: Args, policy: Any, env: Any, path: Path) -> Callable[[int], int]:
    """Return a function that records `num_envs` episodes side by side. It returns their number."""
    venv = mjx_safety.vectorize(env, args.num_envs)
    recorder = Recorder(venv)

    def turn(number: int) -> int:
        writer = datasets.HDF5Writer(path, venv.obs_size, venv.action_size, {})
        for batch in recorder.record(policy.actor, jax.random.key(number), args.num_envs, 0, sampled=True):
            writer.add(batch)
        writer.close()
        return args.num_envs

    return turn


def one_by_one(policy: Any, env: Any, path: Path) -> Callable[[int], int]:
    """Return a function that records one episode of one Gymnasium environment. It returns 1."""
    world: Any = gymnasium.make(f"mjx_safety/{policy.env_id}", physics=env.physics.name)
    act = jax.jit(lambda obs, key: policy(obs, key=key, deterministic=False))

    def turn(number: int) -> int:
        obs, _ = world.reset(seed=number)
        seen, actions, rewards, costs, terminated, truncated = [obs], [], [], [], False, False
        while not (terminated or truncated):
            action = np.asarray(act(obs, jax.random.key(1000 * number + len(actions))))
            obs, reward, terminated, truncated, info = world.step(action)
            seen.append(obs)
            actions.append(action)
            rewards.append(reward)
            costs.append(info["cost"])
        stacked = [np.asarray(values, np.float32) for values in (seen, actions, rewards, costs)]
        writer = datasets.HDF5Writer(path, policy.obs_size, policy.action_size, {})
        writer.add([Episode(stacked[0], stacked[1], stacked[2], stacked[3], terminated, 0)])
        writer.close()
        return 1

    return turn


def measure(args: Args) -> dict[str, Any]:
    """Time both in turns. Returns episodes a minute, and the median of their ratio over the turns."""
    policy = mjx_safety.load_policy(args.policy)
    env = mjx_safety.make(policy.env_id, physics=args.physics)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.hdf5"
        kinds = {"record": side_by_side(args, policy, env, path), "gymnasium": one_by_one(policy, env, path)}
        speeds: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(args.repeats + 1):
            for name, turn in kinds.items():
                path.unlink(missing_ok=True)
                start = time.perf_counter()
                num = turn(number)
                if number:
                    speeds[name].append(60 * num / (time.perf_counter() - start))
    ratios = [mine / other for mine, other in zip(*speeds.values(), strict=True)]
    return {
        "policy": args.policy,
        "physics": args.physics,
        "num_envs": args.num_envs,
        "episodes_per_minute": {name: statistics.median(values) for name, values in speeds.items()},
        "ratio": statistics.median(ratios),
    }


def main(args: Args) -> None:
    """Measure, print, write."""
    result = measure(args)
    for name, value in result.items():
        print(name, value)
    if args.json:
        result_file.write(args.json, result)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
