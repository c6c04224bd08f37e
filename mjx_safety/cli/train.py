"""Train an agent: `python -m mjx_safety.train --env SafetyPointGoal1-v0 --algo ppo-lag`."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from mjx_safety.agents import TrainState, checkpoint, init, iterate, sharding
from mjx_safety.agents.train import make_chunk, run_chunks
from mjx_safety.agents.types import Metrics
from mjx_safety.cli import common, init_from
from mjx_safety.cli.progress import Progress
from mjx_safety.runs import loading, loggers, run_folder, sweeps, training_options
from mjx_safety.runs.sweeps import Member
from mjx_safety.runs.training_options import Options, UsageError
from mjx_safety.types import Environment
from mjx_safety.viz import plots

CROWDED = "episodes ended because something found no free place (placement_failures in the metrics); take fewer objects"
SAVE_EVERY = 60.0  # s between checkpoints, at least
SAVE_SHARE = 0.005  # of the time, at most, goes into checkpoints. A replay takes seconds, so its saves are rare


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    common.join_processes(argv)
    resumes = any(word.split("=")[0] == "--resume" for word in argv) and not {"-h", "--help"} & set(argv)
    options, path = _parse_resume(argv) if resumes else _parse_new(argv)
    training_options.check(options)
    plan = Plan(options, sweeps.expand(options), path, resumes)
    for member in plan.members:
        training_options.check(member.options)
    loggers.check(options.run.loggers)
    common.set_up_jax(options.run.compilation_cache)
    num_devices = common.check_devices(options.run)
    env = common.build_env(options.run.env, options.run.physics)
    training_options.check_sources(options, env.cost_names)
    mesh = sharding.make_mesh(num_devices) if num_devices > 1 else None
    shares_members = plan.is_group and len(plan.members) % num_devices == 0
    start, iterate_fn = _functions(plan, env, mesh if shares_members else None)
    if options.run.init_from and not resumes:
        start = init_from.begin(start, Path(options.run.init_from), env, plan.is_group)
    where = None
    if mesh is not None and shares_members:
        where = sharding.member_shardings(mesh, jax.eval_shape(start))
    elif mesh is not None:
        where = sharding.shardings(mesh, jax.eval_shape(start), options.run.num_envs, axis=int(plan.is_group))
    state = jax.device_put(_restore(plan, start), where) if resumes else jax.jit(start, out_shardings=where)()
    folders = _open_folders(plan, int(np.ravel(state.num_rollouts)[0]))
    with common.GracefulStop() as stop:  # also while saving and drawing
        try:
            _loop(plan, folders, make_chunk(iterate_fn, where), state, stop)
        finally:
            for folder in folders:
                folder.close()
            if plan.is_group and folders:
                _draw_group(plan, folders)
    if folders:
        _say_where(plan, folders)


def _parse_new(argv: Sequence[str]) -> tuple[Options, Path]:
    """Read the flags of a new training, and choose its folder."""
    options = common.parse(argv)
    run = options.run
    path = run.out or run_folder.default_path(run.env, run.algo, run.seed)
    if run_folder.holds_run(path) or sweeps.holds_group(path):
        raise UsageError(
            f"--out {path} already holds a run; choose another folder, or continue it with --resume {path}"
        )
    return dataclasses.replace(options, run=dataclasses.replace(run, physics=common.resolve_physics(run.physics))), path


def _parse_resume(argv: Sequence[str]) -> tuple[Options, Path]:
    """Read the flags of a continued training."""
    import tyro

    def flags(
        resume: Path,
        total_steps: training_options.Steps | None = None,
        compilation_cache: bool = True,
        coordinator: str = "",
        num_processes: int = 1,
        process_id: int = 0,
    ) -> tuple:
        """Continue a training with the settings in its config.json.

        Args:
            resume: Run folder, or the folder of a group.
            total_steps: New end of the training, in environment steps since its start.
            compilation_cache: Keep compiled programs in the user's cache folder.
            coordinator: As for a new training.
            num_processes: As for a new training.
            process_id: As for a new training.
        """
        del coordinator, num_processes, process_id  # `join_processes` has read them
        return resume, total_steps, compilation_cache

    path, total_steps, cache = tyro.cli(flags, prog="python -m mjx_safety.train", args=list(argv))
    if sweeps.holds_group(path):
        options = sweeps.read(path)
    elif run_folder.holds_run(path):
        options = Options.from_config(run_folder.read_config(path))
    else:
        raise UsageError(f"--resume {path} is not a run folder: it has no config.json")
    run = dataclasses.replace(options.run, compilation_cache=cache, total_steps=total_steps or options.run.total_steps)
    return dataclasses.replace(options, run=run), path


def _functions(
    plan: Plan, env: Environment, mesh: Mesh | None
) -> tuple[Callable[[], TrainState], Callable[[TrainState], tuple[TrainState, Metrics]]]:
    """Functions that start the training and run one iteration."""
    if plan.is_group:
        many = sweeps.ManyTrainings(plan.members, env, mesh)
        return many.init, many.iterate
    training = plan.options.training(env)
    key = jax.random.key(plan.options.run.seed)
    return partial(init, training.venv, training.algorithm, key), partial(iterate, *training)


def _restore(plan: Plan, start: Callable[[], TrainState]) -> TrainState:
    """Read the newest checkpoints. All members of a group use the same iteration."""
    like = jax.eval_shape(start)
    found = [{path.name: path for path in checkpoint.found(folder / "checkpoints")} for folder in plan.folders]
    lost = [plan.is_group and bool(run_folder.read_config(folder).get("diverged")) for folder in plan.folders]
    going = [names for names, is_lost in zip(found, lost, strict=True) if not is_lost]
    common = sorted(set.intersection(*(set(names) for names in going))) if going else []
    if not common:
        raise UsageError(f"--resume {plan.path} has no checkpoint to continue from; start it anew with another --out")
    done, per_rollout = int(common[-1]), plan.steps_per_rollout
    if plan.options.run.total_steps < (done + 1) * per_rollout:
        raise UsageError(
            f"--total-steps is {plan.options.run.total_steps}, but {plan.path} is already at {done * per_rollout}; "
            f"it must be at least {(done + 1) * per_rollout}"
        )
    if not plan.is_group:
        return checkpoint.restore(found[0][common[-1]], like)
    single = jax.eval_shape(lambda states: sweeps.unstack(states, 0), like)
    states = [checkpoint.restore(names[common[-1]], single) for names in going]
    left = iter(states)  # a member that diverged takes the place of another one, and its results are dropped
    return sweeps.stack([states[0] if is_lost else next(left) for is_lost in lost])


def _open_folders(plan: Plan, done: int) -> list[run_folder.RunFolder]:
    """Create or reopen the run folders, in the process that writes. done: iterations in the checkpoint."""
    if jax.process_index() > 0:
        return []
    machine = run_folder.describe_machine()
    if plan.is_group and not plan.resumes:
        sweeps.write(plan.path, plan.options, plan.members)
    folders = []
    for member, path in zip(plan.members, plan.folders, strict=True):
        config = member.options.to_config()
        if plan.resumes:
            old = run_folder.read_config(path)
            history = {"machine": old["machine"], "resumed": [*old.get("resumed", []), machine]}
            if plan.is_group and old.get("diverged"):
                history["diverged"] = old["diverged"]
            folders.append(run_folder.reopen(path, config | history, plan.steps_per_rollout, done))
        else:
            folders.append(run_folder.create(path, config | {"machine": machine}, plan.steps_per_rollout))
    return folders


def _loop(
    plan: Plan,
    folders: list[run_folder.RunFolder],
    chunk_fn: Callable[[TrainState, jax.Array], tuple[TrainState, Metrics]],
    state: TrainState,
    stop: common.GracefulStop,
) -> None:
    """Train, record and save, until the end or until the user stops."""
    flags = plan.options.run
    title = f"{flags.algo} on {flags.env}, {flags.num_envs} worlds, {flags.physics} on {jax.default_backend()}"
    if plan.is_group:
        title = f"{len(plan.members)} x {title}"
    saved, save_seconds = -math.inf, 0.0  # the first chunk is saved, for a run that diverges early
    iterations = flags.total_steps // plan.steps_per_rollout
    with Progress(title, flags.total_steps, flags.cost_limit) as progress:
        for chunk in run_chunks(chunk_fn, state, iterations):
            state = chunk.state
            newest = []
            for index, folder in enumerate(folders):
                rows = [_member_row(row, index) for row in chunk.rows] if plan.is_group else chunk.rows
                if folder.diverged:
                    continue
                written = folder.record(rows, chunk.seconds)
                newest += [] if folder.diverged else written[-1:]
                if any(row["placement_failures"] for row in rows):
                    progress.warn(CROWDED)
            _check_finite(folders)
            if newest:
                progress.update(run_folder.mean_row(newest))
            if stop.requested:
                break
            if time.monotonic() - saved > max(SAVE_EVERY, save_seconds / SAVE_SHARE):
                begun = time.monotonic()
                _save(plan, folders, state)
                saved = time.monotonic()
                save_seconds = saved - begun
        _save(plan, folders, state)


def _member_row(row: dict, index: int) -> dict[str, float]:
    return {name: values[index] for name, values in row.items()}


def _save(plan: Plan, folders: list[run_folder.RunFolder], state: TrainState) -> None:
    state = sharding.gather(state)
    for index, folder in enumerate(folders):
        if folder.diverged:
            continue
        saved = checkpoint.save(folder.checkpoints, sweeps.unstack(state, index) if plan.is_group else state)
        if plan.options.run.keep_policies:
            loading.keep(saved, folder.config)


def _check_finite(folders: list[run_folder.RunFolder]) -> None:
    """End the training once no member is left whose metrics are finite."""
    if not folders or not all(folder.diverged for folder in folders):
        return
    last = checkpoint.latest(folders[0].checkpoints)
    kept = f"The last good checkpoint is {last}" if last else "There is no checkpoint from before"
    raise UsageError(f"training diverged: {folders[0].diverged}; try a smaller --learning-rate. {kept}")


def _draw_group(plan: Plan, folders: list[run_folder.RunFolder]) -> None:
    """Save and draw the outcomes of the members."""
    results = sweeps.outcomes(plan.members, [folder.rows for folder in folders])
    diverged = [bool(folder.diverged) for folder in folders]
    (plan.path / "pareto.json").write_text(json.dumps(sweeps.summarise(results, diverged), indent=1) + "\n")
    going = [result for result, is_lost in zip(results, diverged, strict=True) if not is_lost]
    if going:
        plots.plot_pareto(going, plan.path / "pareto.png")


def _say_where(plan: Plan, folders: list[run_folder.RunFolder]) -> None:
    """Tell the user what was saved and what to do next."""
    first = next(folder for folder in folders if not folder.diverged)
    for folder in folders:
        if folder.diverged:
            print(f"Diverged:       {folder.path.name}, {folder.diverged}; it is not in pareto.json's means")
    if int(first.rows[-1]["env_steps"] or 0) + plan.steps_per_rollout <= plan.options.run.total_steps:
        print(f"Stopped before the end; everything is saved. Continue: python -m mjx_safety.train --resume {plan.path}")
    if plan.is_group:
        print(f"Group folder:   {plan.path}, one run folder for each of {len(folders)} trainings")
        print(f"Return / cost:  {plan.path / 'pareto.png'}")
    else:
        print(f"Run folder:     {first.path}")
        print(f"Learning curve: {first.curve}")
        print(f"Checkpoint:     {checkpoint.latest(first.checkpoints)}")
    print(f"TensorBoard:    tensorboard --logdir {plan.path}")
    print(f"Evaluate:       python -m mjx_safety.evaluate {plan.path}")
