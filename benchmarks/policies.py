"""Writes the policies that come with the package: of each environment and algorithm, that of the best seed.

    python benchmarks/policies.py runs/campaign --rows benchmarks/results/campaign    # into mjx_safety/policies
    python benchmarks/policies.py runs/mine --out my/policies    # load_policy("my/policies/<environment>/<algorithm>")

The runs must have been evaluated (evaluation.json). The best has the highest return among those that keep the limit by
the mean action (`scores.keeps_limit`). If none keeps it, the best has the lowest cost. For an algorithm without a limit
only the return counts.

With --rows, the kept results of the campaign count as seeds too. A seed whose run folder is gone can only be the best
if the file that is already there is its policy.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tyro

from mjx_safety.agents import ALGORITHMS
from mjx_safety.runs import loading, policy_files, run_folder, scores

KEPT = ("episode_return_mean", "episode_cost_mean", "over_limit_share", "num_episodes")


@dataclasses.dataclass
class Args:
    """Evaluated runs, and the folder of the files."""

    runs: tyro.conf.Positional[Path] = Path("runs/campaign")
    """Folder with the run folders."""
    rows: Path | None = None
    """Folder with the results of the campaign."""
    out: Path = loading.SHIPPED
    """Folder for <environment>/<algorithm>.npz."""


def best(results: Sequence[dict[str, Any]]) -> int:
    """Index of the best of several evaluations of one environment and algorithm (contents of evaluation.json)."""
    means = [result["policies"]["mean"] for result in results]
    returns, costs = ([mean[f"episode_{name}_mean"] for mean in means] for name in ("return", "cost"))
    if not ALGORITHMS[results[0]["algo"]].has_limit:
        return returns.index(max(returns))
    within = [i for i, result in enumerate(results) if scores.keeps_limit([means[i]], result["cost_limit"])]
    return max(within, key=returns.__getitem__) if within else costs.index(min(costs))


def write_best(folders: Iterable[Path], out: Path = loading.SHIPPED, rows: Iterable[dict[str, Any]] = ()) -> list[Path]:
    """Write the best policy of each environment and algorithm. Returns the files, <environment>/<algorithm>.npz.

    rows: evaluations of more seeds, whose run folders may be gone.
    """
    groups: dict[tuple[str, str], list[tuple[Path | None, dict[str, Any]]]] = {}
    for folder in folders:
        if run_folder.holds_run(folder) and (folder / "evaluation.json").exists():
            result = json.loads((folder / "evaluation.json").read_text())
            groups.setdefault((result["env"], result["algo"]), []).append((folder, result))
    for row in rows:
        members = groups.setdefault((row["env"], row["algo"]), [])
        if all(row["seed"] != result["seed"] for _, result in members):
            members.append((None, row))
    written = []
    for (env_id, algo), members in sorted(groups.items()):
        file = out / env_id / f"{algo}.npz"
        there = loading.load_policy(file).origin["evaluation"] if file.exists() else None
        present = [(folder, result) for folder, result in members if folder or _judge(result) == there]
        if not present:
            continue
        folder, result = present[best([result for _, result in present])]
        found = loading.load_policy(folder or file)
        origin = found.origin | {"evaluation": _judge(result), "num_seeds": len(members)}
        policy_files.write_npz(dataclasses.replace(found, origin=origin), file)
        written.append(file)
    return written


def _judge(result: dict[str, Any]) -> dict[str, Any]:
    """What a file says of the evaluation of its policy."""
    judged = {name: result["policies"]["mean"][name] for name in KEPT}
    return judged | {"action": "mean", "physics": result["physics"], "evaluation_seed": result["evaluation_seed"]}


if __name__ == "__main__":
    flags = tyro.cli(Args, description=__doc__)
    kept = sorted(flags.rows.glob("*-seed*.json")) if flags.rows else []
    for file in write_best(
        sorted(flags.runs.glob("*")), flags.out, [json.loads(row.read_text())["evaluation"] for row in kept]
    ):
        print(file)
