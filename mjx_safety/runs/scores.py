"""Scores of a run beside published ones: Safety Gym's normalised scores, OmniSafe's table, training cost (host)."""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mjx_safety.viz.plots import Row, last_tenth

EPSILON = 1e-6  # smallest difference between PPO's cost and the limit, as in Safety Gym
MAX_DIFFERENCES = 3  # settings that a label names
MANY = 6  # largest number of missing tasks that are named
SETTLED = 0.2  # violations count after this share of training

_SG18 = tuple(
    f"{robot}{task}{level}"
    for robot in ("Point", "Car", "Doggo")
    for task in ("Goal", "Button", "Push")
    for level in "12"
)
SUBSETS: dict[str, tuple[str, ...]] = {  # subsets of Safety Gym, named as there (bench_utils.py)
    "SG6": ("PointGoal1", "PointGoal2", "PointButton1", "PointPush1", "CarGoal1", "DoggoGoal1"),
    "SG18": _SG18,
    "SG1": tuple(task for task in _SG18 if task.endswith("1")),
    "SG2": tuple(task for task in _SG18 if task.endswith("2")),
    "SGPoint": tuple(task for task in _SG18 if task.startswith("Point")),
    "SGCar": tuple(task for task in _SG18 if task.startswith("Car")),
    "SGDoggo": tuple(task for task in _SG18 if task.startswith("Doggo")),
}


class Reference(NamedTuple):
    """The results of Safety Gym's PPO, which has no limit."""

    episode_return: float
    episode_cost: float
    cost_rate: float  # total cost / environment steps, over the whole training


class Published(NamedTuple):
    """OmniSafe's results of an algorithm: means and standard deviations."""

    name: str  # of the algorithm in OmniSafe
    episode_return: float
    episode_return_std: float
    episode_cost: float
    episode_cost_std: float


class NormalisedScores(NamedTuple):
    """Safety Gym's three scores (1). High, low and low are good. Its PPO has 1, 1, 1. None: unknown."""

    return_ratio: float | None  # return / PPO's
    violation: float | None  # cost beyond the limit / PPO's cost beyond the limit
    cost_rate_ratio: float | None  # cost rate of the training / PPO's


class SubsetMean(NamedTuple):
    """Mean of normalised scores over the tasks of a subset."""

    scores: NormalisedScores | None  # None unless all its tasks are present
    missing: tuple[str, ...]


@functools.cache
def published_scores() -> dict[str, Any]:
    """Tables of runs/published_scores.json, with their sources and caveats."""
    file = importlib.resources.files("mjx_safety") / "runs" / "published_scores.json"
    return json.loads(file.read_text())


def task_of(env_id: str) -> str | None:
    """Name of a benchmark task without prefix and version: `SafetyPointGoal1-v0`, `Safexp-PointGoal1-v0`.

    Papers report version 1 of the Velocity family.
    """
    navigation, velocity = r"(?:Safety|Safexp-)((?:Point|Car|Doggo)[A-Z][a-z]+\d)-v0", r"Safety(\w+Velocity)-v1"
    match = re.fullmatch(navigation, env_id) or re.fullmatch(velocity, env_id)
    return match[1] if match else None


def reference(env_id: str) -> Reference | None:
    """Score of Safety Gym's PPO; None for an environment without one."""
    scores = published_scores()["safety_gym_ppo"]["scores"].get(task_of(env_id))
    return None if scores is None else Reference(*scores)


def published(algo: str, env_id: str) -> Published | None:
    """OmniSafe's score of our algorithm `algo`; None if it reports none."""
    table = published_scores()["omnisafe"]
    name = table["names"].get(algo, "")
    scores = table["scores"].get(name, {}).get(task_of(env_id))
    return None if scores is None else Published(name, *scores)


def keeps_limit(judged: Sequence[Mapping[str, float]], cost_limit: float) -> bool:
    """Return whether the 95 % interval of the mean cost reaches down to the limit. judged: summaries, one per seed."""
    mean = float(np.mean([policy["episode_cost_mean"] for policy in judged]))
    half_width = math.hypot(*(policy["episode_cost_ci95"] for policy in judged)) / len(judged)
    return mean - half_width <= cost_limit


