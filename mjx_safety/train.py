"""Train an agent: `python -m mjx_safety.train --env SafetyPointGoal1-v0 --algo ppo-lag`."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax

from mjx_safety import cli, runs
from mjx_safety.agents import Algorithm, TrainState, checkpoint, init, train
from mjx_safety.cli import Options, UsageError
from mjx_safety.progress import Progress
from mjx_safety.wrappers import VecEnv, vectorize

SAVE_EVERY = 60.0  # s between checkpoints


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return cli.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    resumes = any(word.split("=")[0] == "--resume" for word in argv) and not {"-h", "--help"} & set(argv)
    if resumes:
        options, path = _parse_resume(argv)
    else:
        options = cli.parse(argv)
        path = options.run.out or runs.default_path(options.run.env, options.run.algo, options.run.seed)
        if runs.holds_run(path):
            raise UsageError(
                f"--out {path} already holds a run; choose another folder, or continue it with --resume {path}"
            )
        options = dataclasses.replace(
            options, run=dataclasses.replace(options.run, physics=cli.resolve_physics(options.run.physics))
        )
    cli.check(options)
    cli.set_up_jax(options.run.compilation_cache)
    venv = vectorize(cli.build_env(options.run.env, options.run.physics), options.run.num_envs, stagger=True)
    _train(options, path, venv, resumes)


def _parse_resume(argv: Sequence[str]) -> tuple[Options, Path]:
    """Read the flags of a continued training."""
    import tyro

    def flags(resume: Path, total_steps: int | None = None, compilation_cache: bool = True) -> tuple:
        """Continue a training with the settings in its config.json.

        Args:
            resume: Run folder.
            total_steps: New end of the training, in environment steps since its start.
            compilation_cache: Keep compiled programs in the user's cache folder.
        """
        return resume, total_steps, compilation_cache

    path, total_steps, cache = tyro.cli(flags, prog="python -m mjx_safety.train", args=list(argv))
    if not runs.holds_run(path):
        raise UsageError(f"--resume {path} is not a run folder: it has no config.json")
    if checkpoint.latest(path / "checkpoints") is None:
        raise UsageError(f"--resume {path} has no checkpoint to continue from; start it anew with another --out")
    options = Options.from_config(runs.read_config(path))
    run = dataclasses.replace(options.run, compilation_cache=cache, total_steps=total_steps or options.run.total_steps)
    return dataclasses.replace(options, run=run), path


def _train(options: Options, path: Path, venv: VecEnv, resumes: bool) -> None:
    """Open the run folder, get the first state, loop, and say where everything lies."""
    algorithm = options.build()
    steps_per_rollout = options.run.num_envs * options.train.unroll_length
    start = partial(init, venv, algorithm)
    key = jax.random.key(options.run.seed)
    config = options.to_config()
    if resumes:
        found = checkpoint.latest(path / "checkpoints")
        assert found is not None  # checked with the flags
        state = checkpoint.restore(found, jax.eval_shape(start, key))
        done = int(state.num_rollouts)
        if options.run.total_steps < (done + 1) * steps_per_rollout:
            raise UsageError(
                f"--total-steps is {options.run.total_steps}, but {path} is already at {done * steps_per_rollout}; "
                f"it must be at least {(done + 1) * steps_per_rollout}"
            )
        old = runs.read_config(path)
        machine = {"machine": old["machine"], "resumed": [*old.get("resumed", []), runs.describe_machine()]}
        run = runs.reopen(path, config | machine, steps_per_rollout, done)
    else:
        run = runs.create(path, config | {"machine": runs.describe_machine()}, steps_per_rollout)
        state = jax.jit(start)(key)
    with cli.GracefulStop() as stop:  # also while saving and drawing
        try:
            _loop(options, algorithm, run, venv, state, stop)
        finally:
            run.close()
    _say_where(run, finished=int(run.rows[-1]["env_steps"] or 0) + steps_per_rollout > options.run.total_steps)


def _loop(
    options: Options, algorithm: Algorithm, run: runs.RunFolder, venv: VecEnv, state: TrainState, stop: cli.GracefulStop
) -> None:
    """Train, record, save, until the end or until the user stops it."""
    flags = options.run
    title = f"{flags.algo} on {flags.env}, {flags.num_envs} worlds, {flags.physics} on {jax.default_backend()}"
    saved = time.monotonic()
    chunks = train(venv, algorithm, options.train, state, flags.total_steps)
    with Progress(title, flags.total_steps, flags.cost_limit) as progress:
        for chunk in chunks:
            state = chunk.state
            rows = run.record(chunk.rows, chunk.seconds)
            progress.update(rows[-1])
            _check_finite(chunk.rows)
            if stop.requested:
                break
            if time.monotonic() - saved > SAVE_EVERY:
                checkpoint.save(run.checkpoints, state)
                saved = time.monotonic()
        checkpoint.save(run.checkpoints, state)


def _check_finite(rows: list[dict[str, float]]) -> None:
    for row in rows:
        for name, value in row.items():
            if value - value != 0.0:  # nan and infinity
                raise UsageError(
                    f"training diverged: {name} is {value} in iteration {row['num_rollouts']:.0f}; try a smaller "
                    "--learning-rate. The last checkpoint is from before"
                )


def _say_where(run: runs.RunFolder, finished: bool) -> None:
    """Tell the user what was saved and what to do next."""
    if not finished:
        print(f"Stopped before the end; everything is saved. Continue: python -m mjx_safety.train --resume {run.path}")
    print(f"Run folder:     {run.path}")
    print(f"Learning curve: {run.curve}")
    print(f"Checkpoint:     {checkpoint.latest(run.checkpoints)}")
    print(f"TensorBoard:    tensorboard --logdir {run.path / 'tensorboard'}")
    print(f"Evaluate:       python -m mjx_safety.evaluate {run.path}")


if __name__ == "__main__":
    raise SystemExit(main())
