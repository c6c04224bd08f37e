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

from mjx_safety.agents import ALGORITHMS, Episodes, TrainState, checkpoint
from mjx_safety.agents.evaluate import compare, evaluate, summarise
from mjx_safety.cli import common, report
from mjx_safety.env.vector import VecEnv, vectorize
from mjx_safety.runs import files, run_folder, scores, training_options
from mjx_safety.runs.training_options import Options, Physics, UsageError

EVALUATION = 0x6576616C  # "eval"; folded into the seed's key, see `evaluation_key`
NOT_SETTINGS = (
    "seed",
    "out",
    "resume",
    "resume_or_start",
    "save_every",
    "compilation_cache",
    "num_seeds",
    "sweep",
)  # of RunFlags
WIDTH = 180  # columns of text without a terminal

Result = dict[str, Any]  # the content of evaluation.json
Policy = Literal["mean", "sampled"]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Evaluate the newest checkpoints of runs over whole episodes on fresh layouts, and show the training cost.

    The numbers of a run go to its evaluation.json, or to evaluation-<physics>.json for another engine than in training.
    Several runs are also averaged over seeds, and over the tasks of Safety Gym's SG6, SG18 and other subsets.
    """

    run: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders that contain run folders."""
    episodes: int = 256
    """Number of episodes: one per world, all side by side."""
    physics: Physics = "auto"
    """Engine: auto takes mjx on an accelerator and mujoco on a CPU. A named engine is compared with the training's."""
    policy: Literal["both", "mean", "sampled"] = "both"
    """Act by the mean of the policy, by sampling as in training, or both in the same worlds."""
    seed: int = 1000
    """Seed of all random numbers. Even the training's own seed gives layouts that training never saw."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the environment of a run that names package.module:factory, which is code."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON instead of tables: the content of evaluation.json, or "runs", "groups", "subsets" of several runs."""

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The requested policies."""
        return ("mean", "sampled") if self.policy == "both" else (self.policy,)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run, read from its folder."""

    path: Path
    options: Options
    engine: str  # of its training
    env_steps: int
    params: Any
    normaliser: Any
    rows: list[run_folder.Row]

    @property
    def settings(self) -> str:
        """The settings shared by runs that differ only in the seed, as text."""
        config = self.options.to_config()
        config["run"] = {name: value for name, value in config["run"].items() if name not in NOT_SETTINGS}
        return json.dumps(config, sort_keys=True, default=str)


def evaluation_key(seed: int) -> jax.Array:
    """Key of all random numbers of an evaluation.

    A training splits key(seed), and the keys from it, into at most some thousands. The n-th part of a split is the fold
    with n, and EVALUATION is far larger. No key of a training is therefore this key, up to a chance of 2^-64. Even the
    training's own seed gives layouts that it has never seen.
    """
    return jax.random.fold_in(jax.random.key(seed), EVALUATION)


