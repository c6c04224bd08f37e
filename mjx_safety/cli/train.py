"""Train an agent: `python -m mjx_safety.train --env SafetyPointGoal1-v0 --algo ppo-lag`."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mjx_safety.agents import TrainState, checkpoint, init, iterate, sharding
from mjx_safety.agents.train import Chunk, make_chunk, run_chunks
from mjx_safety.agents.types import Metrics
from mjx_safety.cli import common, init_from, outcomes
from mjx_safety.cli import plan as planning
from mjx_safety.cli.plan import Plan
from mjx_safety.cli.progress import Progress
from mjx_safety.cli.waiting import PATIENCE, Abandoned, wait_for
from mjx_safety.core import files
from mjx_safety.runs import (
    environments,
    loading,
    lock,
    loggers,
    run_folder,
    sweeps,
    training_checks,
    training_options,
)
from mjx_safety.runs.errors import RunError
from mjx_safety.types import Environment
from mjx_safety.viz import plots

SAVE_EVERY = 60.0  # s between checkpoints, at least
SAVE_SHARE = 0.005  # of the time, at most, goes into checkpoints. A replay takes seconds, so its saves are rare
CHUNK = 3.0  # s, target time of one compiled call; shorter than PATIENCE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    common.join_processes(argv)
    plan = planning.read(argv)
    options = plan.options
    if options.run.resume_or_start is not None and plan.is_finished:
        _say_finished(plan)
        return
    loggers.check(options.run.loggers)
    common.set_up_jax(options.run.compilation_cache)
    with common.GracefulStop() as stop:  # also while compiling, saving and drawing
        num_devices = common.check_devices(options.run)
        env = environments.build_env(options.run.env, options.run.physics, randomize=options.run.randomize)
        training_checks.check_sources(options, env.cost_names)
        advice = training_checks.advice(options, env.cost_names)
        if advice and not plan.resumes and jax.process_index() == 0:
            print(advice, file=sys.stderr)
        mesh = sharding.make_mesh(num_devices) if num_devices > 1 else None
        shares_members = plan.is_group and len(plan.members) % num_devices == 0
        start, iterate_fn = _start_and_iterate(plan, env, mesh if shares_members else None)
        if options.run.init_from and not plan.resumes:
            start = init_from.begin(start, Path(options.run.init_from), options.worlds(env), plan.is_group)
        placement = None
        if mesh is not None and shares_members:
            placement = sharding.member_shardings(mesh, jax.eval_shape(start))
        elif mesh is not None:
            placement = sharding.shardings(mesh, jax.eval_shape(start), options.run.num_envs, axis=int(plan.is_group))
        writes = jax.process_index() == 0
        with lock.hold([plan.path, *plan.folders] if writes else []):
            plan.check_folder()  # another process may have been faster
            try:
                state = wait_for(partial(_first_state, plan, start, placement), stop)
            except Abandoned:
                print("Stopped before the first iteration; nothing is lost, as nothing was learned.")
                return
            with _folders(plan, int(np.ravel(state.num_rollouts)[0])) as folders:
                _loop(plan, folders, make_chunk(iterate_fn, placement), state, stop)
            if folders:
                _say_where(plan, folders)


def _say_finished(plan: Plan) -> None:
    """Tell a scheduler's repeated job that nothing is left to do. This is no error."""
    if jax.process_index() == 0:
        done = int(plan.newest or 0) * plan.steps_per_rollout
        steps = f"{done} of --total-steps {plan.options.run.total_steps}"
        print(f"{plan.path} is finished, with {steps}; nothing is left to do")


def _first_state(plan: Plan, start: Callable[[], TrainState], placement: TrainState | None) -> TrainState:
    """Start a training, or read its newest checkpoint. placement: of the state's leaves on devices; None: anywhere."""
    begun = sharding.of_each_process(int(plan.newest or -1) if plan.resumes else -1)
    if len(set(begun.tolist())) > 1:
        raise RunError(
            f"the processes find different checkpoints in {plan.path}; it must be on a disk that all of them share"
        )
    if plan.resumes:
        return jax.block_until_ready(jax.device_put(plan.restore(start), placement))
    return jax.block_until_ready(jax.jit(start, out_shardings=placement)())


