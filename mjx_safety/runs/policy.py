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
from mjx_safety.agents.types import Actor, Algorithm, TrainState
from mjx_safety.core.arguments import typed_key

USUAL_LIMIT = 25.0  # on the cost of an episode, where a training has none of its own


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


def of_training(venv: Any, algorithm: Algorithm, state: TrainState, env_id: str, algo: str, seed: int) -> Policy:
    """Copy the policy of a training in Python. See `mjx_safety.make_policy`."""
    _check_training(state, env_id)
    worlds = venv
    while hasattr(worlds, "venv"):  # under a cost budget
        worlds = worlds.venv
    env = getattr(worlds, "env", None)
    constraint, model, counts = algorithm.constraint, getattr(env, "mj_model", None), state.normaliser
    limits = np.asarray(constraint.limits, float).tolist()
    run = {
        "env": env_id,
        "algo": algo,
        "seed": seed,
        "physics": getattr(getattr(env, "physics", None), "name", "auto"),
        "cost_limit": USUAL_LIMIT if constraint.sources or not np.isfinite(limits[0]) else limits[0],
        "cost_limits": [f"{name}={limit:g}" for name, limit in zip(constraint.sources, limits, strict=False)],
    }
    return Policy(
        env_id=env_id,
        obs_size=venv.obs_size,
        action_size=venv.action_size,
        obs_slices=dict(getattr(env, "obs_slices", {})),
        action_names=() if model is None else tuple(model.actuator(i).name for i in range(model.nu)),
        actor=jax.tree.map(jnp.copy, algorithm.actor(state.params, state.normaliser)),  # `train` donates the state
        origin={"config": {"run": run}, "env_steps": int(counts.count_high) * 2**32 + int(counts.count_low)},
    )


def _check_training(state: Any, env_id: Any) -> None:
    """Raise ValueError unless it is the present state of one training, and the id is a text."""
    if not (isinstance(env_id, str) and env_id):
        raise ValueError(f"env_id is {env_id!r}; it must be an environment id, or package.module:factory")
    if not isinstance(state, TrainState):
        raise ValueError(f"make_policy got a {type(state).__name__} as its state; it takes a TrainState: chunk.state")
    if getattr(state.num_rollouts, "is_deleted", lambda: False)():
        raise ValueError("the state was used up by a later call of the training; take the newest chunk.state")
    if np.ndim(state.num_rollouts):
        raise ValueError(
            f"the state holds {len(state.num_rollouts)} trainings; choose one with jax.tree.map(lambda x: x[0], state)"
        )
