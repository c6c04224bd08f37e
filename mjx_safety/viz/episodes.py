"""Whole episodes as arrays on the host, for films and replays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mjx_safety.env.base import AbstractEnv
from mjx_safety.env.vector import choose_worlds
from mjx_safety.types import State

ActFn = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # obs [W, O], step [], key [] -> actions [W, A]
HOLD = 10  # steps that a random action lasts


@dataclasses.dataclass(frozen=True)
class Recording:
    """W worlds, T steps. After its episode a world stands still, without reward and cost."""

    env: AbstractEnv
    states: State  # numpy [T + 1, W, ...]; without keys
    title: str
    cost_limit: float

    @property
    def num_steps(self) -> int:
        """Number of steps T."""
        return len(self.states.reward) - 1

    @property
    def num_worlds(self) -> int:
        """Number of worlds W."""
        return self.states.reward.shape[1]

    @property
    def cumulative_return(self) -> np.ndarray:
        """Return so far, [T + 1, W]."""
        return np.cumsum(self.states.reward, axis=0, dtype=float)

    @property
    def cumulative_cost(self) -> np.ndarray:
        """Cost so far, [T + 1, W]. The cost of the first state counts in no episode."""
        return np.cumsum(np.where(np.arange(self.num_steps + 1)[:, None] > 0, self.states.cost, 0.0), axis=0)

    @property
    def shown_limit(self) -> float:
        """The cost limit; infinite where nothing costs."""
        return self.cost_limit if self.env.cost_names else float("inf")

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each episode, [W]."""
        return np.asarray(self.states.step_count[-1])

    def at(self, step: int, world: int) -> State:
        """One world at one time."""
        return jax.tree.map(lambda leaf: leaf[step, world], self.states)


def record(
    env: AbstractEnv, act_fn: ActFn, key: jax.Array, *, num_worlds: int, num_steps: int, title: str, cost_limit: float
) -> Recording:
    """Run one episode in each fresh world, for at most `num_steps` steps."""
    reset_key, act_key = jax.random.split(key)
    first = jax.jit(jax.vmap(env.reset))(jax.random.split(reset_key, num_worlds))
    rest = jax.jit(partial(_run, env, act_fn, num_steps))(first, act_key)
    both = jax.tree.map(lambda a, b: np.concatenate([a[None], b]), *jax.device_get((_without_key(first), rest)))
    over = (both.terminated | both.truncated).all(axis=1)
    end = int(np.argmax(over)) if over.any() else num_steps
    return Recording(env, jax.tree.map(lambda leaf: leaf[: end + 1], both), title, cost_limit)


def at_random(env: AbstractEnv) -> ActFn:
    """Return a policy that draws a new random action every `HOLD` steps."""

    def act(obs: jax.Array, step: jax.Array, key: jax.Array) -> jax.Array:
        shape = (obs.shape[0], env.action_size)
        return jax.random.uniform(jax.random.fold_in(key, step // HOLD), shape, minval=-1.0, maxval=1.0)

    return act


def _run(env: AbstractEnv, act_fn: ActFn, num_steps: int, first: State, key: jax.Array) -> State:
    """States [T, W] after each step."""

    def step(states: State, number: jax.Array) -> tuple[State, State]:
        over = states.terminated | states.truncated
        stepped = jax.vmap(env.step)(states, act_fn(states.obs, number, key))
        zero = jnp.zeros_like(states.reward)
        frozen = states.replace(
            reward=zero, cost=zero, costs=jnp.zeros_like(states.costs), goal_met=jnp.zeros_like(states.goal_met)
        )
        states = choose_worlds(over, frozen, stepped)
        return states, _without_key(states)

    return jax.lax.scan(step, first, jnp.arange(num_steps))[1]


def _without_key(states: State) -> State:
    return states.replace(key=None)
