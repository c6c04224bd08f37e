"""A trained policy as a function of raw observations: `policy = load_policy("runs/first")`, then `policy(obs)`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_safety.agents import checkpoint, running_stats
from mjx_safety.agents.types import Algorithm, RunningStats
from mjx_safety.registry import make
from mjx_safety.runs import run_folder
from mjx_safety.runs.training_options import UsageError


@dataclasses.dataclass(frozen=True)
class Policy:
    """A policy of a training. Pure, so it works under jit, vmap and scan; the normalisation is inside."""

    env_id: str
    """Environment of the training."""
    obs_size: int
    """O."""
    action_size: int
    """A."""
    obs_slices: dict[str, slice]
    """Where each part stands in an observation, if the environment says so."""
    algorithm: Algorithm
    """The algorithm, whose `act` this calls."""
    params: Any
    """Parameters of its networks."""
    normaliser: RunningStats
    """Moments of the observations in training."""

    def __call__(self, obs: Any, key: jax.Array | None = None, *, deterministic: bool | None = None) -> Any:
        """Return actions [..., A] in [-1, 1] for raw observations [..., O]: the mean, or with a key a sample.

        obs: NumPy arrays give NumPy arrays, JAX arrays give JAX arrays. deterministic: True takes the mean although a
        key is given. Raises ValueError for observations of another size, and for False without a key.
        """
        shape = np.shape(obs)
        if not shape or shape[-1] != self.obs_size:
            raise ValueError(f"obs has shape {shape}; the policy of {self.env_id} takes [..., {self.obs_size}]")
        if deterministic is False and key is None:
            raise ValueError("deterministic=False needs a key: policy(obs, jax.random.key(0))")
        noise = None
        if key is not None and not deterministic:
            noise = jax.random.normal(key, (*shape[:-1], self.action_size))
        action = self._act(jnp.asarray(obs, jnp.float32), noise)
        return action if isinstance(obs, jax.Array) else np.asarray(action)

    @functools.cached_property
    def _act(self) -> Callable[[jax.Array, jax.Array | None], jax.Array]:
        """Compiled, so that loops on the host are fast too."""
        return jax.jit(lambda obs, noise: self.algorithm.act(self.params, self.normalise(obs), noise))

    def normalise(self, obs: jax.Array) -> jax.Array:
        """What the networks see of raw observations [..., O]."""
        return running_stats.normalise(self.normaliser, obs)


def load_policy(path: str | Path, *, trust: bool = False) -> Policy:
    """Read the policy of a run folder, from its newest checkpoint.

    Builds the environment to learn its sizes, and compiles nothing. trust: import the environment if the run names
    package.module:factory. Nothing else in a run folder is code. Raises ValueError for a folder that is no run, has no
    checkpoint, or is of another version.
    """
    folder = Path(path)
    if not run_folder.holds_run(folder):
        raise ValueError(f"{folder} is not a run folder: it has no config.json")
    found = checkpoint.latest(folder / "checkpoints")
    if found is None:
        raise ValueError(f"{folder} has no checkpoint yet")
    try:
        options = run_folder.read_options(folder / run_folder.CONFIG)
        run_folder.check_trust(options, folder, trust)
        algorithm = options.build()
    except UsageError as error:
        raise ValueError(str(error)) from error
    env = make(options.run.env, physics="mujoco")
    agent = checkpoint.restore_agent(found, jax.eval_shape(partial(algorithm.init, env), jax.random.key(0)))
    return Policy(
        env_id=options.run.env,
        obs_size=env.obs_size,
        action_size=env.action_size,
        obs_slices=dict(getattr(env, "obs_slices", {})),
        algorithm=algorithm,
        params=agent.params,
        normaliser=agent.normaliser,
    )
