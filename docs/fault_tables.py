"""Tables of faults and long runs: kills, counters, versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tabular import table

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
NOT_YET = "Not measured yet."
PACKAGES = ("jax", "mujoco", "mujoco-mjx", "flax", "gymnasium", "brax")  # of the table of versions


def _read(name: str) -> dict[str, Any] | None:
    file = RESULTS / name
    return json.loads(file.read_text()) if file.exists() else None


def kills() -> str:
    """Return what the kills of a training left, by the moment of the kill."""
    result = _read("kills.json")
    if result is None:
        return NOT_YET
    by_moment: dict[str, list[dict[str, Any]]] = {}
    for kill in result["kills"]:
        by_moment.setdefault(kill["moment"], []).append(kill)
    rows = [
        [
            moment,
            str(len(some)),
            str(sum(bool(kill["half_written"]) for kill in some)),
            str(sum(len(kill["checkpoints"]) - kill["whole_checkpoints"] for kill in some)),
        ]
        for moment, some in by_moment.items()
    ]
    said = (
        f"After the last resume the run had {result['rows']:,} rows of metrics. "
        f"{result['rows_that_differ']} of them differed from those of an uninterrupted run."
    )
    head = ("Moment of the kill", "Kills", "Left a half-written folder", "Damaged checkpoints")
    return f"{table(head, rows)}\n\n{said}"


def long_run() -> str:
    """Return the totals of the long training."""
    result = _read("long_run.json")
    if result is None:
        return NOT_YET
    growth = ", ".join(f"{name} {100 * value:+.1f} %" for name, value in result["growth"].items())
    mean = result["evaluation"]
    judged = f"{mean['episode_return_mean']:.1f} / {mean['episode_cost_mean']:.1f}"
    rows = [
        ["worlds, steps of each per iteration", f"{result['num_envs']:,}, {result['unroll_length']}"],
        ["environment steps", f"{result['env_steps']:,}"],
        ["episodes that ended", f"{result['ended']:,}"],
        ["cost of all steps", f"{result['cost']:,}"],
        ["cost that is counted in no episode", f"{result['cost_that_is_lost']:,}"],
        ["steps that are counted in no episode", f"{result['steps_that_are_lost']:,}"],
        ["worlds that blew up", f"{result['blow_ups']:,}"],
        ["episodes without a free place", f"{result['placement_failures']:,}"],
        ["growth of memory after the first fifth", growth],
        ["return / cost of the mean action at the end, limit 25", judged],
    ]
    return table((f"{result['env']}, {result['device']['kind']}", ""), rows)


def versions() -> str:
    """Return the tests with the oldest and newest versions, by Python."""
    result = _read("versions.json")
    if result is None:
        return NOT_YET
    rows = []
    for case in result["cases"]:
        found = case.get("versions", {})
        outcome = (
            case.get("problem") or f"{case['passed']} passed, {len(case['failed'])} failed, {case['skipped']} skipped"
        )
        tests = "all" if case["tests"] == ["tests"] else ", ".join(f"`{name}`" for name in case["tests"])
        rows.append([case["python"], case["resolution"], *(found.get(name, "-") for name in PACKAGES), tests, outcome])
    return table(("Python", "Versions", *PACKAGES, "Tests", "Outcome"), rows)
