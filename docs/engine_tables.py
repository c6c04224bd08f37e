"""Tables of parity: each engine beside recordings of safety-gymnasium 1.0.0."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tabular import error, share, table

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"

Row = dict[str, Any]  # of one recording on one engine: "posed", "before", "after", "steps"


@functools.cache
def rows() -> dict[str, dict[str, Row]]:
    """Return all replayed recordings: engine -> recording -> row."""
    found: dict[str, dict[str, Row]] = {}
    for path in sorted(RESULTS.glob("parity*.json")):
        for name, row in json.loads(path.read_text())["rows"].items():
            recording, _, engine = name.partition(" ")
            found.setdefault(engine, {})[recording] = row
    return found


def velocity_speed_error(robot: str) -> list[float]:
    """Return the errors of a velocity environment's speeds against recordings, m/s: median and 95 % quantile."""
    return json.loads((RESULTS / "velocity_parity.json").read_text())["rows"][f"{robot} mujoco"]["speed"][:2]


def at_most(values: Iterable[float | None]) -> float | None:
    """Return the largest known value."""
    known = [value for value in values if value is not None]
    return max(known) if known else None


def at_least(shares: Iterable[float | dict[str, float] | None]) -> float | None:
    """Return the smallest known share. A share may be a dictionary by source."""
    known: list[float] = []
    for value in shares:
        known += value.values() if isinstance(value, dict) else [] if value is None else [value]
    return min(known) if known else None


def of(names: Iterable[str], *parts: str) -> Callable[[Row], list[Any]]:
    """Return a function that reads these quantities from these parts of a row."""
    names = tuple(names)
    return lambda row: [row[part].get(name) for part in parts for name in names if part in row]


ERRORS: dict[str, Callable[[Row], list[Any]]] = {
    "lidars in a given state, (1)": of(["lidars"], "posed", "after"),
    "velocimeter, gyro, magnetometer in a given state, SI": of(["motion"], "posed", "after"),
    "joints in a given state, SI": of(["joints"], "posed", "after"),
    "accelerometer and touch in a given state, relative*": of(["accelerometer", "touch"], "posed", "after"),
    "position after a step, m*": of(["position"], "steps"),
    "reward of a step*": of(["reward"], "steps"),
}
SHARES: dict[str, Callable[[Row], list[Any]]] = {
    "cost signs that agree in a given state": of(["signs"], "posed", "after"),
    "cost signs that agree after a step*": of(["strict_step_signs"], "steps"),
    "cost signs that agree after a step, all steps": of(["step_signs"], "steps"),
    "costs that agree after a step, all steps": of(["cost"], "steps"),
    "steps that agree on whether the goal is met": of(["goal_met"], "steps"),
}


def worst() -> str:
    """Return the largest error and the smallest share of each quantity over all recordings, by engine."""
    engines, body = list(rows()), []
    for name, read in ERRORS.items():
        body.append([name, *(error(at_most(v for row in rows()[e].values() for v in read(row))) for e in engines)])
    for name, read in SHARES.items():
        body.append([name, *(share(at_least(v for row in rows()[e].values() for v in read(row))) for e in engines)])
    head = ["Worst over all recordings", *(f"`{engine}`, {len(rows()[engine])} recordings" for engine in engines)]
    return table(head, body)


def sample() -> str:
    """Return the size of the recordings."""
    every = [row for of_engine in rows().values() for row in of_engine.values()]
    posed, steps = ({row[part][name] for row in every} for part, name in (("posed", "worlds"), ("steps", "steps")))
    if len(posed) != 1 or len(steps) != 1:
        raise SystemExit("docs/generate.py: the recordings differ in size; engine_tables.sample has no words for that")
    num, most = posed.pop(), max(map(len, rows().values()))
    count = steps.pop()
    return (
        f"Each recording holds {num} posed states and {count} steps. The {most} recordings hold {most * num:,} posed"
        f" states and {most * count:,} steps."
    )


