"""Compares the environments with recordings of safety-gymnasium 1.0.0 (MuJoCo 2.3.3).

Each recording holds posed worlds with their observation and raw costs ("static"), and steps from one world to the next
("transition"). `env.restore` poses every world, and `env.step` takes every step. The recorded worlds after the steps
are posed too. Bars (`BARS`) hold for all worlds that can reproduce. `Contacts` finds the others from their state, and
the result counts them by name.

    python benchmarks/parity.py                                  # PointGoal 0, 1, 2 on mujoco and mjx
    python benchmarks/parity.py --all --engines mujoco           # all 27 recordings in tests/data
    python benchmarks/parity.py --envs CarPush1 DoggoGoal2
    python benchmarks/parity.py --all --json benchmarks/results/parity.json    # keeps its other rows
    python benchmarks/parity.py --velocity --engines mujoco      # the velocity environments (velocity_parity.py)
    python benchmarks/parity.py --engines warp                   # with the extra warp; on a GPU, or slowly on a CPU
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import result_file
import tyro
import velocity_parity
from contacts import CHANGED, Contacts
from rich.console import Console
from rich.table import Table

import mjx_safety
from mjx_safety.env.env import Env, build_env
from mjx_safety.sim.scene import build_scene
from mjx_safety.sim.state import PhysicsState
from mjx_safety.types import Snapshot

DATA = Path(__file__).parent.parent / "tests" / "data"
DEFAULT = ("PointGoal0", "PointGoal1", "PointGoal2")
PARTS = {"posed": "static/", "before": "transition/", "after": "transition/next_"}  # name -> prefix in the recording
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiles fast, runs slowly

TANGENT = {"mujoco": 2e-8, "mjx": 2e-7, "warp": 2e-7}  # m, resolution of float32, for recorded heights or for all
CANNOT = {  # MJX has its own collision routines, Warp has those of C
    "mujoco": ("tangent", *CHANGED),
    "mjx": ("tangent", "object"),
    "warp": ("tangent", *CHANGED, "convex"),
}

BARS: dict[str, dict[str, float]] = {  # largest allowed errors, engine -> quantity -> bar
    engine: {
        "lidars": 1e-4,  # (1)
        "motion": 1e-4,  # m/s, rad/s, (1): velocimeter, gyro, magnetometer
        "joints": 1e-4,  # rad/s, (1): of hinges and balls
        "hazards_cost": 1e-5,  # m
        "accelerometer": 1e-2,  # relative to the vector's length, if it can reproduce
        "touch": 1e-2,  # relative to the length of the vector of all forces, if it can reproduce
        "position": position,  # m, of the robot after a step that can reproduce
        "reward": 1e-4,  # of such a step
    }
    for engine, position in (("mujoco", 1e-4), ("mjx", 1e-3), ("warp", 1e-4))
}
SHARES: dict[str, dict[str, float]] = {  # smallest allowed shares of agreement, engine -> quantity -> share
    engine: {
        "signs": sign,  # of each cost, given the state
        "strict_step_signs": sign,  # of each cost, after a step that can reproduce
        "step_signs": 0.98,  # of each cost, after any step
        "cost": 0.98,  # of the cost, after any step
        "goal_met": 1.0,
    }
    for engine, sign in (("mujoco", 0.99), ("mjx", 0.98), ("warp", 0.99))
}


@dataclasses.dataclass
class Args:
    """Recordings and engines to compare."""

    data: Path | None = None
    """Folder with the recordings, <Robot><Task><Level>.npz or <Robot>.npz; by default those in tests/data."""
    envs: tuple[str, ...] = DEFAULT
    """Recordings to compare with."""
    all: bool = False
    """Compare with all recordings of the folder."""
    velocity: bool = False
    """Compare the velocity environments instead, with all their recordings."""
    engines: tuple[str, ...] = ("mujoco", "mjx")
    """Engines to test."""
    json: Path | None = None
    """Also write all numbers to this file."""


def load(path: Path) -> dict[str, Any]:
    """Read a recording. The slices of its observation come as the dict `obs_keys`."""
    with np.load(path) as file:
        record = {name: file[name] for name in file.files if name != "meta"}
        meta = json.loads(file["meta"].tobytes())
    return record | {"obs_keys": meta["obs_keys"], "env": meta["env"]}


def snapshots(record: dict[str, Any], prefix: str) -> Snapshot:
    """Collect the recorded worlds whose names start with `prefix`, one per row."""
    fields = [field.name for field in dataclasses.fields(Snapshot)]
    return Snapshot(**{name: jnp.asarray(record[prefix + name]) for name in fields if prefix + name in record})


def recorded_costs(record: dict[str, Any], part: str, source: str) -> np.ndarray:
    """Costs of each world of a part. NaN if unknown, because the goal or the timer has changed since.

    The recording also has NaN where the reference suspends the cost of buttons. There it must be 0.
    """
    if part == "posed":
        return np.nan_to_num(record[f"static/raw_cost_{source}"])
    costs = np.nan_to_num(record[f"transition/info_cost_{source}"])
    if source == "buttons" and part == "after":
        moved_on = (record["transition/buttons_timer"] > 0) | (record["transition/goal_met"] > 0)
        costs = np.where(moved_on, np.nan, costs)
    return costs


@dataclasses.dataclass
class Replay:
    """An environment's replay of a recording: its worlds [W] in the order of `PARTS`, and its steps [T]."""

    obs: np.ndarray  # [W, O]
    costs: np.ndarray  # [W, C]
    data: PhysicsState  # [W]
    reward: np.ndarray  # [T]; this and the fields below: after each step
    cost: np.ndarray
    step_costs: np.ndarray
    goal_met: np.ndarray
    root_pos: np.ndarray

    def part(self, record: dict[str, Any], name: str) -> slice:
        """Rows of a part's worlds."""
        start = 0
        for part, prefix in PARTS.items():
            stop = start + len(record[f"{prefix}root_pos"])
            if part == name:
                return slice(start, stop)
            start = stop
        raise KeyError(name)


