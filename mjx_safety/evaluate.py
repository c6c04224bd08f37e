"""Evaluate trained agents on whole episodes: `python -m mjx_safety.evaluate runs/my-run`."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from rich.console import Console
from rich.table import Table

from mjx_safety import cli, runs, scores
from mjx_safety.agents import ALGORITHMS, Episodes, TrainState, checkpoint
from mjx_safety.agents.evaluate import CVAR_TAILS, QUANTILES, compare, evaluate, summarise
from mjx_safety.cli import Options, Physics, UsageError
from mjx_safety.wrappers import VecEnv, vectorize

EVALUATION = 0x6576616C  # "eval"; what the seed's key is folded with, see `evaluation_key`
NOT_SETTINGS = ("seed", "out", "resume", "compilation_cache", "num_seeds", "sweep")  # of RunFlags
WIDTH = 180  # columns of text where no terminal says how many it has

Result = dict[str, Any]  # what goes into evaluation.json
Policy = Literal["mean", "sampled"]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Judge the newest checkpoints of runs by whole episodes on fresh layouts, beside what their training cost.

    Each run's numbers are kept in its evaluation.json, or evaluation-<physics>.json for an engine other than that of
    its training. Several runs are also averaged over seeds, and over the tasks of Safety Gym's SG6, SG18, ...
    """

    run: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders that hold some."""
    episodes: int = 256
    """Episodes, one per world, all side by side."""
    physics: Physics = "auto"
    """Engine: auto takes mjx on an accelerator and mujoco on a CPU. A named one is compared with the training's."""
    policy: Literal["both", "mean", "sampled"] = "both"
    """Act by the mean of the policy, at random as in training, or once each, in the same worlds."""
    seed: int = 1000
    """Start of all random numbers; no layout of a training comes again, even with the training's seed."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON instead of tables: what evaluation.json holds or, of several runs, "runs", "groups" and "subsets"."""

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Those asked for."""
        return ("mean", "sampled") if self.policy == "both" else (self.policy,)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run as it lies on the disk."""

    path: Path
    options: Options
    engine: str  # of its training
    env_steps: int
    params: Any
    normaliser: Any
    rows: list[runs.Row]

    @property
    def settings(self) -> str:
        """All that runs share which differ in their seed only, as text."""
        config = self.options.to_config()
        config["run"] = {name: value for name, value in config["run"].items() if name not in NOT_SETTINGS}
        return json.dumps(config, sort_keys=True, default=str)


def evaluation_key(seed: int) -> jax.Array:
    """Key of all random numbers of an evaluation.

    A training splits key(seed), and what it splits off, into at most some thousands; the n-th part of a split is the
    fold with n, so no key of a training is a fold of key(seed) with a number as large as EVALUATION, and two keys are
    equal only by a chance of 2^-64. Hence even the training's own seed gives layouts that it has never seen.
    """
    return jax.random.fold_in(jax.random.key(seed), EVALUATION)


