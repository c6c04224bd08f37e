"""The tables of an evaluation, on terminals of any width (host)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from mjx_safety.agents.evaluate import CVAR_TAILS, QUANTILES
from mjx_safety.runs import scores
from mjx_safety.runs.evaluation import Result


def show_run(console: Console, result: Result) -> None:
    """Print one run: its policies beside its training and published numbers, and the training cost."""
    for table in run_tables(result, console.width):
        console.print(table)
    facts = result["training"]
    if facts is None:
        return
    table = Table(title=f"Training: {facts['env_steps']:,.0f} steps in {_minutes(facts['seconds'])}", show_header=False)
    for name, text in _training_texts(facts).items():
        table.add_row(name, text)
    console.print(table)


def run_tables(result: Result, width: int) -> list[Table]:
    """Build the tables. Rows are measures. Columns are policies, the end of the training, and published numbers.

    width: characters. Columns that do not fit side by side go into further tables.
    """
    title = (
        f"{_origin(result)}: {result['num_episodes']} episodes per policy on {result['layouts']} layouts, "
        f"{result['physics']}"
    )
    omnisafe, ppo = (result["references"][name] for name in ("omnisafe", "safety_gym_ppo"))
    policies = result["policies"]
    columns: dict[str, dict[str, str]] = {
        "its action" if policy == "function" else f"{policy} action": _policy_texts(
            summary, (result["normalised"] or {}).get(policy), result
        )
        for policy, summary in policies.items()
    }
    if result["training"]:
        columns["training, last tenth"] = _last_tenth_texts(result)
    if omnisafe:
        columns[f"OmniSafe {omnisafe['name']}"] = {
            name: f"{omnisafe[f'episode_{name}']:g} ± {omnisafe[f'episode_{name}_std']:g}"
            for name in ("return", "cost")
        }
    if ppo:
        columns["Safety Gym PPO"] = {name: f"{ppo[f'episode_{name}']:g}" for name in ("return", "cost")}
        columns["Safety Gym PPO"] |= {"cost per step": f"{ppo['cost_rate']:g}"}
    rows = next(iter(columns.values()))
    tables = []
    for part in _side_by_side(list(columns), width - 40, 20):
        tables.append(Table(title=title if not tables else None))
        tables[-1].add_column("", no_wrap=True)
        for column in part:
            tables[-1].add_column(column, justify="right")
        for row in rows:
            texts = [columns[column].get(row, "") for column in part]
            if any(texts):
                tables[-1].add_row(row, *texts)
    return tables


def _origin(result: Result) -> str:
    """Algorithm, environment and training in a few words."""
    of_training = "" if result["seed"] is None else f", seed {result['seed']}, after {result['env_steps']:,} steps"
    return f"{result['algo']} on {result['env']}{of_training}"


def _side_by_side(columns: Sequence[str], room: int, each: int) -> list[Sequence[str]]:
    """Divide columns among tables that fit. room: characters for all columns; each: for one."""
    fit = max(room // each, 1)
    return [columns[start : start + fit] for start in range(0, len(columns), fit)]


def _policy_texts(summary: Result, normalised: Result | None, result: Result) -> dict[str, str]:
    """The column of one policy."""
    s = summary
    over, low, high = (100.0 * s[f"over_limit_share{end}"] for end in ("", "_low", "_high"))
    texts = {
        "return": f"{s['episode_return_mean']:.2f} ± {s['episode_return_std']:.2f}",
        "cost": f"{s['episode_cost_mean']:.1f} ± {s['episode_cost_std']:.1f}",
        "  its mean, 95 % interval": f"± {_number(s['episode_cost_ci95'], '.2f')}",
        "  50 / 90 / 99 % of episodes below": " / ".join(f"{s[f'episode_cost_q{q}']:.0f}" for q in QUANTILES),
        "  mean of the worst 10 / 1 %": " / ".join(f"{s[f'episode_cost_cvar{100 - t}']:.0f}" for t in CVAR_TAILS),
        **_over("episodes over", result["cost_limit"], f"{over:.1f} % ({low:.0f} to {high:.0f})"),
        "episodes without cost": f"{100 * s['cost_free_share']:.1f} %",
        "longest run of costly steps": f"{s['longest_cost_run_mean']:.1f}",
        "cost per step": f"{s['cost_rate']:.4f}",
        "goals": f"{s['episode_goals_mean']:.2f} ± {s['episode_goals_std']:.2f}",
        "length (steps)": f"{s['episode_length_mean']:.0f}",
    }
    for name in (key.removeprefix("cost_steps_").removesuffix("_mean") for key in s if key.startswith("cost_steps_")):
        texts[f"{name}: costly steps"] = f"{s[f'cost_steps_{name}_mean']:.1f}"
        texts[f"{name}: raw cost"] = f"{s[f'cost_{name}_mean']:.3g}"
        if name in result["cost_limits"]:
            share = f"{100 * s[f'over_limit_share_{name}']:.1f} %"
            texts |= _over(f"{name}: over", result["cost_limits"][name], share)
    if normalised:
        texts["return / PPO's"] = f"{normalised['return_ratio']:.3f}"
        texts["violation / PPO's"] = f"{normalised['violation']:.3f}"
        texts["cost per step / PPO's"] = ""  # belongs to the training's column
    return texts


def _over(name: str, limit: float | None, share: str) -> dict[str, str]:
    """The row of the share of episodes over a limit. None: infinite."""
    return {f"{name} the limit": scores.limit_text(limit)} if limit is None else {f"{name} {limit:g}": share}


def _last_tenth_texts(result: Result) -> dict[str, str]:
    """The column of the training."""
    facts, normalised = result["training"], result["normalised"]
    texts = {"return": _number(facts["last_tenth_return"], ".2f"), "cost": _number(facts["last_tenth_cost"], ".1f")}
    texts["cost per step"] = f"{facts['cost_rate']:.4f} (all)"
    if normalised:
        ratio = next(iter(normalised.values()))["cost_rate_ratio"]
        texts["cost per step / PPO's"] = _number(ratio, ".3f")
    return texts


def _training_texts(facts: Result) -> dict[str, str]:
    def when(kind: str) -> str:
        steps, seconds = facts[f"{kind}_steps"], facts[f"{kind}_seconds"]
        return "never" if steps is None else f"from {steps:,.0f} steps on ({_minutes(seconds)})"

    return {
        "cost per step": f"{facts['cost_rate']:.4f}",
        "cost of all steps": f"{facts['total_cost']:,.0f}",
        "within the limit for good": when("feasible"),
        "within the limit for the first time": when("first_feasible").replace(" on", ""),
        "after the first fifth, iterations over the limit": f"{100 * facts['over_limit_share']:.1f} %",
        "  worst cost beyond the limit": _number(facts["worst_violation"], ".1f"),
        "  times it crossed the limit": f"{facts['crossings']:.0f}",
    }


def show_runs(console: Console, groups: Sequence[Result], results: Sequence[Result], policy: str, subsets: Any) -> None:
    """Print several runs, one row each, and the mean over seeds of each setting."""
    title = f"{results[0]['num_episodes']} episodes of each run, {policy} action, {results[0]['physics']}"
    headings = (
        "steps",
        "return",
        "cost",
        "worst 10 %",
        "over limit",
        "goals",
        "cost per step, training",
        "in limit from",
    )
    ratios = ("return / PPO's", "violation / PPO's", "cost per step / PPO's")
    if any(result["normalised"] for result in results):
        headings += ratios
    for part in _side_by_side(headings, console.width - 34, 13):
        first = headings.index(part[0])
        table = Table(title=title if first == 0 else None)
        table.add_column("", no_wrap=True)
        for heading in part:
            table.add_column(heading, justify="right")
        room = max(34, console.width - 16 * len(part))
        _add_runs(table, groups, results, policy, slice(first, first + len(part)), room)
        console.print(table)
    for label, means in subsets.items():
        for line in scores.describe_subsets(label, means):
            console.print(line, highlight=False, soft_wrap=True)


def _add_runs(
    table: Table, groups: Sequence[Result], results: Sequence[Result], policy: str, part: slice, room: int
) -> None:
    """Add the rows. part: slice of the cells; room: characters of a line that names a group."""
    by_run = {result["run"]: result for result in results}
    for group in groups:
        extra = f", {group['label']}" if group["label"] else ""
        table.add_section()
        heading = f"{group['algo']} on {group['env']}{extra}"
        table.add_row(textwrap.fill(heading, room, subsequent_indent="  "), style="bold")
        for run in (*group["runs"], *group["diverged"]):
            lost = ", diverged" if run in group["diverged"] else ""
            table.add_row(f"  seed {by_run[run]['seed']}{lost}", *_cells(by_run[run], policy)[part])
        if group["num_seeds"] > 1:
            table.add_row(f"  {group['num_seeds']} seeds, ± std", *_cells(group["statistics"], policy)[part])


def _cells(result: Result, policy: str) -> list[str]:
    """The texts of a row, for one run or for statistics over seeds."""
    summary, facts = result["policies"][policy], result["training"] or {}
    normalised = (result["normalised"] or {}).get(policy) or {}
    return [
        _number(result["env_steps"], ",.0f"),
        _number(summary["episode_return_mean"], ".2f"),
        _number(summary["episode_cost_mean"], ".1f"),
        _number(summary["episode_cost_cvar90"], ".1f"),
        _number(summary["over_limit_share"], ".0%"),
        _number(summary["episode_goals_mean"], ".2f"),
        _number(facts.get("cost_rate"), ".4f"),
        "never" if facts and facts["feasible_steps"] is None else _number(facts.get("feasible_steps"), ",.0f"),
        *(_number(value, ".2f") for value in normalised.values()),
    ]


def gap_table(result: Result) -> Table:
    """The same episodes on the training's engine and on another engine."""
    gap = result["sim_to_sim"]
    table = Table(
        title=f"{result['algo']} on {result['env']}, seed {result['seed']}: from engine to engine, same layouts"
    )
    for heading in ("", gap["first"], gap["second"], "difference, 95 % interval"):
        table.add_column(heading, justify="right" if heading else "left")
    for policy, differences in gap["second_minus_first"].items():
        for name, difference in differences.items():
            key, form = (name, ".1%") if name == "over_limit_share" else (f"{name}_mean", ".2f")
            ends = (gap["policies_on_first"][policy][key], result["policies"][policy][key])
            change = f"{difference['mean']:+{form}} ± {_number(difference['ci95'], form)}"
            table.add_row(f"{policy} action: {name.replace('_', ' ')}", *(f"{end:{form}}" for end in ends), change)
    return table


def _number(value: Any, form: str) -> str:
    """Format a number, or mean ± standard deviation; - for none."""
    if isinstance(value, dict):
        spread = "" if value["std"] is None else f" ± {value['std']:{form}}"
        return f"{value['mean']:{form}}{spread}"
    return "-" if value is None else f"{value:{form}}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