def deviations() -> str:
    """Return a line per recording: positions and cost signs after a step, by engine."""
    engines, body = list(rows()), []
    for recording in sorted({name for engine in engines for name in rows()[engine]}):
        cells = [recording]
        for engine in engines:
            steps = rows()[engine].get(recording, {}).get("steps", {})
            free, touched = (steps.get(f"{kind}_position") for kind in ("free", "touched"))
            cells += [error(free[1] if free else None), error(touched[1] if touched else None)]
            cells.append(share(at_least([steps.get("step_signs")])) if steps.get("step_signs") else "-")
        body.append(cells)
    head = [f"`{engine}` {what}" for engine in engines for what in ("free, m", "touching, m", "cost signs")]
    return table(["Recording", *head], body)


def bars() -> str:
    """Return the bars of benchmarks/parity.py that each engine misses."""
    lines = []
    for path in sorted(RESULTS.glob("parity*.json")):
        lines += [f"- {miss}" for miss in json.loads(path.read_text()).get("missed", [])]
    return "\n".join(lines) if lines else "None."


def agreement() -> str:
    """Return the means of a scripted robot's episodes on each engine, with 95 % intervals."""
    return _agreement(json.loads((RESULTS / "agreement.json").read_text())["envs"], digits=2)


def velocity_agreement() -> str:
    """Return the means of episodes with a fixed gait on each engine, with 95 % intervals."""
    return _agreement(json.loads((RESULTS / "velocity_agreement.json").read_text())["robots"], digits=1)


def _agreement(results: dict[str, Any], digits: int) -> str:
    body, agree = [], []
    for name, result in results.items():
        where = f"{name}, {result['num_episodes']} episodes of {result['num_steps']} steps"
        for quantity, row in result["rows"].items():
            pairs = zip(row["means"], row["half_widths"], strict=True)
            cells = [f"{mean:.{digits}f} ± {half_width:.{digits}f}" for mean, half_width in pairs]
            body.append([where, quantity.replace("_", " "), *cells, "yes" if row["agree"] else "no"])
            where = ""
            agree.append(row["agree"])
    said = f"{sum(agree)} of {len(agree)} comparisons agree."
    return f"{table(['Environment', 'Per episode', '`mujoco`', '`mjx`', 'agree'], body)}\n\n{said}"


def velocity_parity() -> str:
    """Return a line per robot and engine: errors after one recorded step, and how many costs agree."""
    body = []
    for name, row in json.loads((RESULTS / "velocity_parity.json").read_text())["rows"].items():
        robot, _, engine = name.partition(" ")
        errors = [error(row[quantity][1]) for quantity in ("next_qpos", "next_qvel", "reward", "speed")]
        errors.append(error(row["exact speed"][1] if "exact speed" in row else None))
        shares = [share(row[quantity]) for quantity in ("cost", "cost_v0", "terminated")]
        body.append([f"{robot}, `{engine}`", *errors, *shares])
    head = ["95 % of the steps", "positions, m, rad", "velocities, SI", "reward", "speed, m/s", "exact speed, m/s"]
    return table([*head, "costs of v1 agree", "costs of v0 agree", "ends agree"], body)


def start() -> str:
    """Return the time of the first step, and the memory of a world."""
    result = json.loads((RESULTS / "engines.json").read_text())
    body = [
        [f"first step of PointGoal1, `{name}`", f"{value:.1f} s"] for name, value in result["start_seconds"].items()
    ]
    for env_id, value in result["start_seconds_64_worlds_mjx"].items():
        short = env_id.removeprefix("Safety").removesuffix("-v0")
        body.append([f"first step of 64 worlds of {short}, `mjx`", f"{value:.0f} s"])
    memory = result["mjx_state"]["kib_per_world"]
    body += [
        ["physics carried between steps per world, `mjx`", f"{memory['lean']:.2f} KiB"],
        ["whole `State` per world, `mjx`", f"{memory['env_state']:.2f} KiB"],
        ["a whole `mjx.Data`, for comparison", f"{memory['whole']:.1f} KiB"],
    ]
    return table(["Quantity", "Value"], body)