class Evaluator:
    """Compiles one program for all runs of the same settings, and both policies."""

    def __init__(self, num_episodes: int, seed: int):
        self.num_episodes, self.seed = num_episodes, seed
        self._venvs: dict[tuple[str, str], VecEnv] = {}
        self._programs: dict[tuple[str, str], Any] = {}

    def venv(self, env_id: str, engine: str) -> VecEnv:
        """Worlds for one episode each; episodes never end at a cost."""
        if (env_id, engine) not in self._venvs:
            self._venvs[env_id, engine] = vectorize(cli.build_env(env_id, engine), self.num_episodes)
        return self._venvs[env_id, engine]

    def load(self, path: Path, engine: str) -> Trained:
        """Read a run, or say in one sentence why not; compiles nothing. engine: what will judge it."""
        try:
            options = Options.from_config(runs.read_config(path))
            algorithm = options.build()
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}/config.json does not fit this version of mjx_safety: {error}") from error
        found = checkpoint.latest(path / "checkpoints")
        if found is None:
            raise UsageError(f"{path} has no checkpoint to evaluate")
        venv = self.venv(options.run.env, engine)
        like = jax.eval_shape(partial(algorithm.init, venv), jax.random.key(0))
        try:
            agent: TrainState = checkpoint.restore_agent(found, like)
        except (KeyError, OSError, ValueError) as error:
            raise UsageError(f"the checkpoint {found} cannot be read: {error}") from error
        return Trained(
            path=path,
            options=options,
            engine=cli.resolve_physics(options.run.physics),
            env_steps=int(agent.num_rollouts) * options.run.num_envs * options.train.unroll_length,
            params=agent.params,
            normaliser=agent.normaliser,
            rows=runs.read_rows(path),
        )

    def run(self, trained: Trained, engine: str, policies: Sequence[Policy]) -> dict[Policy, Episodes]:
        """Whole episodes, in the same worlds for each policy and engine."""
        name = trained.settings, engine
        if name not in self._programs:
            venv = self.venv(trained.options.run.env, engine)
            self._programs[name] = jax.jit(partial(evaluate, venv, trained.options.build()))
        key = evaluation_key(self.seed)
        agent = trained.params, trained.normaliser
        return {policy: jax.device_get(self._programs[name](*agent, key, policy == "sampled")) for policy in policies}

    def judge(self, trained: Trained, engine: str, policies: Sequence[Policy], compares: bool) -> Result:
        """Everything about one run. compares: judge it on its own engine too, and tell the differences."""
        flags = trained.options.run
        limits = cli.parse_limits(flags.cost_limits)
        venv = self.venv(flags.env, engine)
        describe = partial(summarise, cost_limit=flags.cost_limit, cost_names=venv.cost_names, cost_limits=limits)
        facts = scores.training_facts(trained.rows, flags.cost_limit, per_source=bool(limits))
        episodes = self.run(trained, engine, policies)
        summaries = {policy: describe(done) for policy, done in episodes.items()}
        config = getattr(venv.env, "config", None)
        result = {
            "run": str(trained.path),
            "env": flags.env,
            "algo": flags.algo,
            "seed": flags.seed,
            "env_steps": trained.env_steps,
            "cost_limit": flags.cost_limit,
            "cost_limits": limits,
            "trained_with": trained.engine,
            "physics": engine,
            "trained_in_episodes_that_end_at_the_limit": ALGORITHMS[flags.algo].ends_at_limit,
            "layouts": "fixed" if getattr(config, "layouts", "") == "fixed" else "fresh",
            "evaluation_seed": self.seed,
            "num_episodes": self.num_episodes,
            "policies": summaries,
            "training": facts,
            "normalised": scores.normalise_all(flags.env, summaries, facts, flags.cost_limit),
            "references": scores.references(flags.algo, flags.env),
        }
        if compares:
            own = self.run(trained, trained.engine, policies)
            gap = {policy: compare(own[policy], episodes[policy], flags.cost_limit) for policy in policies}
            result["sim_to_sim"] = {
                "first": trained.engine,
                "second": engine,
                "policies_on_first": {policy: describe(done) for policy, done in own.items()},
                "second_minus_first": gap,
            }
        return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return cli.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    flags = tyro.cli(Flags, prog="python -m mjx_safety.evaluate", args=list(argv))
    paths = _check(flags)
    engine = cli.resolve_physics(flags.physics)
    cli.set_up_jax(compilation_cache=True)
    evaluator = Evaluator(flags.episodes, flags.seed)
    trained = [evaluator.load(path, engine) for path in paths]
    machine = runs.describe_machine()
    news = Console(stderr=True)
    results = []
    for number, run in enumerate(trained, 1):
        news.print(f"Evaluating {run.path} ({number} of {len(trained)}) ...", highlight=False, soft_wrap=True)
        compares = flags.physics != "auto" and run.engine != engine
        result = _finite(evaluator.judge(run, engine, flags.policies, compares) | {"machine": machine})
        file = run.path / ("evaluation.json" if run.engine == engine else f"evaluation-{engine}.json")
        file.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
        results.append((run.settings, result))
    only = [result for _, result in results]
    groups = scores.group_results(results)
    subsets = {policy: scores.subset_scores(groups, only, policy) for policy in flags.policies}
    if flags.json:
        several = {"runs": only, "groups": groups, "subsets": subsets}
        print(json.dumps(only[0] if len(only) == 1 else several, indent=2, allow_nan=False))
        return
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    if len(only) == 1:
        show_run(console, only[0])
    else:
        for policy in flags.policies:
            show_runs(console, groups, only, policy, subsets[policy])
    for result in only:
        if "sim_to_sim" in result:
            console.print(gap_table(result))
    for note in scores.notes(only):
        console.print(note, highlight=False, soft_wrap=True)


def _check(flags: Flags) -> list[Path]:
    """Refuse wrong input. Returns the run folders, those of groups one by one."""
    if not flags.run:
        raise UsageError("no run folder is given; name one or more, such as runs/my-run")
    if flags.episodes < 1:
        raise UsageError(f"--episodes is {flags.episodes}; it must be at least 1")
    if not 0 <= flags.seed < 2**32:
        raise UsageError(f"--seed is {flags.seed}; it must be at least 0 and below 2^32")
    paths = []
    for path in flags.run:
        inside = sorted(inner for inner in path.glob("*") if runs.holds_run(inner))
        if not runs.holds_run(path) and not inside:
            raise UsageError(f"{path} is not a run folder: it has no config.json, and no folder in it has one")
        paths += [path] if runs.holds_run(path) else inside
    return list({path.resolve(): path for path in paths}.values())


