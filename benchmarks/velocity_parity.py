"""How closely the velocity environments reproduce recorded steps; `python benchmarks/parity.py --velocity` runs it.

Each recording holds single steps of a Velocity-v1 environment of safety-gymnasium 1.0.0 with MuJoCo 2.3.3: the state
before, with the solver's first guess, the action, the state after, observation, reward, both versions' costs. Every
state is entered with `env.restore`, every step taken with `env.step`.

Departures that no model can undo, with their sizes in the results:

- MuJoCo turns free bodies differently within a Runge-Kutta step since 2.3.3 (Ant: 1e-5 in the quaternion of a step).
- The reference measures speed and force of Ant and Humanoid in the last stage of the last physics step, we measure in
  the final state ("exact" below: the same error against the speed that the recorded positions give).
- MJX has no PGS solver: Humanoid is solved by Newton's there.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import mjx_safety
from mjx_safety.types import Snapshot
from mjx_safety.world.locomotion.robots import ROBOTS

DATA = Path(__file__).parent.parent / "tests" / "data" / "velocity"
NAMES = tuple(robot.name for robot in ROBOTS)
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile, not to run
NEAR = 1e-3  # m/s from the threshold, where rounding may decide what a step costs
BARS = {  # of the error of the coordinates after a step in 95 % of the steps, m, rad, (1): engine -> robot -> bar
    "mujoco": {name: 1e-5 for name in NAMES} | {"Ant": 2e-4, "Humanoid": 1e-4},
    "mjx": {name: 1e-3 for name in NAMES} | {"Humanoid": 1e-2},
    "warp": {name: 1e-3 for name in NAMES} | {"Humanoid": 1e-2},
}
COSTS = {"Ant": 0.98, "Humanoid": 0.98}  # smallest share of equal costs; 1 for the others


def load(path: Path) -> dict[str, Any]:
    """Read a recording."""
    with np.load(path) as file:
        record = {name: file[name] for name in file.files if name != "meta"}
        return record | {"meta": json.loads(file["meta"].tobytes())}


def replay(env: mjx_safety.LocomotionEnv, record: dict[str, Any]) -> tuple[mjx_safety.State, mjx_safety.State]:
    """Enter all recorded states [N] and take all recorded steps; states before and after."""
    fields = ("qpos", "qvel", "qacc_warmstart")
    snapshot = Snapshot(**{name: jnp.asarray(record[name], jnp.float32) for name in fields})
    actions = jnp.asarray(record["action"] / env.mj_model.actuator_ctrlrange[:, 1], jnp.float32)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(snapshot: Snapshot, actions: jax.Array) -> tuple[mjx_safety.State, mjx_safety.State]:
        before = jax.vmap(env.restore)(snapshot)
        return before, jax.vmap(env.step)(before, actions)

    return run(snapshot, actions)


def compare(path: Path, engine: str) -> dict[str, Any]:
    """Compare one recording on one engine."""
    record, name = load(path), path.stem
    env = mjx_safety.make(f"Safety{name}Velocity-v1", physics=engine)
    before, after = replay(env, record)
    result: dict[str, Any] = {"steps": len(record["reward"])}
    moved = (record["next_qpos"] - record["qpos"])[:, : env.config.travel] / env.dt
    exact = moved[:, 0] if env.config.direction == "ahead" else np.linalg.norm(moved, axis=-1)
    speed = speeds(env, before, after)
    errors = {
        "next_qpos": after.data.qpos - record["next_qpos"],
        "next_qvel": after.data.qvel - record["next_qvel"],
        "reward": after.reward - record["reward"],
        "speed": speed - record["speed_v1"],
    }
    if env.config.point == "root":
        errors["exact speed"] = speed - exact
    for entry, where in env.obs_slices.items():
        errors[f"obs {entry}"] = np.asarray(after.obs)[:, where] - record["next_obs"][:, where]
    result |= {key: spread(error) for key, error in errors.items()}
    older = mjx_safety.make(f"Safety{name}Velocity-v0", physics="mujoco").config
    charged = {
        "cost": (np.asarray(after.cost), record["speed_v1"] - env.config.threshold),
        "cost_v0": (
            speeds(env, before, after, older.direction) > older.threshold,
            record["speed_v0"] - older.threshold,
        ),
    }
    for key, (ours, excess) in charged.items():
        sure = np.abs(excess) > NEAR
        result[key] = float(np.mean((ours > 0) == (record[key] > 0), where=sure))
        result[f"{key} near the threshold"] = int((~sure).sum())
    result["terminated"] = float(np.mean(np.asarray(after.terminated) == record["terminated"]))
    return result


def speeds(env: mjx_safety.LocomotionEnv, before: Any, after: Any, direction: str | None = None) -> np.ndarray:
    """Speeds [N] m/s that the steps are charged for, worked out from the states."""
    places = [
        np.pad(np.asarray(s.data.qpos, np.float64)[:, : env.config.travel], ((0, 0), (0, 1)))[:, :2]
        for s in (before, after)
    ]
    velocity = (places[1] + np.asarray(after.memory) - places[0] - np.asarray(before.memory)) / env.dt
    return velocity[:, 0] if (direction or env.config.direction) == "ahead" else np.linalg.norm(velocity, axis=-1)


def spread(error: np.ndarray) -> list[float]:
    """Median, 95 % quantile and maximum over the steps of a step's largest error."""
    worst = np.abs(np.asarray(error, np.float64).reshape(len(error), -1)).max(axis=-1)
    return [float(np.quantile(worst, q)) for q in (0.5, 0.95, 1.0)]


def missed(result: dict[str, Any], name: str, engine: str) -> list[str]:
    """Name every bar that a recording does not keep on an engine."""
    found = []
    if not result["next_qpos"][1] <= BARS[engine][name]:
        found.append(f"next_qpos: {result['next_qpos'][1]:.2g} > {BARS[engine][name]:g} in 95 % of the steps")
    for key, least in {"cost": COSTS.get(name, 1.0), "cost_v0": COSTS.get(name, 1.0), "terminated": 1.0}.items():
        allowed = least if engine == "mujoco" else min(least, 0.98)
        if result[key] < allowed:
            found.append(f"{key}: {result[key]:.3f} < {allowed:g}")
    return found


def missed_by(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return all missed bars of the rows, by robot and engine."""
    return [f"{key} {miss}" for key, row in rows.items() for miss in missed(row, *key.split())]


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """Lay out the results, a row for each robot and engine."""
    keys = ("next_qpos", "next_qvel", "reward", "speed", "obs qpos", "obs qvel")
    view = Table("recording", "steps", *keys, "cost", "cost_v0", "terminated")
    view.title = (
        "errors of a step: 95 % of the steps, worst; shares that are equal (1e-3 m/s around the threshold left out)"
    )
    for name, row in rows.items():
        errors = [f"{row[key][1]:.0e} {row[key][2]:.0e}" for key in keys]
        view.add_row(name, str(row["steps"]), *errors, *(f"{row[k]:.3g}" for k in ("cost", "cost_v0", "terminated")))
    return view
