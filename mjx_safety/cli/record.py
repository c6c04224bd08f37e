"""Data sets of whole episodes with costs: `python -m mjx_safety.record runs/my-run --out data.hdf5`."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.table import Table

from mjx_safety.agents.evaluate import spread
from mjx_safety.cli import common
from mjx_safety.env.vector import VecEnv, vectorize
from mjx_safety.runs import datasets, environments, errors, loading, randomizing, run_folder
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.evaluation import evaluation_key
from mjx_safety.runs.policy import Policy
from mjx_safety.runs.recording import Episode, Recorder
from mjx_safety.runs.scores import limit_text
from mjx_safety.runs.training_options import Physics
from mjx_safety.viz import plots

SUFFIXES = (".hdf5", ".h5")


@dataclasses.dataclass(frozen=True)
class Flags:
    """Record whole episodes of policies, on layouts that no training has seen.

    Several policies give a mixture, in equal shares: of several cost limits, or along a training (`train
    --keep-policies`).
    """

    policy: tyro.conf.Positional[tuple[str, ...]]
    """Run folders, .npz files, folders of them, or names such as SafetyPointGoal1-v0/ppo-lag."""
    out: str = "data.hdf5"
    """File that ends in .hdf5, with DSRL's keys, or minari:NAME, such as minari:safety/point-goal1-v0."""
    episodes: int = 1000
    """Number of episodes of all policies together."""
    env: str = ""
    """Environment; by default that of the policies."""
    physics: Physics = "auto"
    """Engine: auto takes mjx on an accelerator and mujoco on a CPU."""
    action: Literal["sampled", "mean"] = "sampled"
    """Act by sampling as in training, or by the mean of the policy."""
    randomize: tuple[str, ...] = ()
    """Dynamics of the worlds, in place of those of the training, such as mass=0.5,1.5; none: the model as it is."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the environment of a run or a policy that names package.module:factory, which is code."""
    num_envs: int = 128
    """Number of worlds side by side."""
    seed: int = 0
    """Seed of all random numbers."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    common.check_lists(argv, Flags)
    flags = tyro.cli(Flags, prog="python -m mjx_safety.record", args=list(argv))
    names = check(flags)
    policies = [_load(name, flags.trust) for name in names]
    limits, words = [*map(_limit, names, policies)], _words(flags, names, policies)
    env_id = flags.env or policies[0].env_id
    engine = environments.resolve_physics(flags.physics)
    common.set_up_jax(compilation_cache=True)
    shares = [flags.episodes // len(names) + (i < flags.episodes % len(names)) for i in range(len(names))]
    venv = vectorize(environments.build_env(env_id, engine, randomize=words), min(flags.num_envs, max(shares)))
    _check_fit(flags, names, policies, venv)
    about = {
        "env": env_id,
        "randomize": list(words),
        "policies": names,
        "origins": [policy.origin for policy in policies],
        "action": flags.action,
        "physics": engine,
        "seed": flags.seed,
        "machine": {name: value for name, value in run_folder.describe_machine().items() if name != "command"},
    }
    writer = _open(flags, venv, env_id, about)
    recorder, times = Recorder(venv), [time.monotonic()]
    results: list[list[tuple[float, float]]] = [[] for _ in names]  # return and cost, by policy
    for index, (policy, share) in enumerate(zip(policies, shares, strict=True)):
        key = jax.random.fold_in(evaluation_key(flags.seed), index)
        for batch in recorder.record(policy.actor, key, share, index, flags.action == "sampled"):
            writer.add(batch)
            results[index] += [_outcome(episode) for episode in batch]
            times.append(time.monotonic())
            print(f"{sum(map(len, results))} of {flags.episodes} episodes", file=sys.stderr)
    writer.close()
    _report(names, results, limits)
    print(f"Wrote {flags.out}: {flags.episodes} episodes, {_speed(times, sum(map(len, results)))}")
    if not flags.out.startswith(datasets.MINARI):
        plots.plot_episodes(dict(zip(names, map(np.array, results), strict=True)), limits, _picture(flags))
        print(f"Return / cost: {_picture(flags)}")


def check(flags: Flags) -> list[str]:
    """Refuse wrong input, before anything compiles. Returns the policies, with those inside folders."""
    if not flags.policy:
        raise UsageError("no policy is given; name one or more, such as runs/my-run or SafetyPointGoal1-v0/ppo-lag")
    errors.check_counts(flags, "episodes", "num_envs")
    errors.check_seed(flags.seed)
    if not flags.out.startswith(datasets.MINARI):
        if Path(flags.out).suffix not in SUFFIXES:
            raise UsageError(f"--out {flags.out} is of no known kind; it must end in .hdf5, or be minari:NAME")
        if Path(flags.out).exists():
            raise UsageError(f"--out {flags.out} is there already; choose another name")
        if _picture(flags).exists():
            raise UsageError(f"--out {flags.out} would replace {_picture(flags)} by its picture; choose another name")
        common.check_outputs(Path(flags.out))
    names: list[str] = []
    for name in flags.policy:
        folder = Path(name)
        inside = sorted(map(str, folder.glob("*.npz"))) if folder.is_dir() else []
        names += [name] if run_folder.holds_run(folder) or loading.find_file(name) or not inside else inside
    if flags.episodes < len(names):
        raise UsageError(f"--episodes is {flags.episodes}; it must be at least the {len(names)} policies")
    return names


def _picture(flags: Flags) -> Path:
    """The picture beside the data."""
    return Path(flags.out).with_suffix(".png")


def _load(name: str, trust: bool) -> Policy:
    try:
        policy = loading.load_policy(name, trust=trust)
        run_folder.check_trust(policy.env_id, name, trust)
        return policy
    except ValueError as error:
        raise UsageError(str(error)) from error


def _limit(name: str, policy: Policy) -> float:
    """Return the cost limit that a policy was trained with."""
    try:
        return float(policy.origin["config"]["run"]["cost_limit"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{name} does not say with which cost limit it was trained; export it again") from error


def _words(flags: Flags, names: Sequence[str], policies: Sequence[Policy]) -> tuple[str, ...]:
    """Return the words of `--randomize` for the worlds. Refuses policies of different dynamics without the flag.

    With the flag the worlds still show the dynamics to policies that were trained to observe them.
    """
    trained = [randomizing.words_of(policy.origin) for policy in policies]
    if flags.randomize:
        return (*(["observed"] if any("observed" in words for words in trained) else []), *flags.randomize)
    for name, words in zip(names, trained, strict=True):
        if words != trained[0]:
            first, other = (
                f"--randomize {' '.join(each)}" if each else "no --randomize" for each in (trained[0], words)
            )
            both = f"{names[0]} was trained with {first} and {name} with {other}"
            raise UsageError(f"{both}; name the dynamics of the worlds with --randomize")
    return trained[0]


def _check_fit(flags: Flags, names: Sequence[str], policies: Sequence[Policy], venv: VecEnv) -> None:
    """Refuse policies of several environments, unless --env says which, and policies of other sizes."""
    for name, policy in zip(names, policies, strict=True):
        if not flags.env and policy.env_id != policies[0].env_id:
            both = f"{names[0]} is of {policies[0].env_id} and {name} of {policy.env_id}"
            raise UsageError(f"{both}; name one environment with --env")
        sizes = (policy.obs_size, policy.action_size)
        if sizes != (venv.obs_size, venv.action_size):
            raise UsageError(
                f"{name} takes observations [{sizes[0]}] and gives actions [{sizes[1]}], and "
                f"{flags.env or policy.env_id} has [{venv.obs_size}] and [{venv.action_size}]; they must be equal"
            )


def _open(flags: Flags, venv: VecEnv, env_id: str, about: dict[str, Any]) -> datasets.Writer:
    try:
        if not flags.out.startswith(datasets.MINARI):
            return datasets.HDF5Writer(Path(flags.out), venv.obs_size, venv.action_size, about)
        import gymnasium
        import minari
        from minari.dataset.minari_dataset import parse_dataset_id

        from mjx_safety.interop import gymnasium_spaces
        from mjx_safety.interop.gymnasium import NAMESPACE
        from mjx_safety.interop.gymnasium_spec import SettingsSpec

        name = flags.out.removeprefix(datasets.MINARI)
        try:
            parse_dataset_id(name)
        except (TypeError, ValueError) as error:  # TypeError: it has no version
            raise UsageError(
                f"--out {flags.out} is no name of a data set; it must be like minari:safety/point-goal1-v0"
            ) from error
        if name in minari.list_local_datasets():
            raise UsageError(f"--out {flags.out} is there already; choose another name")
        world: Any = venv.env
        spaces = gymnasium_spaces.observation_space(world, "flat"), gymnasium_spaces.action_space(world)
        spec = gymnasium.registry.get(f"{NAMESPACE}/{env_id}")
        if spec is not None and about["randomize"]:
            spec = SettingsSpec.of(spec)
            spec.kwargs = spec.kwargs | {"randomize": world.config.randomize}
        return datasets.MinariWriter(name, spaces, spec, about)
    except ImportError as error:
        raise UsageError(f"--out {flags.out} needs {error.name}: pip install 'mjx-safety[data]'") from error
    except ValueError as error:
        raise UsageError(f"--out {flags.out}: {error}") from error


def _outcome(episode: Episode) -> tuple[float, float]:
    return episode.episode_return, episode.episode_cost


def _speed(times: Sequence[float], num_episodes: int) -> str:
    """Episodes per minute, without the first of several batches, which compiles. times: s, of start and batches."""
    batches = len(times) - 1
    if batches == 1:
        return f"{60 * num_episodes / (times[1] - times[0]):,.0f} a minute with compiling"
    return f"{60 * num_episodes * (batches - 1) / batches / (times[-1] - times[1]):,.0f} a minute after compiling"


def _report(names: Sequence[str], results: Sequence[list[tuple[float, float]]], limits: Sequence[float]) -> None:
    """Print return and cost of each policy, mean and sample standard deviation, and its share within its own limit."""
    table, is_one = Table(title="Episodes"), len(set(limits)) == 1
    column_of_limit = f"within {limit_text(limits[0])}" if is_one else "within its limit"
    for column in ("policy", "episodes", "return", "cost", column_of_limit):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for name, rows, limit in zip(names, map(np.array, results), limits, strict=True):
        (gain, cost), (gain_std, cost_std) = rows.mean(axis=0), map(spread, rows.T)
        within = f"{100 * (rows[:, 1] <= limit).mean():.0f} %" + ("" if is_one else f" ({limit_text(limit)})")
        table.add_row(name, str(len(rows)), f"{gain:.2f} ± {gain_std:.2f}", f"{cost:.1f} ± {cost_std:.1f}", within)
    common.plain_console(width=None if sys.stdout.isatty() else 140).print(table)
