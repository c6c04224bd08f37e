"""The numbers of the README: parity, learning, speed on a CPU, speed on a GPU."""

from __future__ import annotations

import engine_tables
import leaderboard_tables
import speed_tables
from tabular import share, table

from mjx_safety.runs import scores

MAIN_TASK, MAIN_ALGO = "PointGoal1", "ppo-lag"
PUBLISHED_SEEDS = 5  # of OmniSafe's tables
SOLVER_CHANGED = "2026-11-30"  # rounding ends a solve from the ninth step on, not from the first; changes GPU speeds


def headline() -> str:
    """Return parity, learning, speed against safety-gymnasium and speed on a GPU, from benchmarks/results."""
    return table(["What", "Measured"], [parity(), learned(), cpu(), gpu()])


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


def learned() -> list[str]:
    """Return return / cost of the main job's algorithm, over seeds, beside the published one."""
    paths = sorted(leaderboard_tables.CAMPAIGN.glob(f"{MAIN_TASK}-{MAIN_ALGO}-seed*.json"))
    row = leaderboard_tables.Row(f"Safety{MAIN_TASK}-v0", MAIN_ALGO, paths)
    there = scores.published(row.algo, row.env)
    pair = " / ".join(row.spread(f"episode_{what}_mean") for what in ("return", "cost"))
    ours = f"{pair} ({len(paths)} seeds)"
    published = ""
    if there is not None:
        pairs = ((there.episode_return, there.episode_return_std), (there.episode_cost, there.episode_cost_std))
        published = (
            f"; OmniSafe {' / '.join(f'{value:.1f} ± {std:.1f}' for value, std in pairs)} ({PUBLISHED_SEEDS} seeds)"
        )
    what = f"Return / cost, mean ± standard deviation, PPO-Lagrangian, limit {row.limit:.0f}"
    return [what, f"{MAIN_TASK}: {ours}{published}"]


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
    speed = float(f"{best['env_steps_per_second']:.3g}")
    where = f"{speed_tables.short(best['env'])}, {best['num_envs']} worlds, `{best['engine']}`"
    date = result["started"].partition("T")[0]
    caveat = f", measured on {date}, before a change of the solver" if date < SOLVER_CHANGED else ""
    return [f"Speed on one {result['device']['kind']}", f"{speed:,.0f} env steps/s: {where}{caveat}"]
