"""Behaviour cloning on recorded data: `python -m mjx_safety.clone data.hdf5 --out cloned.npz`."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from mjx_safety.agents.cloning import CloningConfig, clone
from mjx_safety.cli import common
from mjx_safety.runs import datasets, environments, errors, policy_files, run_folder
from mjx_safety.runs.errors import RunError, UsageError
from mjx_safety.runs.policy import Policy


@dataclasses.dataclass(frozen=True)
class Flags:
    """Learn a policy from recorded episodes, without an environment, by behaviour cloning.

    It imitates the episodes with the highest returns among those within the cost limit. The result is an .npz file that
    `evaluate`, `render`, `export` and `load_policy` take.
    """

    data: tyro.conf.Positional[str]
    """File with DSRL's keys, such as that of `record`, or minari:NAME."""
    out: Path = Path("cloned.npz")
    """File of the policy; it must end in .npz."""
    cost_limit: float = 25.0
    """Imitate only episodes whose cost is at most this."""
    best: float = 1.0
    """Share of these episodes to imitate, those with the highest returns, in (0, 1]."""
    env: str = ""
    """Environment; by default the one that the data name."""
    hidden_sizes: tuple[int, ...] = CloningConfig.hidden_sizes
    """Units per layer."""
    num_updates: int = CloningConfig.num_updates
    """Gradient steps."""
    batch_size: int = CloningConfig.batch_size
    """Steps per gradient step."""
    learning_rate: float = CloningConfig.learning_rate
    """Step size of Adam at the start. It falls to 0."""
    seed: int = 0
    """Seed of all random numbers."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    common.check_lists(argv, Flags)
    flags = tyro.cli(Flags, prog="python -m mjx_safety.clone", args=list(argv))
    _check(flags)
    try:
        arrays, about = datasets.read(flags.data)
    except ImportError as error:
        raise UsageError(f"{flags.data} needs {error.name}: pip install 'mjx-safety[data]'") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    env_id = flags.env or about.get("env", "")
    if not env_id:
        raise UsageError(f"{flags.data} does not name its environment; say it with --env")
    if ":" in env_id and not flags.env:
        raise UsageError(
            f"{flags.data} names the environment {env_id}, which is code; say it with --env if you trust it"
        )
    words = tuple(map(str, about.get("randomize", ())))
    env = environments.build_env(env_id, "mujoco", randomize=words)
    sizes = arrays["observations"].shape[1], arrays["actions"].shape[1]
    if sizes != (env.obs_size, env.action_size):
        its = f"[{env.obs_size}] and [{env.action_size}]"
        raise UsageError(f"{flags.data} has observations [{sizes[0]}] and actions [{sizes[1]}], and {env_id} has {its}")
    common.set_up_jax(compilation_cache=True)
    chosen = choose(arrays, flags)
    config = CloningConfig(flags.hidden_sizes, flags.num_updates, flags.batch_size, flags.learning_rate)
    obs, action = (jnp.asarray(arrays[name][chosen], jnp.float32) for name in ("observations", "actions"))
    agent, losses = jax.jit(partial(clone, config))(obs, action, jax.random.key(flags.seed))
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(agent)):
        raise RunError("the policy is not finite, so it was not written; try a smaller --learning-rate")
    tail = losses[-max(1, len(losses) // 10) :]
    print(f"Mean squared error: {np.mean(losses[:100]):.4f} at the start, {np.mean(tail):.4f} at the end")
    run = {"env": env_id, "algo": "clone", "seed": flags.seed, "cost_limit": flags.cost_limit, "cost_limits": []}
    run |= {"randomize": list(words)}
    origin = {
        "config": {"run": run | {"physics": about.get("physics", "auto")}, "algorithm": dataclasses.asdict(config)},
        "env_steps": int(chosen.sum()),
        "versions": about.get("machine", {}).get("versions", {}),
        "data": {"source": flags.data, "policies": about.get("policies", []), "best": flags.best},
    }
    model = getattr(env, "mj_model", None)
    names = () if model is None else tuple(model.actuator(i).name for i in range(model.nu))
    slices = dict(getattr(env, "obs_slices", {}))
    policy_files.write_npz(Policy(env_id, *sizes, slices, names, agent, origin), flags.out)
    path = shlex.quote(str(flags.out))
    print(f"Wrote {flags.out}. Evaluate: python -m mjx_safety.evaluate {path}{run_folder.trust_flag(env_id)}")


def _check(flags: Flags) -> None:
    if flags.out.suffix != ".npz":
        raise UsageError(f"--out {flags.out} must end in .npz")
    common.check_outputs(flags.out)
    if not 0.0 < flags.best <= 1.0:
        raise UsageError(f"--best is {flags.best}; it must be above 0 and at most 1")
    if math.isnan(flags.cost_limit):
        raise UsageError("--cost-limit is nan; it must be a number")
    if not 0.0 < flags.learning_rate < math.inf:
        raise UsageError(f"--learning-rate is {flags.learning_rate}; it must be above 0 and finite")
    errors.check_seed(flags.seed)
    errors.check_counts(flags, "num_updates", "batch_size")
    if not flags.hidden_sizes or min(flags.hidden_sizes) < 1:
        raise UsageError(f"--hidden-sizes is {flags.hidden_sizes}; it must be numbers of units, each at least 1")
    errors.check_at_most("--hidden-sizes", max(flags.hidden_sizes))


def choose(arrays: Mapping[str, Any], flags: Flags) -> np.ndarray:
    """Steps [M] bool of the episodes to imitate. Raises UsageError if none is within the limit."""
    gains, costs = (datasets.episode_sums(arrays, name) for name in ("rewards", "costs"))
    safe = costs <= flags.cost_limit
    if not safe.any():
        least = f"the least costly of {len(costs)} has {costs.min():g}" if len(costs) else "it has no whole episode"
        raise UsageError(f"no episode of {flags.data} costs at most --cost-limit {flags.cost_limit:g}; {least}")
    kept = safe & (gains >= np.quantile(gains[safe], 1.0 - flags.best))
    print(
        f"Imitating {kept.sum()} of {len(kept)} episodes: "
        f"return {gains[kept].mean():.2f}, cost {costs[kept].mean():.1f}"
    )
    bounds = datasets.episode_bounds(arrays)
    chosen = np.zeros(len(arrays["rewards"]), bool)
    chosen[: bounds[-1]] = np.repeat(kept, np.diff(bounds))
    return chosen
