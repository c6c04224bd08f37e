"""Trainings side by side: the members of `--num-seeds` and `--sweep`, and their folder (host).

A group's folder has group.json, a picture of return against cost, and one run folder per member. A member's folder is a
normal run folder: users can evaluate it and resume it alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mjx_safety.agents import Training, TrainState, init_many, sharding
from mjx_safety.agents.train import iterate_many
from mjx_safety.core import files
from mjx_safety.runs import run_folder, training_options
from mjx_safety.runs.scores import limit_phrase
from mjx_safety.runs.training_options import Options
from mjx_safety.types import Environment
from mjx_safety.viz.plots import Outcome, Row, last_tenth, metric_to_show

FILE = "group.json"


@dataclasses.dataclass(frozen=True)
class Member:
    """One training of a group."""

    values: dict[str, float]  # swept settings by name
    options: Options
    texts: dict[str, str]  # the values as text, for label and name; they differ within a sweep

    @property
    def label(self) -> str:
        """The label that it shares with members that differ only in the seed."""
        shared = ", ".join(f"{name} {text}" for name, text in self.texts.items())
        limits = self.options.run.cost_limits
        limit = f"limits {' '.join(limits)}" if limits else limit_phrase(self.options.run.cost_limit)
        return shared or f"{self.options.run.algo}, {limit}"

    @property
    def name(self) -> str:
        """Name of its folder."""
        values = [f"{name}{text}" for name, text in self.texts.items()]
        return "-".join([*values, f"seed{self.options.run.seed}"])


def expand(options: Options) -> list[Member]:
    """All combinations of swept values and seeds. Seeds vary fastest."""
    sweep = training_options.parse_sweep(options)
    texts = {name: _texts(values) for name, values in sweep.items()}
    members = []
    for combination in itertools.product(*sweep.values()):
        values = dict(zip(sweep, combination, strict=True))
        shown = {name: texts[name][value] for name, value in values.items()}
        for seed in range(options.run.seed, options.run.seed + options.run.num_seeds):
            changed = options.with_values(values)
            run = dataclasses.replace(changed.run, seed=seed, num_seeds=1, sweep=())
            members.append(Member(values, dataclasses.replace(changed, run=run), shown))
    return members


def _texts(values: Sequence[float]) -> dict[float, str]:
    """A text for each value: the short one, or all digits where two short ones are equal."""
    short = [f"{value:g}" for value in values]
    return {value: text if short.count(text) == 1 else repr(value) for value, text in zip(values, short, strict=True)}


def write(path: Path, options: Options, members: Sequence[Member]) -> None:
    """Start a group's folder."""
    path.mkdir(parents=True, exist_ok=True)
    content = {**options.to_config(), "members": [member.name for member in members]}
    files.write(path / FILE, json.dumps(content, indent=2) + "\n")


def holds_group(path: Path) -> bool:
    """Return whether a folder is a group's folder."""
    return (path / FILE).exists()


def read(path: Path) -> Options:
    """Read the options of a group."""
    return run_folder.read_options(path / FILE)


class ManyTrainings:
    """S trainings in one program: pure functions of a stacked state whose leaves have the leading axis [S]."""

    def __init__(self, members: Sequence[Member], env: Environment[Any], mesh: Mesh | None = None):
        """mesh: the devices that share the members; None: all of them run on each device that there is."""
        self._mesh = mesh
        self._options, self._env = members[0].options, env
        swept = members[0].values
        self._settings = {name: jnp.array([member.values[name] for member in members]) for name in swept}
        self._keys = jnp.stack([jax.random.key(member.options.run.seed) for member in members])

    def init(self) -> TrainState:
        """Start all trainings."""
        return init_many(self._build, self._settings, self._keys)

    def iterate(self, states: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Run one iteration of each. Metrics are [S]."""
        run = partial(iterate_many, self._build)
        if self._mesh is not None:
            run = sharding.by_member(run, self._mesh)
        return run(self._settings, states)

    def _build(self, values: Any) -> Training:
        return self._options.with_values(values).training(self._env)


def stack(states: Sequence[TrainState]) -> TrainState:
    """Stack single states."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def unstack(states: TrainState, index: int) -> TrainState:
    """Return the state of one member."""
    return jax.tree.map(lambda leaf: leaf[index], states)


def outcomes(members: Sequence[Member], tables: Sequence[Sequence[Row]]) -> list[Outcome]:
    """The outcome of each member, by estimates if no episode has ended. tables: the rows of each."""
    return [
        Outcome(
            label=member.label,
            cost_limit=training_options.limit_to_draw(vars(member.options.run)),
            episode_return=last_tenth(rows, metric_to_show(rows, "episode_return")),
            episode_cost=last_tenth(rows, metric_to_show(rows, "episode_cost")),
        )
        for member, rows in zip(members, tables, strict=True)
    ]


def summarise(results: Sequence[Outcome], diverged: Sequence[bool]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation over seeds, by label, without the members that diverged.

    A value is None where there are too few seeds for it.
    """
    rows = []
    for label in dict.fromkeys(result.label for result in results):
        group = [(result, lost) for result, lost in zip(results, diverged, strict=True) if result.label == label]
        kept = [result for result, lost in group if not lost]
        row = {
            "label": label,
            "cost_limit": group[0][0].cost_limit,
            "num_seeds": len(kept),
            "num_diverged": len(group) - len(kept),
        }
        for name in ("return", "cost"):
            values = [getattr(result, f"episode_{name}") for result in kept]
            row[f"{name}_mean"] = float(np.mean(values)) if values else None
            row[f"{name}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        rows.append(row)
    return rows