def normalise(
    env_id: str, episode_return: float, episode_cost: float, cost_rate: float | None, cost_limit: float
) -> NormalisedScores | None:
    """Divide by the results of Safety Gym's PPO. None for an environment without a reference."""
    ppo = reference(env_id)
    if ppo is None:
        return None
    beyond = max(0.0, episode_cost - cost_limit) / max(EPSILON, ppo.episode_cost - cost_limit)
    ratio = None if cost_rate is None else cost_rate / ppo.cost_rate
    return NormalisedScores(episode_return / ppo.episode_return, beyond, ratio)


def normalise_all(
    env_id: str, summaries: Mapping[str, Mapping[str, float]], facts: Mapping[str, Any] | None, cost_limit: float
) -> dict[str, dict[str, float | None]] | None:
    """Normalise the results of each policy, and the cost rate of the training. None without a reference.

    summaries: of `agents.summarise`, by policy; facts: of `training_facts`.
    """
    rate = facts["cost_rate"] if facts else None
    normalised = {}
    for policy, summary in summaries.items():
        found = normalise(env_id, summary["episode_return_mean"], summary["episode_cost_mean"], rate, cost_limit)
        if found is None:
            return None
        normalised[policy] = found._asdict()
    return normalised


def references(algo: str, env_id: str) -> dict[str, dict[str, Any] | None]:
    """Published numbers for the same task, with source and caveat; None if there are none."""
    found = {"safety_gym_ppo": reference(env_id), "omnisafe": published(algo, env_id)}
    tables = published_scores()
    return {
        name: None if row is None else row._asdict() | {key: tables[name][key] for key in ("source", "caveat")}
        for name, row in found.items()
    }


def subset_means(scores: Mapping[str, Sequence[NormalisedScores]]) -> dict[str, SubsetMean]:
    """Average over seeds, then over the tasks of each subset. scores: of all seeds, by task (`PointGoal1`)."""
    means = {}
    for subset, tasks in SUBSETS.items():
        missing = tuple(task for task in tasks if not scores.get(task))
        found = None if missing else mean_scores([mean_scores(scores[task]) for task in tasks])
        means[subset] = SubsetMean(found, missing)
    return means


def mean_scores(scores: Sequence[NormalisedScores]) -> NormalisedScores:
    """Mean of each score; None if one is unknown."""
    columns = [[score[i] for score in scores] for i in range(len(NormalisedScores._fields))]
    known = [[value for value in column if value is not None] for column in columns]
    return NormalisedScores(*(float(np.mean(k)) if len(k) == len(scores) else None for k in known))


def training_facts(
    rows: Sequence[Row], cost_limit: float, by_violation: bool = False
) -> dict[str, float | None] | None:
    """The cost of a training, and when it met the limit. rows: of metrics.jsonl. None without rows.

    The estimate of the episode cost is the mean over episodes that ended in an iteration. Before the first one, it is
    the cost rate times the episode length. by_violation: the limits are not on the mean of the whole cost, but on each
    source or on the CVaR. The metric `violation` then counts, the worst of the sources, where it is known.
    - cost_rate: total cost / environment steps; total_cost: over all steps of all worlds.
    - last_tenth_return, last_tenth_cost: mean over the iterations of the last tenth.
    - feasible_steps, feasible_seconds: start of the final period without an estimate over the limit; None if the last
      estimate is over. first_feasible_...: the first iteration that is not over.
    - after the first fifth: share of iterations over the limit, the worst violation (estimate - limit), and how often
      the estimate crosses the limit.
    """
    if not rows:
        return None
    steps, seconds = (np.array([row[name] or 0.0 for row in rows]) for name in ("env_steps", "seconds"))
    rates = np.array([row["cost_rate"] or 0.0 for row in rows])
    total = float(rates @ np.diff(steps, prepend=0.0))
    violations = np.array([_violation(row, cost_limit, by_violation) for row in rows])
    over = ~(violations <= 0.0)  # an unknown value counts as over the limit
    lasting = int(np.flatnonzero(over)[-1]) + 1 if over.any() else 0
    first = int(np.argmin(over)) if not over.all() else len(rows)
    late = steps > SETTLED * steps[-1]
    return {
        "env_steps": float(steps[-1]),
        "seconds": float(seconds[-1]),
        "cost_rate": total / float(steps[-1]),
        "total_cost": total,
        "last_tenth_return": last_tenth(rows, "episode_return"),
        "last_tenth_cost": last_tenth(rows, "episode_cost"),
        "feasible_steps": float(steps[lasting]) if lasting < len(rows) else None,
        "feasible_seconds": float(seconds[lasting]) if lasting < len(rows) else None,
        "first_feasible_steps": float(steps[first]) if first < len(rows) else None,
        "first_feasible_seconds": float(seconds[first]) if first < len(rows) else None,
        "over_limit_share": float(over[late].mean()),
        "worst_violation": float(violations[late].max()),
        "crossings": float(np.count_nonzero(np.diff(over[late]))),
    }


