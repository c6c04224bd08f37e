"""Finds policies in run folders, in files and by the names of the shipped ones; keeps those of checkpoints (host)."""

from __future__ import annotations

import difflib
from functools import partial
from pathlib import Path
from typing import Any

import jax

from mjx_safety.agents import checkpoint
from mjx_safety.agents.types import Algorithm
from mjx_safety.registry import make
from mjx_safety.runs import policy_files, randomizing, run_folder, training_checks
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.policy import Policy
from mjx_safety.runs.training_options import Options
from mjx_safety.types import Sizes

SHIPPED = Path(__file__).parent.parent / "policies"  # <environment id>/<algorithm>.npz


def load_policy(source: str | Path, *, trust: bool = False) -> Policy:
    """Read a policy from a run folder (its newest checkpoint), from an .npz file of `mjx_safety.export`, or by name.

    Names such as `SafetyPointGoal1-v0/ppo-lag` are files that come with the package (`shipped_policies`). A path may
    leave out the .npz, so a folder of such files works in the same way. A run folder of exactly that path takes
    precedence over both. Compiles nothing. trust: import the environment of a run that names package.module:factory;
    nothing else in a run folder is code. Raises ValueError for a folder that is not a run or has no checkpoint, for
    another version, and for an unknown name.
    """
    if file := find_file(source):
        return policy_files.read_npz(file)
    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(_unknown(str(source)))
    if not run_folder.holds_run(folder):
        inside = run_folder.runs_in(folder)
        hint = f"; name one of the {len(inside)} in it, such as {inside[0]}" if inside else ""
        raise ValueError(f"{folder} is not a run folder: it has no config.json{hint}")
    found = checkpoint.latest(folder / "checkpoints")
    if found is None:
        raise ValueError(f"{folder} has no checkpoint yet")
    try:
        config = run_folder.read_config(folder)
        run_folder.check_trust(run_folder.read_options(folder / run_folder.CONFIG).run.env, folder, trust)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return of_checkpoint(found, config)


def of_checkpoint(path: Path, config: dict[str, Any], env: Sizes | None = None) -> Policy:
    """Read the policy in a checkpoint. config: of its training; env: of its training, None: made from `config`.

    Raises ValueError for a config or a checkpoint of another version.
    """
    options = _options(path.parent.parent, config)
    algorithm = options.build()
    sizes: Any = env
    if sizes is None:
        sizes = make(randomizing.config_for(options.run.env, options.run.randomize), physics="mujoco")
    worlds = options.worlds(sizes)
    agent = _restore(path, algorithm, worlds)
    model = getattr(sizes, "mj_model", None)
    return Policy(
        env_id=options.run.env,
        obs_size=worlds.obs_size,
        action_size=sizes.action_size,
        obs_slices=dict(getattr(sizes, "obs_slices", {})),
        action_names=() if model is None else tuple(model.actuator(i).name for i in range(model.nu)),
        actor=algorithm.actor(agent.params, agent.normaliser),
        origin={
            "config": options.to_config(),
            "env_steps": int(agent.num_rollouts) * options.run.num_envs * options.train.unroll_length,
            "versions": config.get("machine", {}).get("versions", {}),
        },
    )


def _options(folder: Path, config: dict[str, Any]) -> Options:
    try:
        options = Options.from_config(config)
        training_checks.check(options)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise ValueError(f"{folder}/config.json does not fit this version of mjx_safety: {error}") from error
    return options


def _restore(path: Path, algorithm: Algorithm, sizes: Sizes) -> Any:
    like = jax.eval_shape(partial(algorithm.init, sizes), jax.random.key(0))
    try:
        return checkpoint.restore_agent(path, like)
    except checkpoint.CheckpointError as error:
        raise ValueError(f"the checkpoint {path} cannot be read: {error}") from error


def keep_policy(path: Path, config: dict[str, Any]) -> Path:
    """Keep the policy of a checkpoint in the run folder, as policies/<environment steps>.npz. Returns the file."""
    policy = of_checkpoint(path, config)
    file = path.parent.parent / "policies" / f"{policy.origin['env_steps']:012d}.npz"
    policy_files.write_npz(policy, file)
    return file


def find_file(source: str | Path) -> Path | None:
    """The .npz file that a path or a name means, or None. A run folder of that path, or a folder of runs, hides it."""
    path = Path(source)
    if run_folder.holds_run(path) or run_folder.runs_in(path):
        return None
    if path.suffix == ".npz":
        return path if path.is_file() else None
    for candidate in (path, SHIPPED / path) if path.name else ():
        file = candidate.with_name(f"{candidate.name}.npz")
        if file.is_file():
            return file
    return None


def shipped_policies() -> tuple[str, ...]:
    """Names of the policies that come with the package: `<environment id>/<algorithm>`."""
    return tuple(sorted(f"{file.parent.name}/{file.stem}" for file in SHIPPED.glob("*/*.npz")))


def _unknown(source: str) -> str:
    near = difflib.get_close_matches(source, shipped_policies(), n=3)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return f"{source} is no run folder, no .npz file and no shipped policy{hint}; `python -m mjx_safety` lists those"
