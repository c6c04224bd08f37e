"""What a training command means: its options, its folder, and whether it starts or continues."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro

from mjx_safety.agents import TrainState, checkpoint
from mjx_safety.cli import common
from mjx_safety.runs import environments, run_folder, sweeps, training_checks, training_options
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.sweeps import Member
from mjx_safety.runs.training_options import Options


@dataclasses.dataclass(frozen=True)
class Plan:
    """One training, or several side by side, and their folder."""

    options: Options  # as given
    members: list[Member]
    path: Path
    resumes: bool

    @property
    def is_group(self) -> bool:
        """Whether several trainings run side by side."""
        return bool(self.options.run.sweep) or self.options.run.num_seeds > 1

    @property
    def folders(self) -> list[Path]:
        """One run folder per member."""
        return [self.path / member.name for member in self.members] if self.is_group else [self.path]

    @property
    def steps_per_rollout(self) -> int:
        """Environment steps of one training per iteration."""
        return self.options.run.num_envs * self.options.train.unroll_length

    @property
    def newest(self) -> str | None:
        """Name of the newest checkpoint that all members have, except those that diverged; None if there is none."""
        saved = list(map(set, self._saved.values()))
        return max(set.intersection(*saved) if saved else (), key=int, default=None)

    @property
    def has_begun(self) -> bool:
        """Whether all members have a checkpoint, or one has more than its first.

        A group that is killed at its start leaves only first checkpoints, of some members.
        """
        saved = self._saved.values()
        return bool(saved) and (all(saved) or any(len(names) > 1 for names in saved))

    @property
    def _saved(self) -> dict[Path, list[str]]:
        """Names of the checkpoints by folder, oldest first, of the members that did not diverge."""
        return {folder: _checkpoints(folder) for folder in self.folders if not self._is_lost(folder)}

    @property
    def is_finished(self) -> bool:
        """Whether the newest checkpoint is so near the end that no iteration is left."""
        newest = self.newest
        return newest is not None and (int(newest) + 1) * self.steps_per_rollout > self.options.run.total_steps

    def _is_lost(self, folder: Path) -> bool:
        """Whether a member of a group has diverged."""
        return self.is_group and run_folder.holds_run(folder) and bool(run_folder.read_config(folder).get("diverged"))

    def check_folder(self) -> None:
        """Refuse to start where a training is, and to continue one whose metrics are damaged."""
        run = self.options.run
        if self.resumes:
            for folder in self.folders:
                run_folder.check_rows(folder)
            return
        if run.resume_or_start is not None and holds_training(self.path) and not self.has_begun:
            return
        flag = "--out" if run.resume_or_start is None else "--resume-or-start"
        if holds_training(self.path):
            raise UsageError(
                f"{flag} {self.path} already holds a run; choose another folder, or continue it with "
                f"--resume {self.path}"
            )
        for folder in self.folders:
            if run_folder.holds_run(folder):
                raise UsageError(
                    f"{flag} {self.path} already holds a run where a member of the group would be, {folder}; choose "
                    "another folder"
                )
            run_folder.check_free(folder, flag)

    def _check_newest(self) -> str:
        """Return the name of the checkpoint to continue from, or refuse."""
        newest = self.newest
        if newest is not None:
            return newest
        if self.is_group and self.has_begun:
            stands = {folder.name: int(names[-1]) if names else "none" for folder, names in self._saved.items()}
            listed = ", ".join(f"{name}: {number}" for name, number in stands.items())
            raise UsageError(
                f"--resume {self.path}: no iteration is saved of all members, so they cannot go on as a group (newest "
                f"of each: {listed}); continue each one alone, as in --resume {self.folders[0]}"
            )
        raise UsageError(f"--resume {self.path} has no checkpoint to continue from; start it anew with another --out")

    def restore(self, start: Callable[[], TrainState]) -> TrainState:
        """Read the newest checkpoints. All members of a group use the same iteration."""
        newest = self._check_newest()
        like = jax.eval_shape(start)
        done, per_rollout = int(newest), self.steps_per_rollout
        if self.is_finished:
            raise UsageError(
                f"--total-steps is {self.options.run.total_steps}, but {self.path} is already at {done * per_rollout}; "
                f"it must be at least {(done + 1) * per_rollout}"
            )
        paths = [folder / "checkpoints" / newest for folder in self.folders if not self._is_lost(folder)]
        try:
            if not self.is_group:
                return checkpoint.restore(paths[0], like)
            single = jax.eval_shape(lambda states: sweeps.unstack(states, 0), like)
            states = [checkpoint.restore(path, single) for path in paths]
            left = iter(states)  # a member that diverged takes the place of another one, and its results are dropped
            return sweeps.stack([states[0] if self._is_lost(folder) else next(left) for folder in self.folders])
        except checkpoint.CheckpointError as error:
            older = [name for name in _checkpoints(paths[0].parents[1]) if int(name) < done]
            hint = f"; delete {paths[0].name} to continue from {max(older)}" if older else ""
            raise UsageError(f"{error}{hint}") from error


def read(argv: Sequence[str]) -> Plan:
    """Read a command line."""
    asks = {word.split("=")[0] for word in argv}
    if "--resume" in asks and not {"-h", "--help"} & asks:
        return _resumed(argv)
    options = common.parse(argv)
    run = dataclasses.replace(options.run, physics=environments.resolve_physics(options.run.physics))
    options = dataclasses.replace(options, run=run)
    if run.resume_or_start is not None:
        return _resumed_or_started(options, run.resume_or_start, common.given_settings(argv))
    return _plan(options, run.out or run_folder.default_path(run.env, run.algo, run.seed), resumes=False)


def _plan(options: Options, path: Path, resumes: bool) -> Plan:
    """Check the options of all members."""
    training_checks.check(options)
    plan = Plan(options, sweeps.expand(options), path, resumes)
    for member in plan.members:
        training_checks.check(member.options)
    plan.check_folder()
    return plan


def _resumed(argv: Sequence[str]) -> Plan:
    """Read the flags of a continued training."""

    def flags(
        resume: Path,
        total_steps: training_options.Steps | None = None,
        trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
        compilation_cache: bool = True,
        coordinator: str = "",
        num_processes: int = 1,
        process_id: int = 0,
    ) -> tuple:
        """Continue a training with the settings in its config.json.

        Args:
            resume: Run folder, or the folder of a group.
            total_steps: New end of the training, in environment steps since its start.
            trust: Import the environment if it is package.module:factory, which is code.
            compilation_cache: Keep compiled programs in the user's cache folder.
            coordinator: As for a new training.
            num_processes: As for a new training.
            process_id: As for a new training.
        """
        del coordinator, num_processes, process_id  # `join_processes` has read them
        return resume, total_steps, trust, compilation_cache

    _refuse_settings(argv, inspect.signature(flags).parameters)
    path, total_steps, trust, cache = tyro.cli(flags, prog="python -m mjx_safety.train", args=list(argv))
    if not holds_training(path):
        raise UsageError(
            f"--resume {path} is not a run folder: it has no config.json; --resume-or-start would start a run there"
        )
    options = _read(path)
    run_folder.check_trust(options.run.env, path, trust)
    steps = options.run.total_steps if total_steps is None else total_steps
    run = dataclasses.replace(options.run, compilation_cache=cache, total_steps=steps)
    return _plan(dataclasses.replace(options, run=run), path, resumes=True)


def _refuse_settings(argv: Sequence[str], allowed: Collection[str]) -> None:
    """Refuse settings of a new training beside --resume. allowed: names of the flags that it takes."""
    defaults = training_options.default_options(training_options.RunFlags.algo)
    parts = [getattr(defaults, part) for part in ("run", *training_options.PARTS)]
    known = {field.name for part in parts for field in dataclasses.fields(part)} - set(allowed)
    for name in sorted(common.given_settings(argv) & known):
        raise UsageError(
            f"--{name.replace('_', '-')} has no use beside --resume: a run keeps its settings, and only --total-steps "
            "can change; --init-from starts a new run with the networks of another"
        )


def _resumed_or_started(options: Options, path: Path, given: Collection[str]) -> Plan:
    """Continue the run of a folder if it has these options and a checkpoint. Otherwise start one there."""
    if options.run.out is not None:
        raise UsageError(f"--out {options.run.out} has no use beside --resume-or-start {path}; leave one of them out")
    if not holds_training(path):
        return _plan(options, path, resumes=False)
    stored = _read(path)
    check_same(stored, options, given, f"--resume-or-start {path}")
    plan = Plan(stored, sweeps.expand(stored), path, resumes=True)
    if plan.newest is None and not plan.has_begun:
        return _plan(options, path, resumes=False)
    for words in stored.kept(options, given):
        print(f"{path} keeps its {words}", file=sys.stderr)
    changed = {name: getattr(options.run, name) for name in training_options.OF_A_PROCESS}
    return _plan(dataclasses.replace(stored, run=dataclasses.replace(stored.run, **changed)), path, resumes=True)


def check_same(stored: Options, options: Options, given: Collection[str], where: str) -> None:
    """Refuse a run folder with other settings. given: names of the settings that the user chose."""
    difference = stored.difference(options, given)
    if difference is not None:
        raise UsageError(f"{where} holds a run with other settings: {difference}")


def holds_training(path: Path) -> bool:
    """Return whether a folder is that of a run or of a group."""
    return run_folder.holds_run(path) or sweeps.holds_group(path)


def _read(path: Path) -> Options:
    if not sweeps.holds_group(path):
        return run_folder.read_options(path / run_folder.CONFIG)
    options = sweeps.read(path)
    return options if options.run.physics != "auto" else _with_engine(options, path)


def _with_engine(options: Options, path: Path) -> Options:
    """Return the options of a group of `submit` with the engine that its jobs chose."""
    folders = (path / member.name for member in sweeps.expand(options))
    begun = next((folder for folder in folders if run_folder.holds_run(folder)), None)
    chosen = "auto" if begun is None else run_folder.read_options(begun / run_folder.CONFIG).run.physics
    physics = environments.resolve_physics(chosen)
    return dataclasses.replace(options, run=dataclasses.replace(options.run, physics=physics))


def _checkpoints(folder: Path) -> list[str]:
    return [path.name for path in checkpoint.found(folder / "checkpoints")]
