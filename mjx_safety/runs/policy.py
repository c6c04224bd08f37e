"""A trained policy as a function of raw observations: `policy = load_policy("runs/first")`, then `policy(obs)`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_safety.agents import actor
from mjx_safety.agents.types import Actor
from mjx_safety.core.arguments import typed_key


@dataclasses.dataclass(frozen=True, eq=False)  # compared and hashed by identity, so it may be a static argument
class Policy:
    """A policy of a training. Pure, so it works under jit, vmap and scan; the normalisation is inside."""

    env_id: str
    """Environment of the training."""
    obs_size: int
    """Observation size O, the number of entries."""
    action_size: int
    """Action size A, the number of entries."""
    obs_slices: dict[str, slice]
    """Where each part stands in an observation, if the environment says so."""
    action_names: tuple[str, ...]
    """Names of the A actuators, if the environment says so."""
    actor: Actor
    """The network and the moments of the observations, as arrays."""
    origin: dict[str, Any]
    """Where it comes from: `config` of the training as in config.json, `env_steps`, `versions`, `evaluation`."""

    def __repr__(self) -> str:
        run = self.origin.get("config", {}).get("run", {})
        known = [f"{word} {run[name]}" for name, word in {"algo": "by", "seed": "seed"}.items() if name in run]
        if "env_steps" in self.origin:
            known.append(f"{self.origin['env_steps']:,} steps")
        return f"Policy({', '.join([self.env_id, *known, f'[{self.obs_size}] -> [{self.action_size}]'])})"

    def __call__(self, obs: Any, key: jax.Array | None = None, *, deterministic: bool | None = None) -> Any:
        """Return actions [..., A] in [-1, 1] for raw observations [..., O]: the mean, or with a key a sample.

        obs: NumPy arrays give NumPy arrays, JAX arrays give JAX arrays. deterministic: True takes the mean although a
        key is given. Raises ValueError for observations of another size, for what is no key, and for False without a
        key.
        """
        shape = self._check(obs)
        if deterministic is False and key is None:
            raise ValueError("deterministic=False needs a key: policy(obs, jax.random.key(0))")
        noise = None
        if key is not None and not deterministic:
            key = typed_key("policy", key, "one key serves a batch of observations; for a key each, use jax.vmap")
            noise = jax.random.normal(key, (*shape[:-1], self.action_size), jnp.float32)
        action = self._act(jnp.asarray(obs, jnp.float32), noise)
        is_jax = isinstance(obs, jax.Array) or isinstance(action, jax.core.Tracer)  # traced where only the key is
        return action if is_jax else np.asarray(action)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is compiled, which cannot be pickled."""
        return {name: value for name, value in vars(self).items() if name != "_act"}

    @functools.cached_property
    def _act(self) -> Callable[[jax.Array, jax.Array | None], jax.Array]:
        """Compiled, so that loops on the host are fast too."""
        return jax.jit(partial(actor.act, self.actor))

    def normalise(self, obs: Any) -> jax.Array:
        """What the network sees of raw observations [..., O], float32. Raises ValueError for another size."""
        self._check(obs)
        return actor.normalise(self.actor, jnp.asarray(obs, jnp.float32))

    def _check(self, obs: Any) -> tuple[int, ...]:
        """Return the shape of observations [..., O]. Raises ValueError for another size."""
        shape = np.shape(obs)
        if not shape or shape[-1] != self.obs_size:
            raise ValueError(f"obs has shape {shape}; the policy of {self.env_id} takes [..., {self.obs_size}]")
        return shape
