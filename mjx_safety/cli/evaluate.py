"""Evaluate policies on whole episodes: `python -m mjx_safety.evaluate runs/my-run`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mjx_safety.cli import common, outcomes, report
from mjx_safety.runs import environments, errors, loading, run_folder, scores
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.evaluation import Evaluator
from mjx_safety.runs.training_options import Physics

ACTION_MODES = {"both": ("mean", "sampled"), "mean": ("mean",), "sampled": ("sampled",)}  # by the flag --action
FUNCTION = "function"  # the mode of an external policy
WIDTH = 180  # columns of text without a terminal


@dataclasses.dataclass(frozen=True)
class Flags:
    """Evaluate policies over whole episodes on fresh layouts, and show the training cost.

    The numbers of a run go to its evaluation.json, or to evaluation-<physics>.json for another engine than in training.
    With --randomize the name ends in -randomize, with --end-at-limit in -end-at-limit.
    Several runs are also averaged over seeds, and over the tasks of Safety Gym's SG6, SG18 and other subsets.
    """

    run: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run folders, folders that contain run folders, .npz files, or names such as SafetyPointGoal1-v0/ppo-lag."""
    episodes: int = 256
    """Number of episodes: one per world, all side by side."""
    physics: Physics = "auto"
    """Engine: auto takes mjx on an accelerator and mujoco on a CPU. A named engine is compared with the training's."""
    randomize: tuple[str, ...] = ()
    """Dynamics of the worlds, on top of those of the training, such as mass=0.5,1.5; none: the model as it is."""
    end_at_limit: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """End episodes once their cost reaches the cost limit, as in training of ppo-early and in its published results."""
    action: Literal["both", "mean", "sampled"] = "both"
    """Act by the mean of the policy, by sampling as in training, or evaluate both."""
    policy: str = ""
    """In place of runs: a package.module:function or an .onnx file to evaluate."""
    env: str = ""
    """Environment of a function or a file that does not name its own."""
    cost_limit: float | None = None
    """Cost limit of the report; by default that of the training, or 25."""
    seed: int = 1000
    """Seed of all random numbers. Even the training's own seed gives layouts that training never saw."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the environment of a run or a policy that names package.module:factory, which is code."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON instead of tables: the content of evaluation.json, or "runs", "groups", "subsets" of several runs."""

    @property
    def modes(self) -> tuple[str, ...]:
        """The requested modes of acting."""
        return (FUNCTION,) if self.policy else ACTION_MODES[self.action]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    common.check_lists(argv, Flags)
    flags = tyro.cli(Flags, prog="python -m mjx_safety.evaluate", args=list(argv))
    if flags.policy in ACTION_MODES:  # the name of --action in earlier versions
        flags = dataclasses.replace(flags, action=flags.policy, policy="")
    names = _check(flags)
    engine = environments.resolve_physics(flags.physics)
    common.set_up_jax(compilation_cache=True)
    evaluator = Evaluator(
        flags.episodes, flags.seed, flags.trust, flags.randomize, flags.end_at_limit, flags.cost_limit
    )
    stderr = common.plain_console(stderr=True)
    if flags.policy:
        candidates = [evaluator.load_function(flags.policy, flags.env, engine)]
    else:
        candidates = [evaluator.load(name, engine) for name in outcomes.without_lost(names, stderr)]
    machine = run_folder.describe_machine()
    results = []
    for number, candidate in enumerate(candidates, 1):
        outcomes.tell(stderr, f"Evaluating {candidate.name} ({number} of {len(candidates)}) ...")
        compares = flags.physics != "auto" and outcomes.can_compare(candidate.name, candidate.engine, engine, stderr)
        result = evaluator.judge(candidate, engine, flags.modes, compares)
        result = outcomes.finite(result | {"machine": machine})
        if candidate.path is not None:
            outcomes.tell_damage(candidate.path, stderr)
            kinds = [
                *([] if candidate.engine == engine else [engine]),
                *(["randomize"] if flags.randomize else []),
                *(["end-at-limit"] if flags.end_at_limit else []),
            ]
            outcomes.store(candidate.path, kinds, result, stderr)
        results.append((candidate.settings, result))
    only = [result for _, result in results]
    groups = scores.group_results(results)
    subsets = {mode: scores.subset_scores(groups, only, mode) for mode in flags.modes}
    if flags.json:
        several = {"runs": only, "groups": groups, "subsets": subsets}
        print(json.dumps(only[0] if len(only) == 1 else several, indent=2, allow_nan=False))
        return
    console = common.plain_console(width=None if sys.stdout.isatty() else WIDTH)
    if len(only) == 1:
        report.show_run(console, only[0])
    else:
        for mode in flags.modes:
            report.show_runs(console, groups, only, mode, subsets[mode])
    for result in only:
        if "sim_to_sim" in result:
            console.print(report.gap_table(result))
    for note in scores.notes(only):
        console.print(note, highlight=False, soft_wrap=True)


def _check(flags: Flags) -> list[str]:
    """Refuse wrong input. Returns the policies, with the run folders inside groups."""
    if flags.policy and flags.run:
        raise UsageError(
            f"--policy {flags.policy} is none of {', '.join(ACTION_MODES)}; a function or a file is judged alone, "
            f"without {flags.run[0]}"
        )
    if flags.policy and flags.action != "both":
        raise UsageError(f"--action {flags.action} is for runs; a function or a file chooses its own actions")
    if not flags.policy and not flags.run:
        raise UsageError("no run folder is given; name one or more, such as runs/my-run")
    if not flags.policy and flags.env:
        raise UsageError(f"--env {flags.env} is for --policy package.module:function; a run has its own environment")
    errors.check_counts(flags, "episodes")
    if flags.cost_limit is not None and not flags.cost_limit >= 0:
        raise UsageError(f"--cost-limit is {flags.cost_limit}; it must be at least 0")
    errors.check_seed(flags.seed)
    names = []
    for name in flags.run:
        path = Path(name)
        inside = [str(inner) for inner in run_folder.runs_in(path)]
        if path.is_dir() and not run_folder.holds_run(path) and not loading.find_file(name):
            if not inside:
                raise UsageError(f"{path} is not a run folder: it has no config.json, and no folder in it has one")
            names += inside
        else:
            names.append(name)
    return list({Path(name).resolve(): name for name in names}.values())
