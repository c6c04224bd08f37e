"""Films, pictures and replays: `python -m mjx_safety.render runs/my-run --out film.mp4 replay.html`."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from rich.console import Console
from rich.progress import track

from mjx_safety.agents import ALGORITHMS, actor
from mjx_safety.agents.types import Actor
from mjx_safety.cli import common
from mjx_safety.runs import environments, loading, run_folder, sweeps, training_options
from mjx_safety.runs.errors import UsageError, check_at_least, check_at_most, check_counts, check_seed
from mjx_safety.runs.evaluation import Evaluator, evaluation_key
from mjx_safety.viz import episodes, film, frames, opengl, replay
from mjx_safety.viz.episodes import ActFn, Recording

ENGINE = "mujoco"  # compiles in seconds, and is exact
COST_LIMIT = 25.0  # of the benchmark; shown for an environment without a training
MOST_PIXELS = 8192  # of a side
SPEEDS = 0.001, 1000.0  # lowest and highest, of a film
SUFFIXES = (*film.SUFFIXES, ".html")


@dataclasses.dataclass(frozen=True)
class Flags:
    """Draw whole episodes of a policy, or of an environment under random actions."""

    target: tyro.conf.Positional[str]
    """Run folder, .npz file or name of a policy, environment id, or package.module:factory of your own."""
    out: tuple[Path, ...] = (Path("film.mp4"),)
    """One or more files: .mp4 and .gif are films, .png is a sheet of moments, .html is a replay for any browser."""
    camera: Literal["track", "fixednear", "fixedfar", "vision", "top"] = "track"
    """track follows the robot, vision is the robot's own camera. An .html has its own cameras."""
    num_worlds: int = 1
    """Number of worlds side by side, each on a layout that no training has seen."""
    steps: int | None = None
    """Largest number of steps; by default the whole episode."""
    action: Annotated[Literal["mean", "sampled"], tyro.conf.arg(aliases=("--policy",))] = "mean"
    """Act by the mean of the policy, or by sampling as in training."""
    seed: int = 1000
    """Seed of all random numbers."""
    size: tuple[int, int] = (480, 360)
    """Width and height of one world, pixels."""
    speed: float = 1.0
    """Speed of a film relative to simulated time."""
    halo: bool = True
    """Draw the lidar readings as rings above the robot."""
    cost_limit: float | None = None
    """Cost limit in the strip; by default that of the training, or 25."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the environment of a run that names package.module:factory, which is code."""
    moments: int = 6
    """Number of moments in a .png. The last is the end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    flags = tyro.cli(Flags, prog="python -m mjx_safety.render", args=list(argv))
    check(flags)
    common.set_up_jax(compilation_cache=True)
    stderr = common.plain_console(stderr=True)
    recording = record(flags, stderr)
    look = film.Look(flags.camera, *flags.size, halo=flags.halo, speed=flags.speed)
    for path in flags.out:
        stderr.print(f"Drawing {path} ...", highlight=False, soft_wrap=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if path.suffix == ".html":
                replay.write_replay(recording, path)
            else:
                film.write(recording, look, path, moments=flags.moments, watch=lambda steps: _watch(steps, stderr))
        except (opengl.NoOpenGLError, film.MissingPackageError, film.EncoderError) as error:
            raise UsageError(f"{path} cannot be drawn: {error}") from error
    for world in range(recording.num_worlds):
        gain, cost = recording.cumulative_return[-1, world], recording.cumulative_cost[-1, world]
        print(f"World {world + 1}: {recording.lengths[world]} steps, return {gain:.2f}, cost {cost:g}")
    print(f"Wrote {', '.join(map(str, flags.out))}")


def _watch(steps: Sequence[int], stderr: Console) -> Iterable[int]:
    """Show the number of drawn frames, on a terminal."""
    return track(steps, "  frames", console=stderr, transient=True, disable=not stderr.is_terminal)


def check(flags: Flags) -> None:
    """Refuse what cannot be drawn, before compilation."""
    if not flags.out:
        raise UsageError(f"--out names no file; name one or more that end in: {', '.join(SUFFIXES)}")
    for path in flags.out:
        if path.suffix not in SUFFIXES:
            raise UsageError(f"--out {path} is of no known kind; its name must end in one of: {', '.join(SUFFIXES)}")
    check_counts(flags, "num_worlds", "steps", "moments")
    if flags.cost_limit is not None and not flags.cost_limit >= 0.0:
        raise UsageError(f"--cost-limit is {flags.cost_limit}; it must be at least 0")
    check_at_most("--size", max(flags.size), MOST_PIXELS)
    if min(flags.size) < 64:
        raise UsageError(f"--size is {flags.size[0]} {flags.size[1]}; width and height must be at least 64 pixels")
    if not 0.0 < flags.speed < math.inf:
        raise UsageError(f"--speed is {flags.speed}; it must be above 0")
    check_at_least("--speed", flags.speed, SPEEDS[0])
    check_at_most("--speed", flags.speed, SPEEDS[1])
    check_seed(flags.seed)
    common.check_outputs(*flags.out)
    try:
        if any(path.suffix != ".html" for path in flags.out):
            opengl.choose_backend()
        if any(path.suffix == ".mp4" for path in flags.out):
            film.check_encoder()
    except (opengl.NoOpenGLError, film.MissingPackageError) as error:
        raise UsageError(f"{error}; --out replay.html needs none of this") from error


def record(flags: Flags, stderr: Console) -> Recording:
    """Run the episodes to draw."""
    path = Path(flags.target)
    if run_folder.holds_run(path) or loading.find_file(path):
        evaluator = Evaluator(flags.num_worlds, flags.seed, flags.trust)
        trained = evaluator.load(path, ENGINE)
        run = trained.run_flags
        if run["algo"] in ALGORITHMS and ALGORITHMS[run["algo"]].sees_budget:
            raise UsageError(f"{path} cannot be drawn: the policy of {run['algo']} observes its cost budget")
        env: Any = evaluator.venv(run, ENGINE).env
        act_fn = policy_of(trained.actor, env.action_size if flags.action == "sampled" else None)
        limit = training_options.limit_to_draw(run)
        title = f"{run['algo']} on {run['env']}, seed {run['seed']}, after {trained.env_steps:,} steps"
    elif path.is_dir():
        inside = [str(inner) for inner in run_folder.runs_in(path)]
        hint = f"; it holds the runs {', '.join(inside)}" if inside or sweeps.holds_group(path) else ""
        raise UsageError(f"{path} is not a run folder: it has no config.json{hint}")
    elif "/" in flags.target and ":" not in flags.target:
        raise UsageError(
            f"{path} does not exist; name a run folder, or an environment such as SafetyPointGoal1-v0, "
            "or a policy such as SafetyPointGoal1-v0/ppo-lag"
        )
    else:
        env = environments.build_env(flags.target, ENGINE)
        act_fn, limit, title = episodes.at_random(env), COST_LIMIT, f"{flags.target}, random actions"
    try:
        frames.check_camera(env, flags.camera)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    stderr.print(f"Running {title} ...", highlight=False, soft_wrap=True)
    return episodes.record(
        env,
        act_fn,
        evaluation_key(flags.seed),
        num_worlds=flags.num_worlds,
        num_steps=min(flags.steps or env.episode_length, env.episode_length),
        title=title,
        cost_limit=limit if flags.cost_limit is None else flags.cost_limit,
    )


def policy_of(agent: Actor, noise_size: int | None) -> ActFn:
    """The policy as a function of observations [W, O]. noise_size: A to sample; None for the mean."""

    def act(obs: jax.Array, step: jax.Array, key: jax.Array) -> jax.Array:
        noise = None
        if noise_size is not None:
            noise = jax.random.normal(jax.random.fold_in(key, step), (obs.shape[0], noise_size))
        return actor.act(agent, obs, noise)

    return act
