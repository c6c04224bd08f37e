"""Tables of speed, from benchmarks/results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tabular import number, table

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
PEER = "safety-gymnasium"
ROLLOUT = "mujoco.rollout"
PERCENT = "{:.0%}"

Row = dict[str, Any]  # one measurement


def read(name: str) -> dict[str, Any] | None:
    """Return a result file, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def ratio(value: float) -> str:
    """Return a ratio with two digits."""
    if value < 1:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 10 else f"{float(f'{value:.2g}'):g}"


def short(env_id: str) -> str:
    """Return an id without its prefix and version."""
    return env_id.removeprefix("Safety").removesuffix("-v0")


def best(rows: Iterable[Row], env: str, engine: str) -> float | None:
    """Return the highest env steps/s of an engine, over its modes and numbers of worlds."""
    mine = [r for r in rows if r["env"] == env and r["engine"].split()[0] == engine and r["mode"] == "step"]
    return max((row["env_steps_per_second"] for row in mine), default=None)


def throughput_cpu() -> str:
    """Return each engine's speed on a CPU relative to a bare rollout and to safety-gymnasium. A file is one run."""
    files = {"mujoco": read("throughput_cpu"), "mjx": read("throughput_mjx")}
    if not all(files.values()):
        return "Not measured yet: `python benchmarks/throughput.py cpu` and `mjx` do it."
    rows = {engine: result["rows"] for engine, result in files.items() if result}
    body = []
    for env in dict.fromkeys(row["env"] for row in rows["mujoco"]):
        line = [short(env), *_with_all_objects(rows["mujoco"], env)]
        for engine in files:
            speed, *bases = (best(rows[engine], env, name) for name in (engine, ROLLOUT, PEER))
            line += ["-" if speed is None or base is None else ratio(speed / base) for base in bases]
        needy = [row["worlds_that_need_objects"] for row in rows["mjx"] if row["env"] == env and row["engine"] == "mjx"]
        body.append([*line, PERCENT.format(needy[0]) if needy else "-"])
    head = [
        "Speed ratio",
        "`mujoco`, all objects / rollout",
        "`mujoco` / rollout",
        f"`mujoco` / {PEER}",
        "`mjx` / rollout",
        f"`mjx` / {PEER}",
        "near objects",
    ]
    return table(head, body)


def _with_all_objects(rows: list[Row], env: str) -> list[str]:
    """Return the ratio to the bare rollout where both solve for all objects."""
    speed, base = (best(rows, env, engine) for engine in ("mujoco-reference", ROLLOUT))
    return ["-" if speed is None or base is None else ratio(speed / base)]


def velocity() -> str:
    """Return the speed of the Velocity family relative to Gymnasium's own environments."""
    result = read("velocity_throughput")
    if result is None:
        return "Not measured yet: `python benchmarks/velocity_throughput.py` does it."
    body = [[robot, ratio(row["over_async"]), ratio(row["over_sync"])] for robot, row in result["robots"].items()]
    return table(["Speed ratio", "`mujoco` / AsyncVectorEnv", "`mujoco` / SyncVectorEnv"], body)


def throughput_gpu() -> str:
    """Return env steps/s on a GPU, by environment and number of worlds."""
    result = read("throughput_gpu")
    if result is None:
        return "Not measured yet: `python benchmarks/throughput.py gpu` does it."
    rows, training = result["rows"], "training, `mjx`"
    columns = [training if row["mode"] == "train" else f"`{row['engine']}`" for row in rows]
    speed = {
        (row["env"], row["num_envs"], column): row["env_steps_per_second"]
        for row, column in zip(rows, columns, strict=True)
    }
    columns = sorted(set(columns), key=lambda column: (column == training, columns.index(column)))
    body = [
        [short(env), number(worlds), *(_thousands(speed.get((env, worlds, column))) for column in columns)]
        for env, worlds in dict.fromkeys((row["env"], row["num_envs"]) for row in rows)
    ]
    return table([f"Env steps/s on one {result['device']['kind']}", "worlds", *columns], body)


def _thousands(speed: float | None) -> str:
    """Return a speed with three digits."""
    return "-" if speed is None else f"{float(f'{speed:.3g}'):,.0f}"


def size() -> str:
    """Return the time of an environment step by number of worlds, relative to the largest number."""
    result = read("throughput_size")
    if result is None:
        return "Not measured yet: `python benchmarks/throughput.py size` does it."
    rows, engines = result["rows"], ("mujoco", ROLLOUT, "mjx")
    speed = {(row["engine"], row["num_envs"]): row["env_steps_per_second"] for row in rows}
    worlds = sorted({row["num_envs"] for row in rows})
    body = [[number(n), *(ratio(speed[engine, worlds[-1]] / speed[engine, n]) for engine in engines)] for n in worlds]
    return table([f"{short(rows[0]['env'])}, worlds", "`mujoco`", "bare rollout", "`mjx`"], body)


def fast_scenes() -> str:
    """Return the speed that each choice of the MJX model gains."""
    result = read("fast_scenes")
    if result is None:
        return "Not measured yet: `python benchmarks/fast_scenes.py` does it."
    body = [
        [name, str(row["nv"]), str(row["constraint_rows"]), ratio(row["times_the_first_row"])]
        for name, row in result["rows"].items()
    ]
    return table(
        [f"{short(result['env'])}, {result['num_envs']} worlds", "degrees of freedom", "constraint rows", "speed"], body
    )


def overhead() -> str:
    """Return the speed of an environment step on the C engine, relative to its physics alone."""
    result = read("engines") or {}
    parts = result["overhead"]
    rows = {
        "speed relative to a rollout that reads the final state": "share_of_rollout_with_reading",
        "speed relative to a rollout that does not": "share_of_rollout_without_reading",
    }
    body = [[name, *(f"{part[key]:.2f}" for part in parts.values())] for name, key in rows.items()]
    return table([f"`mujoco`, {next(iter(parts.values()))['num_envs']} worlds", *map(short, parts)], body)


def recording() -> str:
    """Return the speed of `record`, and the same relative to one Gymnasium environment."""
    result = read("recording")
    if result is None:
        return "Not measured yet: `python benchmarks/recording.py` does it."
    speeds, ratio = result["episodes_per_minute"], f"{result['ratio']:.0f} times"
    body = [
        [f"`record`, {result['num_envs']} worlds", number(two_digits(speeds["record"])), ratio],
        ["one Gymnasium environment", number(two_digits(speeds["gymnasium"])), "1"],
    ]
    return table([f"`{result['policy']}`, `{result['physics']}`", "episodes a minute", "ratio"], body)


def two_digits(value: float) -> int:
    """Round to two significant digits."""
    return int(float(f"{value:.2g}"))


def training() -> str:
    """Return training throughput as a share of stepping throughput."""
    result = read("training")
    if result is None:
        return "Not measured yet: `python benchmarks/training.py` does it."
    body = [
        [f"`{algo}`", number(row["num_envs"]), PERCENT.format(row["share_of_stepping"])]
        for algo, row in result["rows"].items()
    ]
    return table([f"{short(result['env'])}, `{result['physics']}`", "worlds", "share of stepping throughput"], body)
