"""Evaluate a trained agent on whole episodes: `python -m mjx_safety.evaluate runs/my-run`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import jax
import tyro
from rich.console import Console
from rich.table import Table

from mjx_safety import cli, runs
from mjx_safety.agents import TrainState, checkpoint, summarise
from mjx_safety.agents.evaluate import QUANTILES, evaluate
from mjx_safety.agents.train import init_agent
from mjx_safety.cli import Options, Physics, UsageError
from mjx_safety.wrappers import vectorize

SHOWN = {
    "episode_return": "return",
    "episode_cost": "cost",
    "episode_goals": "goals per episode",
    "episode_length": "length (steps)",
}

Result = dict[str, float | int | str]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Judge the newest checkpoint of a run by whole episodes on fresh worlds."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    episodes: int = 256
    """Episodes, one per world, all side by side."""
    physics: Physics = "auto"
    """Engine: auto takes mjx on an accelerator and mujoco on a CPU."""
    seed: int = 1000
    """Start of all random numbers."""
    sampled: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Act at random as in training."""
    mean: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Act by the mean of the policy, which is the default."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON instead of a table."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return cli.run_command(_main, sys.argv[1:] if argv is None else argv)


def evaluate_run(path: Path, episodes: int, physics: str, seed: int, sampled: bool) -> Result:
    """Run whole episodes of a run's newest checkpoint on fresh worlds. Returns flat numbers and how they were got."""
    options = Options.from_config(runs.read_config(path))
    algorithm = options.build()
    venv = vectorize(cli.build_env(options.run.env, physics), episodes)
    found = checkpoint.latest(path / "checkpoints")
    if found is None:
        raise UsageError(f"{path} has no checkpoint to evaluate")
    like = jax.eval_shape(partial(init_agent, venv, algorithm), jax.random.key(0))
    agent: TrainState = checkpoint.restore_agent(found, like)
    act = jax.jit(partial(evaluate, venv, algorithm.networks, sampled=sampled))
    totals = act(agent.params.policy, agent.normaliser, jax.random.key(seed))
    how: Result = {
        "env": options.run.env,
        "algo": options.run.algo,
        "env_steps": int(agent.num_rollouts) * options.run.num_envs * options.train.unroll_length,
        "physics": physics,
        "seed": seed,
        "policy": "sampled" if sampled else "mean",
    }
    sources = {f"cost_{name}_mean": float(totals.episode_costs[:, i].mean()) for i, name in enumerate(venv.cost_names)}
    return how | summarise(totals, options.run.cost_limit) | sources


def _main(argv: Sequence[str]) -> None:
    flags = tyro.cli(Flags, prog="python -m mjx_safety.evaluate", args=list(argv))
    if not runs.holds_run(flags.run):
        raise UsageError(f"{flags.run} is not a run folder: it has no config.json")
    if flags.episodes < 1:
        raise UsageError(f"--episodes is {flags.episodes}; it must be at least 1")
    if flags.seed < 0:
        raise UsageError(f"--seed is {flags.seed}; it must be at least 0")
    if flags.sampled and flags.mean:
        raise UsageError("--sampled and --mean exclude each other; give one of them")
    cli.set_up_jax(compilation_cache=True)
    result = evaluate_run(flags.run, flags.episodes, cli.resolve_physics(flags.physics), flags.seed, flags.sampled)
    text = json.dumps(result, indent=2)
    file = flags.run / "evaluation.json"
    file.write_text(text + "\n")
    if flags.json:
        print(text)
        return
    _show(result)
    print(f"Saved to {file}")


def _show(result: Result) -> None:
    """Print the result as a table."""
    title = (
        f"{result['algo']} on {result['env']} after {result['env_steps']:,} steps: "
        f"{result['num_episodes']:.0f} episodes, {result['policy']} action, {result['physics']}"
    )
    table = Table(title=title)
    for column in ("", "mean", "std", *(f"{q} %" for q in QUANTILES)):
        table.add_column(column, justify="right" if column else "left")
    for name, label in SHOWN.items():
        columns = ("mean", "std", *(f"q{q}" for q in QUANTILES))
        table.add_row(label, *(f"{result[f'{name}_{column}']:.2f}" for column in columns))
    over = 100.0 * float(result["over_limit_share"])
    Console().print(table)
    print(f"Episodes that cost more than {result['cost_limit']:g}: {over:.1f} %")


if __name__ == "__main__":
    raise SystemExit(main())