def show_run(console: Console, result: Result) -> None:
    """Print one run: its policies beside its training and published numbers, and what the training cost."""
    console.print(run_table(result))
    facts = result["training"]
    if facts is None:
        return
    table = Table(title=f"Training: {facts['env_steps']:,.0f} steps in {_minutes(facts['seconds'])}", show_header=False)
    for name, text in _training_texts(facts).items():
        table.add_row(name, text)
    console.print(table)


def run_table(result: Result) -> Table:
    """Rows are measures, columns the policies, the end of the training, and published numbers."""
    table = Table(
        title=f"{result['algo']} on {result['env']}, seed {result['seed']}, after {result['env_steps']:,} steps: "
        f"{result['num_episodes']} episodes per policy on {result['layouts']} layouts, {result['physics']}"
    )
    omnisafe, ppo = (result["references"][name] for name in ("omnisafe", "safety_gym_ppo"))
    policies = result["policies"]
    columns: dict[str, dict[str, str]] = {
        f"{policy} action": _policy_texts(summary, (result["normalised"] or {}).get(policy), result)
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
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for row in next(iter(columns.values())):
        table.add_row(row, *(texts.get(row, "") for texts in columns.values()))
    return table


def _policy_texts(summary: Result, normalised: Result | None, result: Result) -> dict[str, str]:
    """One policy's column."""
    s = summary
    over, low, high = (100.0 * s[f"over_limit_share{end}"] for end in ("", "_low", "_high"))
    texts = {
        "return": f"{s['episode_return_mean']:.2f} ± {s['episode_return_std']:.2f}",
        "cost": f"{s['episode_cost_mean']:.1f} ± {s['episode_cost_std']:.1f}",
        "  its mean, 95 % interval": f"± {_number(s['episode_cost_ci95'], '.2f')}",
        "  50 / 90 / 99 % of episodes below": " / ".join(f"{s[f'episode_cost_q{q}']:.0f}" for q in QUANTILES),
        "  mean of the worst 10 / 1 %": " / ".join(f"{s[f'episode_cost_cvar{100 - t}']:.0f}" for t in CVAR_TAILS),
        f"episodes over {result['cost_limit']:g}": f"{over:.1f} % ({low:.0f} to {high:.0f})",
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
            texts[f"{name}: over {result['cost_limits'][name]:g}"] = f"{100 * s[f'over_limit_share_{name}']:.1f} %"
    if normalised:
        texts["return / PPO's"] = f"{normalised['return_ratio']:.3f}"
        texts["violation / PPO's"] = f"{normalised['violation']:.3f}"
        texts["cost per step / PPO's"] = ""  # of the training: see its column
    return texts


def _last_tenth_texts(result: Result) -> dict[str, str]:
    """The training's column."""
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
        "cost per step, in all": f"{facts['cost_rate']:.4f}, {facts['total_cost']:,.0f}",
        "within the limit for good": when("feasible"),
        "within the limit for the first time": when("first_feasible").replace(" on", ""),
        "after the first fifth, iterations over the limit": f"{100 * facts['over_limit_share']:.1f} %",
        "  worst cost beyond the limit": _number(facts["worst_violation"], ".1f"),
        "  times it crossed the limit": f"{facts['crossings']:.0f}",
    }


def show_runs(console: Console, groups: Sequence[Result], results: Sequence[Result], policy: str, subsets: Any) -> None:
    """Print several runs, one row each, and each setting's mean over its seeds."""
    by_run = {result["run"]: result for result in results}
    table = Table(title=f"{results[0]['num_episodes']} episodes of each run, {policy} action, {results[0]['physics']}")
    table.add_column("", no_wrap=True)
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
    for heading in headings + ratios if any(result["normalised"] for result in results) else headings:
        table.add_column(heading, justify="right")
    for group in groups:
        extra = f", {group['differs_in']}" if group["differs_in"] else ""
        table.add_section()
        table.add_row(f"[bold]{group['algo']} on {group['env']}{extra}")
        for run in group["runs"]:
            table.add_row(f"  seed {by_run[run]['seed']}", *_cells(by_run[run], policy))
        if group["num_seeds"] > 1:
            table.add_row(f"  {group['num_seeds']} seeds, ± std", *_cells(group["statistics"], policy))
    console.print(table)
    for label, means in subsets.items():
        for line in scores.describe_subsets(label, means):
            console.print(line, highlight=False, soft_wrap=True)


def _cells(result: Result, policy: str) -> list[str]:
    """A row's texts, of one run or of statistics over seeds."""
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
    """The same episodes on the training's engine and on another."""
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
    """Write a number, or mean ± standard deviation; - for none."""
    if isinstance(value, dict):
        spread = "" if value["std"] is None else f" ± {value['std']:{form}}"
        return f"{value['mean']:{form}}{spread}"
    return "-" if value is None else f"{value:{form}}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _finite(tree: Any) -> Any:
    """Replace what JSON has no number for by None."""
    if isinstance(tree, dict):
        return {name: _finite(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


if __name__ == "__main__":
    raise SystemExit(main())