class Evaluator:
    """Compiles one program for all runs with the same settings, and for both policies."""

    def __init__(self, num_episodes: int, seed: int, trust: bool = False):
        """trust: import the environments of runs that name package.module:factory."""
        self.num_episodes, self.seed, self.trust = num_episodes, seed, trust
        self._venvs: dict[tuple[str, str], VecEnv] = {}
        self._programs: dict[tuple[str, str], Any] = {}

    def venv(self, env_id: str, engine: str) -> VecEnv:
        """Worlds for one episode each. Episodes never end by their cost."""
        if (env_id, engine) not in self._venvs:
            self._venvs[env_id, engine] = vectorize(common.build_env(env_id, engine), self.num_episodes)
        return self._venvs[env_id, engine]

    def load(self, path: Path, engine: str) -> Trained:
        """Read a run, or raise a UsageError that says why not. Compiles nothing. engine: of the evaluation."""
        options = run_folder.read_options(path / run_folder.CONFIG)
        run_folder.check_trust(options, path, self.trust)
        algorithm = options.build()
        found = checkpoint.latest(path / "checkpoints")
        if found is None:
            raise UsageError(f"{path} has no checkpoint to evaluate")
        venv = self.venv(options.run.env, engine)
        like = jax.eval_shape(partial(algorithm.init, venv), jax.random.key(0))
        try:
            agent: TrainState = checkpoint.restore_agent(found, like)
        except checkpoint.CheckpointError as error:
            raise UsageError(str(error)) from error
        return Trained(
            path=path,
            options=options,
            engine=common.resolve_physics(options.run.physics),
            env_steps=int(agent.num_rollouts) * options.run.num_envs * options.train.unroll_length,
            params=agent.params,
            normaliser=agent.normaliser,
            rows=run_folder.read_rows(path),
        )

    def run(self, trained: Trained, engine: str, policies: Sequence[Policy]) -> dict[Policy, Episodes]:
        """Run whole episodes, in the same worlds for each policy and engine."""
        name = trained.settings, engine
        if name not in self._programs:
            venv = self.venv(trained.options.run.env, engine)
            self._programs[name] = jax.jit(partial(evaluate, venv, trained.options.build()))
        key = evaluation_key(self.seed)
        agent = trained.params, trained.normaliser
        return {policy: jax.device_get(self._programs[name](*agent, key, policy == "sampled")) for policy in policies}

    def judge(self, trained: Trained, engine: str, policies: Sequence[Policy], compares: bool) -> Result:
        """Evaluate one run. compares: also evaluate it on its own engine, and report the differences."""
        flags = trained.options.run
        limits = training_options.parse_limits(flags.cost_limits)
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
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    flags = tyro.cli(Flags, prog="python -m mjx_safety.evaluate", args=list(argv))
    paths = _check(flags)
    engine = common.resolve_physics(flags.physics)
    common.set_up_jax(compilation_cache=True)
    evaluator = Evaluator(flags.episodes, flags.seed, flags.trust)
    trained = [evaluator.load(path, engine) for path in paths]
    machine = run_folder.describe_machine()
    news = Console(stderr=True)
    results = []
    for number, run in enumerate(trained, 1):
        news.print(f"Evaluating {run.path} ({number} of {len(trained)}) ...", highlight=False, soft_wrap=True)
        compares = flags.physics != "auto" and run.engine != engine
        result = _finite(evaluator.judge(run, engine, flags.policies, compares) | {"machine": machine})
        file = run.path / ("evaluation.json" if run.engine == engine else f"evaluation-{engine}.json")
        files.write(file, json.dumps(result, indent=2, allow_nan=False) + "\n")
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
        report.show_run(console, only[0])
    else:
        for policy in flags.policies:
            report.show_runs(console, groups, only, policy, subsets[policy])
    for result in only:
        if "sim_to_sim" in result:
            console.print(report.gap_table(result))
    for note in scores.notes(only):
        console.print(note, highlight=False, soft_wrap=True)


def _check(flags: Flags) -> list[Path]:
    """Refuse wrong input. Returns the run folders, including those inside groups."""
    if not flags.run:
        raise UsageError("no run folder is given; name one or more, such as runs/my-run")
    if flags.episodes < 1:
        raise UsageError(f"--episodes is {flags.episodes}; it must be at least 1")
    training_options.at_most("--episodes", flags.episodes)
    if not 0 <= flags.seed < 2**32:
        raise UsageError(f"--seed is {flags.seed}; it must be at least 0 and below 2^32")
    paths = []
    for path in flags.run:
        inside = sorted(inner for inner in path.glob("*") if run_folder.holds_run(inner))
        if not run_folder.holds_run(path) and not inside:
            raise UsageError(f"{path} is not a run folder: it has no config.json, and no folder in it has one")
        paths += [path] if run_folder.holds_run(path) else inside
    return list({path.resolve(): path for path in paths}.values())


def _finite(tree: Any) -> Any:
    """Replace non-finite numbers, which JSON lacks, by None."""
    if isinstance(tree, dict):
        return {name: _finite(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
