"""The leaderboard: one table and one picture per environment, from benchmarks/results/campaign."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from tabular import table

from mjx_safety.agents import ALGORITHMS
from mjx_safety.runs import scores

CAMPAIGN = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "campaign"
ROOT = "../benchmarks/results/campaign"  # seen from the page
ENDED = "evaluation_of_episodes_that_end_at_the_limit"
USUAL_STEPS, USUAL_OFF_POLICY_STEPS = 1e7, 1e6  # of the campaign
HEAD = ["Algorithm", "Seeds", "Return", "Cost", "CVaR 90 %", "Over limit", "Return ratio", "Violation", "OmniSafe"]


def leaderboard() -> str:
    """Return a section for each environment that has a result, in the order of their names."""
    envs: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(CAMPAIGN.glob("*-seed*.json")):
        run = json.loads(path.read_text())["run"]
        envs.setdefault(run["env"], {}).setdefault(run["algo"], []).append(path)
    return "\n\n".join(section(env, algos) for env, algos in sorted(envs.items()))


def section(env: str, algos: dict[str, list[Path]]) -> str:
    """Return the table and the picture of one environment. algos: results of the seeds of each."""
    name = env.removeprefix("Safety").removesuffix("-v0")
    rows = [Row(env, algo, paths) for algo, paths in algos.items()]
    rows += [Row(env, algo, paths, ENDED) for algo, paths in algos.items() if ALGORITHMS[algo].ends_at_limit]
    ranked = sorted(rows, key=Row.rank)
    parts = [f"## {name}", table(HEAD, [row.cells() for row in ranked])]
    if (CAMPAIGN / f"curves-{name}.png").is_file():
        parts.append(
            f"![Return and cost during the trainings on {name}](../benchmarks/results/campaign/curves-{name}.png)"
        )
    return "\n\n".join(parts)


class Row:
    """The results of one algorithm in one environment, by the mean action.

    evaluation: in whole episodes, or in episodes that end at the limit (`ENDED`).
    """

    def __init__(self, env: str, algo: str, paths: list[Path], evaluation: str = "evaluation"):
        self.env, self.algo, self.paths, self.is_ended = env, algo, paths, evaluation == ENDED
        results = [json.loads(path.read_text()) for path in paths]
        self.limit: float = results[0]["run"]["cost_limit"]
        self.steps: float = min(result["summary"]["env_steps"] for result in results)
        self.judged: list[dict[str, float]] = [result[evaluation]["policies"]["mean"] for result in results]
        self.normalised: list[dict[str, Any]] = [
            (result[evaluation].get("normalised") or {}).get("mean") or {} for result in results
        ]

    def mean(self, name: str) -> float:
        """Mean over seeds."""
        return statistics.mean(policy[name] for policy in self.judged)

    def keeps_limit(self) -> bool:
        """Whether the lower end of the 95 % interval of the mean cost is at most the limit."""
        return scores.keeps_limit(self.judged, self.limit)

    def rank(self) -> tuple[bool, float]:
        """Return the place in the order: those that keep the limit, by return, then the others, by cost."""
        kept = self.keeps_limit()
        return not kept, -self.mean("episode_return_mean") if kept else self.mean("episode_cost_mean")

    def cells(self) -> list[str]:
        """Return the cells of the row."""
        seeds = (
            f"[{path.stem.rpartition('seed')[2]}](../benchmarks/results/campaign/{path.name})" for path in self.paths
        )
        comparable = self.is_ended or not ALGORITHMS[self.algo].ends_at_limit
        there = scores.published(self.algo, self.env) if comparable else None
        usual = USUAL_OFF_POLICY_STEPS if ALGORITHMS[self.algo].is_off_policy else USUAL_STEPS
        is_short = self.steps < 0.9 * usual
        notes = ", ended at the limit" * self.is_ended + f", {self.steps / 1e6:.1f} million steps" * is_short
        return [
            f"[`{self.algo}`](algorithms/{ALGORITHMS[self.algo].page}.md){notes}",
            ", ".join(seeds),
            self.spread("episode_return_mean"),
            self.spread("episode_cost_mean"),
            f"{self.mean('episode_cost_cvar90'):.0f}",
            f"{100 * self.mean('over_limit_share'):.0f} %",
            self._normalised("return_ratio"),
            self._normalised("violation"),
            "-" if there is None else f"{there.episode_return:.1f} / {there.episode_cost:.1f}",
        ]

    def spread(self, name: str) -> str:
        """Return the mean over seeds, and their standard deviation if there are several."""
        values = [policy[name] for policy in self.judged]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{spread}"

    def _normalised(self, name: str) -> str:
        values = [scores_of.get(name) for scores_of in self.normalised]
        known = [value for value in values if value is not None]
        return f"{statistics.mean(known):.2f}" if known else "-"