def replay(env: Env, record: dict[str, Any]) -> Replay:
    """Pose all recorded worlds and take all recorded steps."""
    worlds = [snapshots(record, prefix) for prefix in PARTS.values()]
    worlds = jax.tree.map(lambda *rows: jnp.concatenate([jnp.asarray(x, jnp.float32) for x in rows]), *worlds)
    num_posed, num_steps = (len(record[f"{PARTS[part]}root_pos"]) for part in ("posed", "before"))

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(worlds: Snapshot, actions: jax.Array) -> dict[str, Any]:
        states = jax.vmap(env.restore)(worlds)
        before = jax.tree.map(lambda x: x[num_posed : num_posed + num_steps], states)
        after = jax.vmap(env.step)(before, actions)
        return {
            "obs": states.obs,
            "costs": states.costs,
            "data": states.data,
            "reward": after.reward,
            "cost": after.cost,
            "step_costs": after.costs,
            "goal_met": after.goal_met,
            "root_pos": jax.vmap(env.snapshot)(after).root_pos,
        }

    return Replay(**jax.tree.map(np.asarray, run(worlds, jnp.asarray(record["transition/action"]))))


def group_of(entry: str) -> str:
    """Return the group of an observation entry. A group shares one bar."""
    if entry.endswith("_lidar"):
        return "lidars"
    if entry.startswith(("joint", "ball")):
        return "joints"
    return {"accelerometer": "accelerometer", "touch": "touch"}.get(entry.split("_")[0], "motion")


def compare_worlds(env: Env, record: dict[str, Any], played: Replay, part: str, listed: np.ndarray) -> dict[str, Any]:
    """Compare observations and costs of given states. listed: [n] bool, worlds whose forces cannot reproduce."""
    rows = played.part(record, part)
    obs, expected = played.obs[rows], record[f"{PARTS[part]}obs"]
    slices = {name: [where.start, where.stop] for name, where in env.obs_slices.items()}
    assert slices == record["obs_keys"], "the observation has other entries or another order"
    columns: dict[str, list[int]] = {}
    entries = {}
    for name, (start, stop) in slices.items():
        columns.setdefault(group_of(name), []).extend(range(start, stop))
        entries[name] = float(np.abs(obs[:, start:stop] - expected[:, start:stop]).max())
    result: dict[str, Any] = {"worlds": len(obs), "strict": int((~listed).sum())}
    for group, where in columns.items():
        error = obs[:, where] - expected[:, where]
        if group in ("accelerometer", "touch"):
            if listed.all():
                continue
            length = np.linalg.norm(expected[:, where], axis=-1)
            error = (np.linalg.norm(error, axis=-1) / np.maximum(length, 1e-6))[~listed]
        result[group] = float(np.abs(error).max(initial=0))
    signs = {}
    for index, name in enumerate(env.cost_names):
        costs, wanted = played.costs[rows, index], recorded_costs(record, part, name)
        signs[name] = share((costs > 0) == (wanted > 0), np.isfinite(wanted))
        if part == "posed" and name == "hazards":
            result["hazards_cost"] = float(np.abs(costs - wanted).max())
    return result | {"signs": signs, "entries": entries}