def _start_and_iterate(
    plan: Plan, env: Environment, mesh: Mesh | None
) -> tuple[Callable[[], TrainState], Callable[[TrainState], tuple[TrainState, Metrics]]]:
    """Functions that start the training and run one iteration."""
    if plan.is_group:
        many = sweeps.ManyTrainings(plan.members, env, mesh)
        return many.init, many.iterate
    training = plan.options.training(env)
    key = jax.random.key(plan.options.run.seed)
    return partial(init, training.venv, training.algorithm, key), partial(iterate, *training)


@contextlib.contextmanager
def _folders(plan: Plan, done: int) -> Iterator[list[run_folder.RunFolder]]:
    """Open the run folders and close them with their pictures. A disk that refuses ends the run with one sentence."""
    folders: list[run_folder.RunFolder] = []
    try:
        folders = _open_folders(plan, done)
        yield folders
        _close(plan, folders)
    except (OSError, checkpoint.CheckpointError) as error:
        _close(plan, folders, quietly=True)
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise RunError(f"training ended: {reason}; {_what_is_saved(plan)}") from error
    except BaseException as error:
        error.add_note(f"Training ended; {_what_is_saved(plan)}.")
        _close(plan, folders, quietly=True)
        raise


def _close(plan: Plan, folders: list[run_folder.RunFolder], quietly: bool = False) -> None:
    """Finish files and draw. quietly: hide errors of the disk, because another error is being raised."""
    with contextlib.suppress(OSError) if quietly else contextlib.nullcontext():
        for folder in folders:
            folder.close()
        if plan.is_group and folders and folders[0].rows:
            _draw_group(plan, folders)


def _what_is_saved(plan: Plan) -> str:
    """Say what a resumed run would continue from."""
    newest = plan.newest
    if newest is None:
        return "nothing was saved yet"
    where = plan.path if plan.is_group else plan.folders[0] / "checkpoints" / newest
    return f"iteration {int(newest)} is saved in {where}"


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
            history = {"id": old.get("id", ""), "machine": old.get("machine", {})}
            history["resumed"] = [*old.get("resumed", []), machine]
            if plan.is_group and old.get("diverged"):
                history["diverged"] = old["diverged"]
            folders.append(run_folder.reopen(path, config | history, plan.steps_per_rollout, done))
        else:
            folders.append(run_folder.create(path, config | {"machine": machine}, plan.steps_per_rollout))
    return folders


