"""Tables of the algorithms' pages: settings, and results of trainings beside published numbers."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comments import field_comments
from tabular import number, table

from mjx_safety.agents import ALGORITHMS, AlgorithmChoice
from mjx_safety.runs import loading, policy_files, scores, training_options

ALGORITHM_PAGES = Path(__file__).resolve().parent / "algorithms"
RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "learning"
CAMPAIGN = RESULTS.parent / "campaign"  # trained with the defaults by benchmarks/campaign.py
OTHER = " (other settings)"  # code and settings of the file, not the present defaults
MANY = 2  # curves that a page shows; the rest is linked


def value_text(value: Any) -> str:
    """Return a setting as a user types it after its flag."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return number(value) if isinstance(value, float) else str(value)


def settings(algo: str, part: str) -> str:
    """Return the settings of an algorithm that are flags: its own, those of its limit, or the shared ones."""
    default = getattr(training_options.default_options(algo), part)
    library, comments, rows = type(default)(), field_comments(type(default)), []
    for field in dataclasses.fields(default):
        if not comments.get(field.name):
            raise SystemExit(f"docs/generate.py: {type(default).__name__}.{field.name} has no comment beside it")
        values = [value_text(getattr(config, field.name)) for config in (library, default)]
        flag = f"`--{field.name.replace('_', '-')}`"
        rows.append([flag, f"`{values[0]}`", "" if values[0] == values[1] else f"`{values[1]}`", comments[field.name]])
    if not rows:
        return "It has none."
    return without_empty_columns(["Flag", "Default", "Command line", "Meaning"], rows)


def without_empty_columns(head: list[str], rows: list[list[str]]) -> str:
    """Return a table without its empty columns."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    return table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])


def run_flags() -> str:
    """Return the flags of a training that do not depend on the algorithm."""
    rows = []
    for name, text in field_comments(training_options.RunFlags).items():
        flag = f"--{name.replace('_', '-')}"
        default = getattr(training_options.RunFlags(), name)
        shown = "" if default in (None, (), "") else f"`{flag_value(default)}`"
        rows.append([f"`{flag}`", shown, text.replace("<", "&lt;")])
    return table(["Flag", "Default", "Meaning"], rows)


def flag_value(value: Any) -> str:
    """Return a default as the command line shows it."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value_text(value)


# -- results of trainings --------------------------------------------------------------------------------------------


OUTCOME = ("Result", "Environment", "Engine", "Limit", "End of training", "Mean action", "OmniSafe")
SEED = re.compile(r"-seed(\d+)$")
TYPE = re.compile(r"^<!-- type: (.+) -->$", re.MULTILINE)  # in an algorithm's page: how it handles the cost


@functools.cache
def results() -> dict[str, dict[str, Any]]:
    """Return the files that hold one training each, by name."""
    paths = {path.stem: path for path in sorted(CAMPAIGN.glob("*.json"))}
    redone = {SEED.sub("", name) for name in paths}
    paths |= {path.stem: path for path in sorted(RESULTS.glob("*.json")) if SEED.sub("", path.stem) not in redone}
    files = {name: json.loads(path.read_text()) | {"folder": path.parent.name} for name, path in paths.items()}
    return {name: file for name, file in files.items() if "run" in file and "summary" in file}