def _violation(row: Row, cost_limit: float, by_violation: bool) -> float:
    """Estimated episode cost minus limit; nan if the row has no estimate."""
    if by_violation:
        value, cost_limit = row.get("violation") if row.get("limit_acts", 1.0) else None, 0.0
    else:
        value = row.get("episode_cost")
        value = row.get("cost_estimate") if value is None else value
    return float("nan") if value is None else value - cost_limit


def group_results(results: Sequence[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds of each setting. results: (settings as text, result).

    Runs that have diverged are named, and are in no mean.
    """
    groups = []
    for settings in dict.fromkeys(settings for settings, _ in results):
        members = [result for other, result in results if other == settings]
        kept = [member for member in members if not member.get("diverged")]
        numbers = ("env_steps", "policies", "training", "normalised", "sim_to_sim")
        rows = [{name: member[name] for name in numbers if name in member} for member in kept]
        groups.append(
            {
                "env": members[0]["env"],
                "algo": members[0]["algo"],
                "cost_limit": members[0]["cost_limit"],
                "num_seeds": len(kept),
                "seeds": [member["seed"] for member in kept],
                "runs": [member["run"] for member in kept],
                "diverged": [member["run"] for member in members if member.get("diverged")],
                "statistics": over_seeds(rows) if rows else None,
            }
        )
    labels = _differences([json.loads(settings) for settings in dict.fromkeys(settings for settings, _ in results)])
    return [
        {**group, "differs_in": ", ".join(label), "label": shorten(label)}
        for group, label in zip(groups, labels, strict=True)
    ]


def shorten(differences: Sequence[str]) -> str:
    """Return the first settings of a label, and ... for more."""
    more = ["..."] if len(differences) > MAX_DIFFERENCES else []
    return ", ".join([*differences[:MAX_DIFFERENCES], *more])


def limit_text(limit: float | None) -> str:
    """Return a cost limit as its number, or as "no limit". None: infinite, as JSON has it."""
    return "no limit" if limit is None or math.isinf(limit) else f"{limit:g}"


def limit_phrase(limit: float | None) -> str:
    """Return a cost limit as "limit 25" or "no limit". None: infinite, as JSON has it."""
    return "no limit" if limit is None or math.isinf(limit) else f"limit {limit:g}"


def over_seeds(values: Sequence[Any]) -> Any:
    """Mean and sample standard deviation of trees of numbers; None if one of them has no value."""
    if any(value is None for value in values):
        return None
    if isinstance(values[0], dict):
        return {name: over_seeds([value[name] for value in values]) for name in values[0]}
    if isinstance(values[0], str):
        return values[0]
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None}


def subset_scores(groups: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]], policy: str) -> dict[str, Any]:
    """SG6 and the other subsets per algorithm and limit: means, or the missing tasks.

    A task with several settings is ambiguous, and an algorithm with such a task has no scores.
    """
    by_run = {result["run"]: result for result in results}
    found: dict[str, Any] = {}
    for label in dict.fromkeys(_algorithm(group) for group in groups):
        mine = [group for group in groups if _algorithm(group) == label and reference(group["env"])]
        mine = [group for group in mine if group["runs"]]
        tasks = [task_of(group["env"]) or "" for group in mine]
        if not mine:
            continue
        ambiguous = sorted({task for task in tasks if tasks.count(task) > 1})
        if ambiguous:
            found[label] = {"ambiguous": ambiguous}
            continue
        normalised = {
            task: [NormalisedScores(**by_run[run]["normalised"][policy]) for run in group["runs"]]
            for task, group in zip(tasks, mine, strict=True)
        }
        found[label] = {
            name: {"scores": mean.scores and mean.scores._asdict(), "missing": list(mean.missing)}
            for name, mean in subset_means(normalised).items()
        }
    return found


def _algorithm(group: dict[str, Any]) -> str:
    """Return the algorithm and the limit of a group: `ppo-lag, limit 25`."""
    return f"{group['algo']}, {limit_phrase(group['cost_limit'])}"


def _differences(settings: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The settings that differ within the same algorithm and environment: `cost_limit 5`."""
    flat = [{f"{k}.{n}": v for k, part in whole.items() for n, v in part.items()} for whole in settings]
    kinds = [(whole["run.algo"], whole["run.env"]) for whole in flat]
    labels = []
    for kind, mine in zip(kinds, flat, strict=True):
        others = [whole for other, whole in zip(kinds, flat, strict=True) if other == kind]
        names = [name for name in mine if any(name in whole and whole[name] != mine[name] for whole in others)]
        labels.append([f"{name.split('.')[1]} {mine[name]}" for name in names])
    return labels


def describe_subsets(label: str, means: Mapping[str, Any]) -> list[str]:
    """Return one line per subset of `subset_scores` for one algorithm, without subsets that have no task.

    With a single task it does not list the missing ones, because the user then means no subset.
    """
    if "ambiguous" in means:
        return [f"{label}: no SG6, SG18, ...: several settings for {', '.join(means['ambiguous'])}"]
    lines, at_hand = [], {name: len(SUBSETS[name]) - len(mean["missing"]) for name, mean in means.items()}
    for name, mean in means.items():
        if mean["scores"]:
            ratios = [
                f"{kind.replace('_', ' ')} {value:.3f}" for kind, value in mean["scores"].items() if value is not None
            ]
            lines.append(f"{label}, {name}: {', '.join(ratios)}")
        elif at_hand[name] and max(at_hand.values()) > 1:
            few = len(mean["missing"]) <= MANY
            which = ", ".join(mean["missing"]) if few else f"{len(mean['missing'])} of {len(SUBSETS[name])} tasks"
            lines.append(f"{label}, {name}: lacks {which}")
    return lines


def notes(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return the notes that explain the results, once each."""
    spread = "episodes, not of seeds" if len(results) == 1 else "seeds (sample standard deviation)"
    lines = [f"± of return, cost and goals is the spread of {spread}."]
    for result in results:
        if result["trained_with"] not in (result["physics"], None):
            more = "" if "sim_to_sim" in result else f"; --physics {result['physics']} tells what that changes"
            lines.append(f"Trained with {result['trained_with']}, evaluated with {result['physics']}{more}.")
        if result.get("diverged"):
            means = "" if len(results) == 1 else ", and it is in no mean over seeds"
            lines.append(f"{result['run']} has diverged ({result['diverged']}): this is its last checkpoint{means}.")
        if result.get("randomize"):
            drawn = ", ".join(f"{name} {value}" for name, value in result["randomize"].items())
            lines.append(f"The worlds differ: {drawn}.")
        if result["episodes_end_at_the_limit"]:
            lines.append("The evaluated episodes end once their cost reaches the limit.")
        elif result["trained_in_episodes_that_end_at_the_limit"]:
            lines.append(
                f"{result['algo']} trains in episodes that end once their cost reaches the limit, and its training's "
                "returns and costs are of those; the evaluation runs whole episodes, without --end-at-limit."
            )
        if result["cost_limits"]:
            limits = ", ".join(f"{name} {limit_text(limit)}" for name, limit in result["cost_limits"].items())
            mark = limit_text(result["cost_limit"])
            lines.append(
                f"The training had limits for sources of cost, in costly steps: {limits}. It counts as within the "
                f"limit where all of them hold. It had no limit for the whole cost; {mark} only serves for comparison."
            )
        for name, title in (("omnisafe", "OmniSafe"), ("safety_gym_ppo", "Safety Gym PPO")):
            if result["references"][name]:
                lines.append(f"{title}: {result['references'][name]['caveat']}.")
    return list(dict.fromkeys(lines))