def _loop(
    plan: Plan, folders: list[run_folder.RunFolder], chunk_fn: Any, state: TrainState, stop: common.GracefulStop
) -> None:
    """Train, record and save, until the end or until the user stops. chunk_fn: of `make_chunk`.

    The first iteration is saved at once, later ones as `_pause` says.
    """
    flags = plan.options.run
    title = f"{flags.algo} on {flags.env}, {flags.num_envs} worlds, {flags.physics} on {jax.default_backend()}"
    if plan.is_group:
        title = f"{len(plan.members)} x {title} (means of all)"
    saved, save_seconds = -math.inf, 0.0  # the first chunk is saved, for a run that ends early
    limits = tuple(member.options.run.cost_limit for member in plan.members)
    of_sources = training_options.parse_limits(flags.cost_limits)
    steps = plan.steps_per_rollout
    whole = flags.total_steps // steps * steps  # iterations
    patience = PATIENCE if jax.process_count() == 1 else math.inf  # the others would wait for one that left
    with Progress(title, whole, limits, cost_limits=of_sources) as progress:
        begun = time.monotonic()
        try:
            compiled = wait_for(lambda: chunk_fn.lower(state, jnp.int32(1)).compile(), stop, patience)
        except Abandoned:
            _save(plan, folders, state)
            return
        chunks = run_chunks(compiled, state, flags.total_steps // steps, steps, CHUNK)
        compile_seconds = time.monotonic() - begun
        try:
            while (chunk := wait_for(partial(next, chunks, None), stop, patience)) is not None:
                state = chunk.state
                _record(plan, folders, chunk._replace(seconds=chunk.seconds + compile_seconds), progress)
                compile_seconds = 0.0
                begun = time.monotonic()
                is_due = begun - saved >= _pause(flags.save_every, save_seconds, chunk.seconds)
                wishes = sharding.of_each_process([is_due, progress.is_unheard, stop.requested])
                is_due, is_unheard = wishes[0, :2]  # of the process that writes
                if is_unheard or wishes[:, 2].any():
                    break
                if is_due:
                    _save(plan, folders, state)
                    saved = time.monotonic()
                    save_seconds = saved - begun
        except Abandoned:
            return  # in the middle of a call, which has taken the state; a checkpoint is there
        _save(plan, folders, state)
        if progress.is_unheard and not stop.requested:
            raise RunError(f"training ended: its output cannot be written any more; {_what_is_saved(plan)}")


def _pause(asked: float | None, save_seconds: float, chunk_seconds: float) -> float:
    """Seconds between two checkpoints. asked: by the user; save_seconds, chunk_seconds: of the newest ones."""
    if asked is not None:
        return asked
    if chunk_seconds > PATIENCE and save_seconds < 0.05 * chunk_seconds:
        return 0.0  # nobody waits for such an iteration after the request to stop
    return max(SAVE_EVERY, save_seconds / SAVE_SHARE)


def _record(plan: Plan, folders: list[run_folder.RunFolder], chunk: Chunk, progress: Progress) -> None:
    """Write the metrics of a chunk, show the newest, and warn. Raises RunError once all members have diverged."""
    newest = []
    for index, folder in enumerate(folders):
        if folder.diverged:
            continue
        rows = [_member_row(row, index) for row in chunk.rows] if plan.is_group else chunk.rows
        written = folder.record(rows, chunk.seconds)
        newest += [] if folder.diverged else written[-1:]
        if plan.options.run.keep_blow_ups:
            blow_up: Any = chunk.state.env_state.blow_up
            folder.keep_blow_up(jax.tree.map(lambda leaf, i=index: leaf[i], blow_up) if plan.is_group else blow_up)
        for warning in folder.health.warnings(rows):
            progress.warn(warning)
    if folders and all(folder.diverged for folder in folders):
        reason = folders[0].diverged
        raise RunError(f"training diverged: {reason}; try a smaller {_step_flag(plan)}; {_what_is_saved(plan)}")
    if newest:
        progress.update(run_folder.mean_row(newest))


def _step_flag(plan: Plan) -> str:
    """Return the flag that sets how far an update moves the policy."""
    return "--learning-rate" if hasattr(plan.options.algorithm, "learning_rate") else "--max-kl"


def _member_row(row: dict, index: int) -> dict[str, float]:
    return {name: values[index] for name, values in row.items()}


def _save(plan: Plan, folders: list[run_folder.RunFolder], state: TrainState) -> None:
    state = sharding.gather(state)
    for index, folder in enumerate(folders):
        if folder.diverged or (folder.health.skipped_in_a_row and not plan.is_group):
            continue  # the newest checkpoint is a good one
        saved = checkpoint.save(folder.checkpoints, sweeps.unstack(state, index) if plan.is_group else state)
        if plan.options.run.keep_policies:
            loading.keep_policy(saved, folder.config)


def _draw_group(plan: Plan, folders: list[run_folder.RunFolder]) -> None:
    """Save and draw the outcomes of the members."""
    results = sweeps.outcomes(plan.members, [folder.rows for folder in folders])
    diverged = [bool(folder.diverged) for folder in folders]
    summary = outcomes.finite(sweeps.summarise(results, diverged))
    files.write(plan.path / "pareto.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    going = [result for result, is_lost in zip(results, diverged, strict=True) if not is_lost]
    if going:
        plots.plot_pareto(going, plan.path / "pareto.png")


def _say_where(plan: Plan, folders: list[run_folder.RunFolder]) -> None:
    """Tell the user what was saved and what to do next."""
    first = next(folder for folder in folders if not folder.diverged)
    path = shlex.quote(str(plan.path))  # in commands to copy
    trust = run_folder.trust_flag(plan.options.run.env)
    for folder in folders:
        if folder.diverged:
            print(f"Diverged:       {folder.path.name}, {folder.diverged}; it is not in pareto.json's means")
    newest = plan.newest
    if newest is None:
        print("Stopped before the end; nothing was saved yet")
    elif (int(newest) + 1) * plan.steps_per_rollout <= plan.options.run.total_steps:
        print(
            f"Stopped before the end; iteration {int(newest)} is saved. "
            f"Continue: python -m mjx_safety.train --resume {path}{trust}"
        )
    if plan.is_group:
        print(f"Group folder:   {plan.path}, one run folder for each of {len(folders)} trainings")
        print(f"Return / cost:  {plan.path / 'pareto.png'}")
    else:
        print(f"Run folder:     {first.path}")
        if first.rows:
            print(f"Learning curve: {first.curve}")
        print(f"Checkpoint:     {checkpoint.latest(first.checkpoints)}")
    print(f"TensorBoard:    tensorboard --logdir {path}")
    print(f"Evaluate:       python -m mjx_safety.evaluate {path}{trust}")