def by_seed(mine: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Group the names of results that differ only in the seed, by their shared name."""
    groups: dict[str, list[str]] = {}
    for name in mine:
        groups.setdefault(SEED.sub("", name), []).append(name)
    return groups


def outcome(shared: str, names: list[str], root: str = "../../") -> list[str]:
    """Return a row: training, length, outcome, published numbers. root: relative path of the top folder."""
    trained = [results()[name] for name in names]
    run = trained[0]["run"]
    steps = f"{trained[0]['summary']['env_steps']:.2g}".replace("e+0", "e")
    last = [result["summary"] for result in trained]
    judged = [policy for policy in map(mean_action, trained) if policy]
    there = scores.published(run["algo"], run["env"])
    published = "-"
    if there is not None:
        pairs = ((there.episode_return, there.episode_return_std), (there.episode_cost, there.episode_cost_std))
        published = " / ".join(f"{value:.1f} ± {spread:.1f}" for value, spread in pairs)
    return [
        f"{shared}{OTHER if trained[0]['folder'] == RESULTS.name else ''} "
        + ", ".join(link(name, root) for name in names),
        run["env"],
        f"{run['physics']}, {steps} steps",
        "-" if not ALGORITHMS[run["algo"]].has_limit else number(run["cost_limit"]),
        f"{over_seeds(last, 'last_tenth_episode_return')} / {over_seeds(last, 'last_tenth_episode_cost')}",
        f"{over_seeds(judged, 'episode_return_mean')} / {over_seeds(judged, 'episode_cost_mean')}" if judged else "-",
        published,
    ]


def link(name: str, root: str) -> str:
    """Return a link to a result, named by its seed."""
    seed, folder = SEED.search(name), results()[name]["folder"]
    return f"[{f'seed {seed[1]}' if seed else 'result'}]({root}benchmarks/results/{folder}/{name}.json)"


def over_seeds(values: list[dict[str, float]], name: str) -> str:
    """Return the mean, and the standard deviation of several values."""
    numbers = [value[name] for value in values]
    spread = f" ± {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.1f}{spread}"


def mean_action(result: dict[str, Any]) -> dict[str, float] | None:
    """Return the evaluation by the mean action."""
    judged = result.get("evaluation") or {}
    return judged.get("policies", {}).get("mean") or (judged if judged.get("policy") == "mean" else None)


def reached(*algos: str) -> str:
    """Return the results of some algorithms as a table, and the curves of the first ones."""
    mine = {name: result for name, result in results().items() if result["run"]["algo"] in algos}
    if not mine:
        return "There are no training results yet." + published_only(*algos)
    parts = [table(OUTCOME, (outcome(*group) for group in by_seed(mine).items()))]
    parts += list(curves(mine))
    return "\n\n".join(parts)


def learning() -> str:
    """Return the results of all algorithms as a table, for results.md."""
    return table(OUTCOME, (outcome(*group, root="../") for group in by_seed(results()).items()))


SPREADS = {  # name in spread.json -> name on the page
    "second_half_estimate_std": "smoothed estimate, second half",
    "second_half_estimate_std_about_its_line": "the same about its straight line",
    "second_half_cost_std": "ended episodes, second half",
    "last_tenth_cost_std_over_seeds": "over seeds, last tenth",
    "mean_action_cost_std_over_seeds": "over seeds, mean action",
}


def spread() -> str:
    """Return the standard deviations of the cost under each algorithm, from spread.json."""
    algos = json.loads((RESULTS.parent / "spread.json").read_text())["algos"]
    rows = []
    for name, what in SPREADS.items():
        values = [of_one[name] if isinstance(of_one[name], list) else [of_one[name]] for of_one in algos.values()]
        rows.append([what, *(", ".join(f"{value:.1f}" for value in of_one) for of_one in values)])
    return table(["Standard deviation of the cost", *(f"`{algo}`" for algo in algos)], rows)


def randomized() -> str:
    """Return the outcome of one policy in worlds with other dynamics, from randomize.json."""
    result = json.loads((RESULTS.parent / "randomize.json").read_text())
    rows = [
        [f"`--randomize {words}`", *(with_interval(row, what) for what in ("return", "cost"))]
        for words, row in result["results"].items()
    ]
    return table([f"{result['env'].removeprefix('Safety').removesuffix('-v0')}, limit 25", "Return", "Cost"], rows)


def with_interval(row: dict[str, float], what: str) -> str:
    """Return the mean over episodes, and half its 95 % interval. The file has the standard deviation of all N."""
    half = 1.96 * row[f"episode_{what}_std"] / math.sqrt(row["num_episodes"] - 1)
    return f"{row[f'episode_{what}_mean']:.1f} ± {half:.1f}"


def scaling() -> str:
    """Return how PPO learns with different numbers of worlds, from scaling.json."""
    path = RESULTS.parent / "scaling.json"
    if not path.exists():
        return "Not measured yet: `python benchmarks/scaling.py` does it."
    rows = sorted(json.loads(path.read_text())["rows"], key=lambda row: row["num_envs"])
    body = []
    for row in rows:
        outcomes = [{"return": gain, "cost": cost} for gain, cost in zip(row["returns"], row["costs"], strict=True)]
        sizes = [number(row[name]) for name in ("num_envs", "unroll_length", "num_minibatches")]
        body.append([*sizes, str(len(outcomes)), *(over_seeds(outcomes, what) for what in ("return", "cost"))])
    return table(["Worlds", "Steps per iteration", "Minibatches", "Seeds", "Return", "Cost"], body)


def curves(mine: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Return pictures of the longest trainings."""
    longest = sorted(mine, key=lambda name: (mine[name]["folder"], -mine[name]["summary"]["env_steps"]))
    for name in longest[:MANY]:
        folder = mine[name]["folder"]
        if (RESULTS.parent / folder / f"{name}.png").is_file():
            yield f"![Return and cost during the training {name}](../../benchmarks/results/{folder}/{name}.png)"


def published_only(*algos: str) -> str:
    """Return published numbers for PointGoal1, if we have no result."""
    rows = []
    for algo in algos:
        there = scores.published(algo, "SafetyPointGoal1-v0")
        if there is not None:
            gain = f"{there.episode_return:.1f} ± {there.episode_return_std:.1f}"
            cost = f"{there.episode_cost:.1f} ± {there.episode_cost_std:.1f}"
            rows.append(f" OmniSafe reports for {there.name} on PointGoal1 a return of {gain} and a cost of {cost}.")
    return "".join(dict.fromkeys(rows))


def title_of(page: str) -> str:
    """Return the heading of an algorithm's page."""
    return page_text(page).splitlines()[0].removeprefix("# ")


def page_text(page: str) -> str:
    """Return an algorithm's page. Raises SystemExit if there is none."""
    path = ALGORITHM_PAGES / f"{page}.md"
    if not path.is_file():
        raise SystemExit(f"docs/algorithms/{page}.md is missing: the catalogue names it as the page of an algorithm")
    return path.read_text()


def catalogue() -> str:
    """Return one line for each name that `--algo` takes."""
    rows = []
    for name, choice in ALGORITHMS.items():
        rows.append([f"`{name}`", choice.summary, f"[{title_of(choice.page)}]({choice.page}.md)"])
    return table(["`--algo`", "Algorithm", "Page"], rows)


COMPARED = "SafetyPointGoal1-v0"


def which() -> str:
    """Return one line for each algorithm: its type, what it can limit, and what it reached on PointGoal1."""
    rows = []
    for name, choice in ALGORITHMS.items():
        rows.append(
            [
                f"[`{name}`]({choice.page}.md)",
                type_of(name, choice),
                "off-policy" if choice.is_off_policy else "on-policy",
                "several, by source" if takes_sources(choice) else "one" if choice.has_limit else "-",
                "yes" if choice.limits_risk else "-",
                *compared(name),
            ]
        )
    return table(["`--algo`", "Type", "Data", "Limits", "CVaR", "PointGoal1: return / cost", "Trainings"], rows)


def type_of(name: str, choice: AlgorithmChoice) -> str:
    """Return how an algorithm handles the cost. Raises SystemExit if its page does not say it."""
    if not choice.has_limit:
        return "no limit"
    if name.endswith("-pid"):
        return "Lagrangian, PID"
    found = TYPE.search(page_text(choice.page))
    if found is None:
        raise SystemExit(f"docs/algorithms/{choice.page}.md lacks the type of {name}: add a line <!-- type: ... -->")
    return found[1]


def takes_sources(choice: AlgorithmChoice) -> bool:
    """Whether the algorithm takes a limit for each of several sources of cost."""
    if choice.has_budget or not choice.has_limit:
        return False
    try:
        choice.build(choice.config(), choice.constraint(), {"hazards": 1.0, "vases_contact": 1.0})
    except ValueError:
        return False
    return True


def compared(algo: str) -> list[str]:
    """Return what an algorithm reached on PointGoal1 by the mean action, and its seeds and steps."""
    found = {name: file for name, file in results().items() if is_comparable(file, algo)}
    groups = sorted(by_seed(found).values(), key=lambda names: -found[names[0]]["summary"]["env_steps"])
    of_campaign = [names for names in groups if is_campaign(found[names[0]])]
    if not groups:
        return ["-", "-"]
    files = [found[name] for name in (of_campaign or groups)[0]]
    outcomes = [judged for judged in map(mean_action, files) if judged]
    pair = " / ".join(over_seeds(outcomes, f"episode_{what}_mean") for what in ("return", "cost"))
    steps = f"{files[0]['summary']['env_steps']:.2g}".replace("e+0", "e")
    seeds = "1 seed" if len(files) == 1 else f"{len(files)} seeds"
    return [pair, f"{seeds}, {steps} steps{'' if is_campaign(files[0]) else OTHER}"]


def is_comparable(file: dict[str, Any], algo: str) -> bool:
    """Whether a result is an evaluated training of an algorithm on PointGoal1, on the C engine."""
    run = file["run"]
    return (run["algo"], run["env"], run["physics"]) == (algo, COMPARED, "mujoco") and mean_action(file) is not None


def shipped() -> str:
    """Return the policies of the package, and the campaign's trainings of which it has none."""
    rows, known = [], set()
    for path in sorted(loading.SHIPPED.glob("*/*.npz")):
        about = policy_files.read_npz(path)
        known.add((path.parent.name, path.stem))
        origin = about.origin
        judged, run = origin["evaluation"], origin["config"]["run"]
        outcome = [f"{judged[f'episode_{what}_mean']:.1f}" for what in ("return", "cost")]
        rows.append(
            [
                f"`{path.parent.name}/{path.stem}`",
                f"{run['seed']} of {origin['num_seeds']}",
                f"{origin['env_steps']:,}",
                *outcome,
                f"{100 * judged['over_limit_share']:.0f} %",
            ]
        )
    trained = sorted({(file["run"]["env"], file["run"]["algo"]) for file in results().values() if is_campaign(file)})
    missing = ", ".join(f"`{env}/{algo}`" for env, algo in trained if (env, algo) not in known)
    head = ["Name", "Seed", "Training steps", "Return", "Cost", "Episodes over the limit"]
    return table(head, rows) + (
        f"\n\nThese trainings of the campaign have no shipped policy: {missing}." if missing else ""
    )


def is_campaign(file: dict[str, Any]) -> bool:
    """Whether benchmarks/campaign.py made a result."""
    return file["folder"] == CAMPAIGN.name
