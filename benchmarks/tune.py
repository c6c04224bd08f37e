"""The search for defaults: trains candidate settings of an algorithm on several tasks and ranks them by one score.

    python benchmarks/tune.py --algo ppo-lag --candidates defaults learning-rate=1e-3,entropy-coef=0
    python benchmarks/tune.py --algo ppo-lag --envs PointPush1 CarButton1 --candidates defaults learning-rate=1e-3
    python benchmarks/tune.py --table                       # rank what is in the log

Protocol: a candidate is a list of flags of `train` with their values. The seeds of a candidate train side by side in
one program. Then 256 fresh episodes judge each seed by the mean action. The score of a seed is its return divided by
the return of Safety Gym's PPO, minus the relative excess of its cost over the limit. Algorithms without a limit have no
such penalty. Tasks count equally. Only candidates with the same tasks can be ranked: those that lack one come last, and
so do those of which a seed diverged.

Each trial is written to the log at once. A trial that the log already has is not repeated, even if the defaults have
changed since. The table names the commits.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import programs
import result_file
import tyro

from mjx_safety.agents import ALGORITHMS
from mjx_safety.runs.scores import reference

LOG = Path(__file__).parent / "results" / "tune.json"
WORK = Path("runs") / "tune"
TASKS = ("PointGoal1", "PointGoal2", "PointButton1", "CarGoal1")
DEFAULTS = "defaults"  # the candidate without flags
KEYS = ("algo", "env", "candidate", "total_steps", "num_seeds")  # what makes two trials the same


@dataclasses.dataclass
class Args:
    """What to try."""

    algo: str = "ppo-lag"
    """Algorithm."""
    candidates: tuple[str, ...] = (DEFAULTS,)
    """Settings as flag=value,flag=value; several values with spaces: hidden-sizes='256 256'."""
    envs: tuple[str, ...] = TASKS
    """Tasks, without Safety and version."""
    num_seeds: int = 3
    """Seeds of each trial."""
    total_steps: int = 3_000_000
    """Environment steps of a training."""
    log: Path = LOG
    """File of all trials."""
    table: bool = False
    """Only rank what the log has."""


def flags_of(candidate: str) -> list[str]:
    """Flags of `train`."""
    pairs = [] if candidate == DEFAULTS else [setting.partition("=") for setting in candidate.split(",")]
    return [text for name, _, value in pairs for text in (f"--{name}", *value.split())]


def trial(args: Args, env: str, candidate: str) -> dict[str, Any]:
    """Train and judge one candidate on one task."""
    env_id, start = f"Safety{env}-v0", time.monotonic()
    shutil.rmtree(WORK, ignore_errors=True)
    settings = ["--env", env_id, "--algo", args.algo, "--total-steps", str(args.total_steps)]
    programs.call("train", *settings, "--num-seeds", str(args.num_seeds), "--out", str(WORK), *flags_of(candidate))
    programs.call("evaluate", str(WORK), "--action", "mean")
    judged = [json.loads(path.read_text()) for path in sorted(WORK.rglob("evaluation.json"))]
    judged = [member for member in judged if not member["diverged"]]
    policies = [member["policies"]["mean"] for member in judged]
    returns, costs = ([policy[f"episode_{name}_mean"] for policy in policies] for name in ("return", "cost"))
    has_limit = ALGORITHMS[args.algo].has_limit
    return {
        **dict(zip(KEYS, (args.algo, env, candidate, args.total_steps, args.num_seeds), strict=True)),
        "returns": returns,
        "costs": costs,
        "num_diverged": args.num_seeds - len(judged),
        "scores": [
            score(env_id, *pair, judged[0]["cost_limit"], has_limit) for pair in zip(returns, costs, strict=True)
        ],
        "seconds": round(time.monotonic() - start),
        "git_commit": result_file.BEGUN["git_commit"],
    }


def score(env_id: str, episode_return: float, episode_cost: float, cost_limit: float, has_limit: bool) -> float:
    """Return / that of Safety Gym's PPO, less the relative excess of the cost."""
    ppo = reference(env_id)
    if ppo is None:
        raise SystemExit(f"{env_id} has no reference return, so it has no score")
    if has_limit and cost_limit <= 0.0:
        raise SystemExit(f"the cost limit is {cost_limit:g}; the excess over it is relative, so it must be above 0")
    excess = max(0.0, episode_cost / cost_limit - 1.0) if has_limit else 0.0
    return episode_return / ppo.episode_return - excess


def table(trials: list[dict[str, Any]]) -> list[str]:
    """One line per algorithm, length and candidate, best first: mean score, then return / cost on each task.

    A line names the tasks that only other candidates have, the seeds that diverged, and the commits of its trials.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in trials:
        groups.setdefault(tuple(row[key] for key in KEYS if key != "env"), []).append(row)
    tasks: dict[tuple[Any, ...], set[str]] = {}  # of all candidates of an algorithm and length
    for (algo, _, *length), rows in groups.items():
        tasks.setdefault((algo, *length), set()).update(row["env"] for row in rows)
    lines = []
    for (algo, candidate, total_steps, num_seeds), rows in groups.items():
        lacks = sorted(tasks[algo, total_steps, num_seeds] - {row["env"] for row in rows})
        diverged = sum(row.get("num_diverged", 0) for row in rows)
        mean = _mean(rows, "scores")
        results = ", ".join(f"{row['env']} {_mean([row], 'returns'):.1f} / {_mean([row], 'costs'):.1f}" for row in rows)
        notes = [f"lacks {', '.join(lacks)}"] if lacks else []
        notes += [f"{diverged} seeds diverged"] if diverged else []
        notes.append("at " + ", ".join(dict.fromkeys(str(row.get("git_commit"))[:7] for row in rows)))
        about = f"{algo}, {total_steps:g} steps, {num_seeds} seeds, {candidate}"
        place = algo, total_steps, bool(lacks), bool(diverged), np.nan_to_num(-mean, nan=np.inf)
        lines.append((place, f"{mean:6.2f}  {about}: {results} ({'; '.join(notes)})"))
    return [line for _, line in sorted(lines)]


def _mean(rows: list[dict[str, Any]], name: str) -> float:
    """Mean over tasks of the means over seeds; NaN if all seeds of a task diverged."""
    return float(np.mean([np.mean(row[name]) if row[name] else np.nan for row in rows]))


def main(args: Args) -> None:
    """Try what the log lacks, then rank."""
    for env in args.envs:
        score(f"Safety{env}-v0", 0.0, 0.0, 1.0, True)  # names a task without a reference before any training
    trials = result_file.read(args.log).get("trials", [])
    known = {tuple(row[key] for key in KEYS) for row in trials}
    for env in args.envs:
        for candidate in args.candidates:
            if args.table or (args.algo, env, candidate, args.total_steps, args.num_seeds) in known:
                continue
            trials.append(trial(args, env, candidate))
            result_file.write(args.log, {"trials": trials})
            print(f"{env} {candidate}: {trials[-1]['scores']}", flush=True)
    print("\n".join(table(trials)))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
