"""The three numbers of the README: parity, speed on a CPU, speed on a GPU."""

from __future__ import annotations

import engine_tables
import speed_tables
from tabular import share, table


def headline() -> str:
    """Return parity, speed against safety-gymnasium and speed on a GPU, from benchmarks/results."""
    return table(["What", "Measured"], [parity(), cpu(), gpu()])


def parity() -> list[str]:
    """Return the smallest share of recorded steps whose costs agree, over engines with all recordings."""
    most = max(map(len, engine_tables.rows().values()))
    engines = {name: rows for name, rows in engine_tables.rows().items() if len(rows) == most}
    least = engine_tables.at_least(row["steps"].get("cost") for rows in engines.values() for row in rows.values())
    names = " and ".join(f"`{name}`" for name in engines)
    return [
        "Parity with safety-gymnasium 1.0.0",
        f"costs agree in {share(least)} or more of the recorded steps, in each of {most} environments, on {names}",
    ]


def cpu() -> list[str]:
    """Return the range of speeds relative to safety-gymnasium, over environments."""
    rows = (speed_tables.read("throughput_cpu") or {"rows": []})["rows"]
    ratios = []
    for env in {row["env"] for row in rows}:
        mine, peer = (speed_tables.best(rows, env, engine) for engine in ("mujoco", speed_tables.PEER))
        if mine is not None and peer is not None:
            ratios.append(mine / peer)
    if not ratios:
        return ["Speed on a CPU", "not measured yet"]
    low, high = speed_tables.ratio(min(ratios)), speed_tables.ratio(max(ratios))
    return [
        "Speed on two CPU cores",
        f"{low} to {high} times safety-gymnasium, over {len(ratios)} environments, `mujoco`",
    ]


def gpu() -> list[str]:
    """Return the highest speed on a GPU."""
    result = speed_tables.read("throughput_gpu") or {"rows": []}
    rows = [row for row in result["rows"] if row["mode"] == "step" and row["engine"] != speed_tables.ROLLOUT]
    if not rows:
        return ["Speed on a GPU", "not measured yet"]
    best = max(rows, key=lambda row: row["env_steps_per_second"])
    speed = float(f"{best['env_steps_per_second']:.2g}")
    where = f"{speed_tables.short(best['env'])}, {best['num_envs']} worlds, `{best['engine']}`"
    return [f"Speed on one {result['device']['kind']}", f"{speed:,.0f} env steps/s: {where}"]
