"""Whole episodes of a policy, step by step, as arrays on the host: the raw material of data sets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mjx_safety.agents import actor
from mjx_safety.agents.types import Actor
from mjx_safety.core.precision import single_precision
from mjx_safety.types import VectorEnvironment

CHUNK = 100  # steps of a compiled call


class Episode(NamedTuple):
    """One episode of T steps, on the host."""

    obs: np.ndarray  # [T + 1, O] float32 raw, the last one included
    action: np.ndarray  # [T, A] float32 in [-1, 1], as executed
    reward: np.ndarray  # [T] float32
    cost: np.ndarray  # [T] float32
    terminated: bool  # a true end; otherwise the time limit
    policy: int  # index of the policy that acted

    @property
    def episode_return(self) -> float:
        """Sum of rewards."""
        return float(self.reward.sum(dtype=np.float64))

    @property
    def episode_cost(self) -> float:
        """Sum of costs."""
        return float(self.cost.sum(dtype=np.float64))


class Recorder:
    """Records episodes of B worlds side by side. Compiles once for all policies with the same shapes."""

    def __init__(self, venv: VectorEnvironment[Any]):
        """venv: without stagger and without a cost budget."""
        self.venv: VectorEnvironment[Any] = venv
        self._reset = jax.jit(venv.reset)
        self._advance = jax.jit(partial(_advance, venv))

    def record(self, agent: Actor, key: jax.Array, num: int, policy: int, sampled: bool) -> Iterator[list[Episode]]:
        """Record `num` episodes, at most B at a time. policy: index to note; sampled: act by samples, else the mean."""
        for batch, start in enumerate(range(0, num, self.venv.num_envs)):
            batch_key = jax.random.fold_in(key, batch)
            yield self._batch(agent, batch_key, policy, sampled)[: min(num - start, self.venv.num_envs)]

    def _batch(self, agent: Actor, key: jax.Array, policy: int, sampled: bool) -> list[Episode]:
        reset_key, act_key = jax.random.split(key)
        states = self._reset(reset_key)
        first, finished, parts = np.asarray(states.obs), jnp.zeros(self.venv.num_envs, bool), []
        while not np.all(finished):
            act_key, chunk_key = jax.random.split(act_key)
            states, finished, steps = self._advance(agent, states, finished, chunk_key, sampled)
            parts.append(jax.device_get(steps))
        steps = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return [_episode(first, steps, world, policy) for world in range(self.venv.num_envs)]


@single_precision
def _advance(
    venv: VectorEnvironment, agent: Actor, states: Any, finished: jax.Array, key: jax.Array, sampled: jax.Array
) -> tuple[Any, jax.Array, dict[str, jax.Array]]:
    """Take CHUNK steps. finished: [B]. Returns the worlds, who has finished, and the steps [CHUNK, B, ...]."""

    def step(carry: tuple[Any, jax.Array], noise: jax.Array) -> tuple[tuple[Any, jax.Array], dict[str, jax.Array]]:
        states, finished = carry
        action = actor.act(agent, states.obs, jnp.where(sampled, noise, 0.0))
        states = venv.step(states, action)
        row = {
            "action": action,
            "next_obs": states.final_obs,
            "reward": states.reward,
            "cost": states.cost,
            "terminated": states.terminated,
            "used": ~finished,
        }
        return (states, finished | states.done), row

    noise = jax.random.normal(key, (CHUNK, venv.num_envs, venv.action_size))
    with jax.default_matmul_precision("highest"):
        (states, finished), steps = jax.lax.scan(step, (states, finished), noise)
    return states, finished, steps


def _episode(first: np.ndarray, steps: dict[str, np.ndarray], world: int, policy: int) -> Episode:
    """Cut out the episode of one world. first: [B, O]; steps: [T, B, ...]."""
    length = int(steps["used"][:, world].sum())
    part = {name: values[:length, world] for name, values in steps.items()}
    obs = np.concatenate([first[world][None], part["next_obs"]])
    return Episode(obs, part["action"], part["reward"], part["cost"], bool(part["terminated"][-1]), policy)