def compare_steps(
    env: Env, record: dict[str, Any], played: Replay, touched: np.ndarray, listed: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """Compare steps. touched: [T] bool, with object contact; listed: position and reward cannot reproduce."""
    position = np.linalg.norm(played.root_pos - record["transition/next_root_pos"], axis=-1)
    reward = np.abs(played.reward - record["transition/reward"])
    result = {
        "steps": len(position),
        "strict": int((~listed[1]).sum()),
        "position": float(position[~listed[0]].max(initial=0)),
        "reward": float(reward[~listed[1]].max(initial=0)),
        "goal_met": share(played.goal_met == (record["transition/goal_met"] > 0)),
        "cost": share(played.cost == record["transition/cost"]),
    }
    for name, where in {"free": ~touched, "touched": touched}.items():
        result |= {name: int(where.sum()), f"{name}_position": spread(position[where])}
        result[f"{name}_reward"] = spread(reward[where])
    signs, strict_signs = {}, {}
    for index, name in enumerate(env.cost_names):
        same = (played.step_costs[:, index] > 0) == (recorded_costs(record, "before", name) > 0)
        signs[name], strict_signs[name] = share(same), share(same, ~listed[1])
    return result | {"step_signs": signs, "strict_step_signs": strict_signs}


def share(same: np.ndarray, where: np.ndarray | None = None) -> float:
    """Share of True values; 1 if there are none."""
    same = same if where is None else same[where]
    return float(np.mean(same)) if len(same) else 1.0


def spread(errors: np.ndarray) -> list[float]:
    """Median, 95 % quantile and maximum; empty without values."""
    return [float(np.quantile(errors, q)) for q in (0.5, 0.95, 1.0)] if len(errors) else []


def compare(path: Path, engines: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Compare one recording on each engine: engine -> the numbers of the parts "posed", "after" and "steps"."""
    record = load(path)
    exact = mjx_safety.make(record["env"], physics="mujoco")
    exact_run = replay(exact, record)
    results = {}
    for engine in engines:
        env = exact if engine == "mujoco" else on_engine(exact, engine)
        played = exact_run if engine == "mujoco" else replay(env, record)
        results[engine] = _compare(env, record, played, Contacts(exact, TANGENT[engine]), exact_run, CANNOT[engine])
    return results


def on_engine(exact: Env, engine: str) -> Env:
    """Build the same environment on another engine, and on `warp` also without a GPU."""
    if engine != "warp":
        return mjx_safety.make(exact.config, physics=engine)
    from mjx_safety.sim.engines.warp import WarpPhysics

    scene = build_scene(exact.config.robot, exact.config.objects, engine="warp")
    return build_env(exact.config, WarpPhysics.create(scene))


def _compare(
    env: Env, record: dict[str, Any], played: Replay, contacts: Contacts, exact: Replay, cannot: tuple[str, ...]
) -> dict[str, Any]:
    result = {}
    for part in ("posed", "after"):
        found = contacts.of_worlds(jax.tree.map(lambda x, p=part: x[exact.part(record, p)], exact.data))
        listed = np.any([found[name] for name in cannot], axis=0)
        result[part] = compare_worlds(env, record, played, part, listed)
        result[part]["listed"] = _counts(found, cannot)
    ended_in_contact = found["object"]
    before = jax.tree.map(lambda x: x[exact.part(record, "before")], exact.data)
    robots, rewarded = contacts.of_steps(before, record["transition/action"])
    touched = rewarded["object"] | ended_in_contact
    listed = tuple(np.any([each[name] for name in cannot], axis=0) for each in (robots, rewarded))
    result["steps"] = compare_steps(env, record, played, touched, listed)
    result["steps"]["listed"] = _counts(rewarded, cannot)
    return result


def _counts(found: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, int]:
    return {name: int(found[name].sum()) for name in names if found[name].any()}


def missed(result: dict[str, Any], engine: str) -> list[str]:
    """Return every bar that a recording misses on an engine."""
    found = []
    for part, row in result.items():
        for name, bar in BARS[engine].items():
            if not row.get(name, 0.0) <= bar:  # NaN counts as a miss
                found.append(f"{part} {name}: {row[name]:.2g} > {bar:g}")
        for name, bar in SHARES[engine].items():
            shares = row.get(name, {})
            for source, value in shares.items() if isinstance(shares, dict) else [("", shares)]:
                if value < bar:
                    found.append(f"{part} {name} {source}: {value:.3f} < {bar:g}")
    return found


def worlds_table(rows: dict[str, dict[str, Any]]) -> Table:
    """Table of the comparisons of given states, two rows per recording and engine."""
    groups = [name for name in BARS["mujoco"] if name not in ("position", "reward", "hazards_cost")]
    names = ("recording", "worlds", "can reproduce", *groups, "cost signs", "cannot reproduce")
    view = Table(*names, title="given the state: worst errors (accelerometer, touch: where they can reproduce)")
    for name, row in rows.items():
        for part in ("posed", "after"):
            cells = row[part]
            errors = [f"{cells[group]:.1g}" if group in cells else "-" for group in groups]
            signs = _text(cells["signs"])
            counts = (f"{cells['worlds']} {part}", str(cells["strict"]))
            view.add_row(name, *counts, *errors, signs, _text(cells["listed"]))
    return view


def steps_table(rows: dict[str, dict[str, Any]]) -> Table:
    """Table of the steps, one row per recording and engine."""
    names = ("recording", "can reproduce", "position", "reward", "free", "m", "touched", "m")
    view = Table(*names, "goal met", "cost", "cost signs", "cannot reproduce")
    view.title = "steps: worst errors where they can reproduce; median, 95 %, maximum without and with object contact"
    for name, row in rows.items():
        cells = row["steps"]
        errors = [str(cells["strict"]), f"{cells['position']:.1g}", f"{cells['reward']:.1g}"]
        for kind in ("free", "touched"):
            errors += [str(cells[kind]), " ".join(f"{error:.0e}" for error in cells[f"{kind}_position"])]
        shares = [f"{cells[key]:.3g}" for key in ("goal_met", "cost")]
        view.add_row(name, *errors, *shares, _text(cells["step_signs"]), _text(cells["listed"]))
    return view


def _text(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())


def main(args: Args) -> None:
    """Print the tables and all missed bars."""
    (main_velocity if args.velocity else main_navigation)(args)


def main_velocity(args: Args) -> None:
    """Do so for the velocity environments."""
    rows: dict[str, dict[str, Any]] = {}
    for name in velocity_parity.NAMES:
        for engine in args.engines:
            print(f"{name} {engine} ...", flush=True)
            path = (args.data or velocity_parity.DATA) / f"{name}.npz"
            rows[f"{name} {engine}"] = velocity_parity.compare(path, engine)
    Console(width=200).print(velocity_parity.table(rows))
    misses = velocity_parity.missed_by(rows)
    print("\n".join(["bars missed:", *misses]) if misses else "all bars kept")
    if args.json:
        kept = result_file.with_kept(args.json, rows)
        bars = {"bars": velocity_parity.BARS, "costs": velocity_parity.COSTS}
        result_file.write(args.json, bars | kept | {"missed": velocity_parity.missed_by(kept["rows"])})


def main_navigation(args: Args) -> None:
    """Do so for the navigation environments."""
    data = args.data or DATA
    there = sorted(path.stem for path in data.glob("*.npz"))
    names = there if args.all else args.envs
    if unknown := [name for name in names if name not in there]:
        raise SystemExit(f"{data} has no recording {unknown[0]}; it has: {', '.join(there)}")
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        print(f"{name} ...", flush=True)
        for engine, result in compare(data / f"{name}.npz", args.engines).items():
            rows[f"{name} {engine}"] = result
    console = Console(width=200)
    console.print(worlds_table(rows))
    console.print(steps_table(rows))
    misses = missed_by(rows)
    print("\n".join(["bars missed:", *misses]) if misses else "all bars kept")
    if args.json:
        kept = result_file.with_kept(args.json, rows)
        result_file.write(args.json, {"bars": BARS, "shares": SHARES, **kept, "missed": missed_by(kept["rows"])})


def missed_by(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return all missed bars of the rows, by recording and engine."""
    return [f"{name} {miss}" for name, result in rows.items() for miss in missed(result, name.split()[1])]


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
