"""How closely the environments reproduce recordings of safety-gymnasium 1.0.0.

Each recording holds posed worlds with their observation and raw costs ("static") and steps from one world to the next
("transition"). Here every world is entered with `env.restore`, every step taken with `env.step`.

    python benchmarks/parity.py                 # a table for the recordings in tests/data, both engines
    python benchmarks/parity.py --json benchmarks/results/parity.json
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import mjx_safety
from mjx_safety.env import Env
from mjx_safety.types import Snapshot

DATA = Path(__file__).parent.parent / "tests" / "data"
MOVED = 1e-5  # m, an object that moved more than this in a step was touched (settling moves it 1e-6)


@dataclasses.dataclass
class Args:
    """Which recordings to compare with, on which engines."""

    data: Path = DATA
    """Folder with the recordings, <Robot><Task><Level>.npz."""
    engines: tuple[str, ...] = ("mujoco", "mjx")
    """Engines to test."""
    json: Path | None = None
    """Also write the table to this file."""


def load(path: Path) -> dict[str, np.ndarray]:
    """Read a recording. The slices of its observation come as the dict `obs_keys`."""
    with np.load(path) as file:
        record = {name: file[name] for name in file.files if name != "meta"}
        meta = json.loads(file["meta"].tobytes())
    return record | {"obs_keys": meta["obs_keys"], "env": meta["env"]}


def snapshots(record: dict[str, np.ndarray], prefix: str) -> Snapshot:
    """Collect the recorded worlds whose names start with `prefix`, one per row."""
    fields = [field.name for field in dataclasses.fields(Snapshot)]
    return Snapshot(**{name: jnp.asarray(record[prefix + name]) for name in fields if prefix + name in record})


def compare_static(env: Env, record: dict[str, np.ndarray]) -> dict[str, Any]:
    """Enter every posed world; return the worst error of each observation entry and cost, and agreement of signs."""
    states = jax.jit(jax.vmap(env.restore))(snapshots(record, "static/"))
    obs, costs = np.asarray(states.obs), np.asarray(states.costs)
    result: dict[str, Any] = {"worlds": len(obs)}
    for name, (start, stop) in record["obs_keys"].items():
        assert env.obs_slices[name] == slice(start, stop), f"{name} stands elsewhere in the observation"
        result[name] = float(np.abs(obs[:, start:stop] - record["static/obs"][:, start:stop]).max())
    for index, name in enumerate(env.cost_names):
        recorded = record[f"static/raw_cost_{name}"]
        result[f"cost_{name}"] = float(np.abs(costs[:, index] - recorded).max())
        result[f"sign_{name}"] = float(np.mean((costs[:, index] > 0) == (recorded > 0)))
    return result


def compare_transitions(env: Env, record: dict[str, np.ndarray]) -> dict[str, Any]:
    """Take every recorded step; return errors of free steps, of steps with object contact, and what was left out."""
    worlds = jax.jit(jax.vmap(env.restore))(snapshots(record, "transition/"))
    states = jax.jit(jax.vmap(env.step))(worlds, jnp.asarray(record["transition/action"]))
    after = jax.vmap(env.snapshot)(states)
    touched = touched_steps(record)
    flip = flip_steps(record)
    position = np.linalg.norm(after.root_pos - record["transition/next_root_pos"], axis=-1)
    reward = np.abs(states.reward - record["transition/reward"])
    free = ~touched & ~flip
    result = {
        "steps": len(position),
        "touched": int(touched.sum()),
        "flip": int(flip.sum()),
        "free_position": float(position[~touched].max(initial=0)),
        "free_reward": float(reward[free].max(initial=0)),
        "flip_reward": float(reward[flip & ~touched].max(initial=0)),
        "touched_position_median": float(np.median(position[touched])) if touched.any() else 0.0,
        "touched_position_95": float(np.quantile(position[touched], 0.95)) if touched.any() else 0.0,
        "goal_met": float(np.mean(np.asarray(states.goal_met) == (record["transition/goal_met"] > 0))),
        "cost": float(np.mean(np.asarray(states.cost) == record["transition/cost"])),
    }
    for index, name in enumerate(env.cost_names):
        recorded = record[f"transition/info_cost_{name}"] > 0
        result[f"sign_{name}"] = float(np.mean((np.asarray(states.costs)[:, index] > 0) == recorded))
    return result


def touched_steps(record: dict[str, np.ndarray]) -> np.ndarray:
    """Steps in which a free object moved, [T] bool."""
    touched = np.zeros(len(record["transition/reward"]), bool)
    for name in ("vases",):
        if f"transition/{name}_pos" in record:
            moved = np.abs(record[f"transition/next_{name}_pos"] - record[f"transition/{name}_pos"])
            touched |= moved.max(axis=(1, 2)) > MOVED
    return touched


def flip_steps(record: dict[str, np.ndarray]) -> np.ndarray:
    """Steps with a turn command of exactly 0, where rounding decides the phase of the Point's turn servo, [T] bool."""
    return record["transition/action"][:, 1] == 0


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """Lay out the results, one column per environment and engine."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    view = Table("quantity", *rows, title="worst error against safety-gymnasium 1.0.0 (shares: of equal cases)")
    for name in names:
        cells = (row.get(name, "") for row in rows.values())
        view.add_row(name, *(f"{cell:.2g}" if isinstance(cell, float) else str(cell) for cell in cells))
    return view


def main(args: Args) -> None:
    """Print the table."""
    rows = {}
    for path in sorted(args.data.glob("*.npz")):
        record = load(path)
        print(f"{path.stem} ...", flush=True)
        for engine in args.engines:
            env = mjx_safety.make(record["env"], physics=engine)
            static, steps = compare_static(env, record), compare_transitions(env, record)
            rows[f"{path.stem} {engine}"] = static | {f"step_{name}": value for name, value in steps.items()}
    Console(width=200).print(table(rows))
    if args.json:
        import record

        record.write(args.json, {"rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
