"""Brax: an environment for `brax.training`, and for MuJoCo Playground's scripts, which use it.

    from brax.training.agents.ppo import train as ppo
    from mjx_safety.interop import brax
    env = brax.wrap(mjx_safety.make("SafetyPointGoal1-v0"))
    ppo.train(env, wrap_env_fn=brax.wrap_for_training, episode_length=1000, ...)

Always pass `wrap_for_training`. Brax's own `AutoResetWrapper` returns an ended world to its first state, so each world
would keep one layout and one sequence of goals for the whole training.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env as AbstractBraxEnv
from brax.envs.base import State as BraxState
from brax.envs.base import Wrapper
from flax import struct

import mjx_safety
from mjx_safety import AbstractEnv, VecState
from mjx_safety.interop.arguments import require_world
from mjx_safety.interop.named_costs import costs_by_name


class BraxEnv(AbstractBraxEnv):
    """One world with Brax's `reset(rng)` and `step(state, action)`. Build it with `wrap`.

    `pipeline_state` holds this package's state. `done` marks only a true end, because in Brax a wrapper sets the time
    limit. `metrics` has "goals", "cost" and the raw "cost_<source>" of the step. Brax sums them over an episode
    ("eval/episode_cost"). `info` has "cost", "truncation" and "time_out", which is 1.0 at the environment's time limit.
    """

    def __init__(self, env: AbstractEnv):
        self.world = env

    def reset(self, rng: jax.Array) -> BraxState:
        """Start an episode. rng: a typed key [], or a raw key [2]."""
        return self._to_brax(self.world.reset(_typed(rng)), {}, {})

    def step(self, state: BraxState, action: jax.Array) -> BraxState:
        """Advance by one step. Entries of wrappers in `info` and `metrics` stay."""
        return self._to_brax(self.world.step(_unpack(_own_state(state)), action), state.info, state.metrics)

    def _to_brax(self, state: Any, info: dict[str, Any], metrics: dict[str, Any]) -> BraxState:
        return BraxState(
            pipeline_state=_pack(state),
            obs=state.obs,
            reward=state.reward,
            done=state.terminated.astype(jnp.float32),
            metrics=metrics | step_metrics(self.world, state),
            info=info | step_info(state),
        )

    @property
    def observation_size(self) -> int:
        """Observation size O, the number of entries."""
        return self.world.obs_size

    @property
    def action_size(self) -> int:
        """Action size A, the number of entries."""
        return self.world.action_size

    @property
    def backend(self) -> str:
        """Name of the engine."""
        return self.world.physics.name if isinstance(self.world, AbstractEnv) else "jax"

    @property
    def dt(self) -> float:
        """Length of a step, s."""
        return self.world.dt


class FreshLayouts(Wrapper):
    """B worlds with this package's time limit, statistics and auto-reset. Each episode has its own layout.

    It replaces Brax's `VmapWrapper`, `EpisodeWrapper` and `AutoResetWrapper`. It keeps their entries in `info`:
    "steps", "truncation", "episode_done", "episode_metrics". Build it with `wrap_for_training`.
    """

    def reset(self, rng: jax.Array) -> BraxState:
        """Start B episodes. rng: B keys. Only the first is used."""
        keys = _typed(rng)
        if keys.ndim != 1:
            raise ValueError(f"reset got keys of shape {keys.shape}; it takes one per world: jax.random.split(key, B)")
        states = mjx_safety.vectorize(self.unwrapped.world, len(keys)).reset(keys[0])
        return self._to_brax(states, {}, {})

    def step(self, state: BraxState, action: jax.Array) -> BraxState:
        """Advance all worlds. Where `done`, `obs` already belongs to the next episode. action: [B, A]."""
        own = _own_state(state)
        if not isinstance(own, VecState):
            raise ValueError(f"step got the state of a {type(own).__name__}; it takes a state of its own reset")
        batch = mjx_safety.vectorize(self.unwrapped.world, own.done.shape[-1])
        return self._to_brax(batch.step(_unpack(own), action), state.info, state.metrics)

    def _to_brax(self, states: VecState, info: dict[str, Any], metrics: dict[str, Any]) -> BraxState:
        world, done = self.unwrapped.world, states.done.astype(jnp.float32)
        length = states.episode_length.astype(jnp.float32)
        sums = costs_by_name(world, states.episode_costs)
        sums |= {"cost": states.episode_cost, "goals": states.episode_goals.astype(jnp.float32)}
        sums |= {"sum_reward": states.episode_return, "length": length}
        own = {"steps": length, "episode_done": done, "episode_metrics": sums}
        return BraxState(
            pipeline_state=_pack(states),
            obs=states.obs,
            reward=states.reward,
            done=done,
            metrics=metrics | step_metrics(world, states),
            info=info | step_info(states) | own,
        )


def wrap(env: AbstractEnv) -> BraxEnv:
    """Give one world Brax's interface. Raises ValueError for anything else."""
    require_world(env, "wrap")
    return BraxEnv(env)


def wrap_for_training(
    env: AbstractBraxEnv, episode_length: int = 1000, action_repeat: int = 1, randomization_fn: Any = None
) -> FreshLayouts:
    """Make a batch for `train(..., wrap_env_fn=wrap_for_training)`.

    Raises ValueError if the arguments contradict the environment.
    """
    if not isinstance(env, BraxEnv):
        raise ValueError(
            f"wrap_for_training got a {type(env).__name__}; it takes what mjx_safety.interop.brax.wrap returns,"
            f" without another wrapper around it"
        )
    world = env.world
    if episode_length != world.episode_length:
        raise ValueError(
            f"train is given episode_length={episode_length}, and the environment's is {world.episode_length}:"
            f" give the same number to mjx_safety.make(..., episode_length=...)"
        )
    if action_repeat != 1:
        raise ValueError(f"action_repeat is {action_repeat}; use mjx_safety.make(..., frameskip=...) instead")
    if randomization_fn is not None:
        raise ValueError("randomization_fn changes a Brax system, and this environment has none")
    return FreshLayouts(env)


def step_metrics(env: AbstractEnv, state: Any) -> dict[str, jax.Array]:
    """Return the metrics that Brax sums over an episode. state: of one world or of a batch."""
    return {"cost": state.cost, **costs_by_name(env, state.costs), "goals": state.goal_met.astype(jnp.float32)}


def step_info(state: Any) -> dict[str, jax.Array]:
    """Return the info beside observation, reward and done. state: of one world or of a batch."""
    truncated = state.truncated.astype(jnp.float32)
    failed = getattr(state, "placement_failed", jnp.zeros_like(state.truncated)).astype(jnp.float32)
    return {"cost": state.cost, "truncation": truncated, "time_out": truncated, "placement_failed": failed}


@struct.dataclass
class _RawKey:
    """The raw numbers of typed PRNG keys, because Brax's training casts all leaves of a state."""

    numbers: jax.Array
    impl: str = struct.field(pytree_node=False)


def _pack(tree: Any) -> Any:
    """Replace typed keys in a state by their raw numbers."""

    def pack(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        return _RawKey(jax.random.key_data(leaf), str(jax.random.key_impl(leaf)))

    return jax.tree.map(pack, tree)


def _unpack(tree: Any) -> Any:
    """Undo `_pack`."""

    def unpack(leaf: Any) -> Any:
        return jax.random.wrap_key_data(leaf.numbers, impl=leaf.impl) if isinstance(leaf, _RawKey) else leaf

    return jax.tree.map(unpack, tree, is_leaf=lambda leaf: isinstance(leaf, _RawKey))


def _own_state(state: Any) -> Any:
    """Return this package's state in Brax's, packed. Raises ValueError for anything but a state of Brax."""
    if not hasattr(state, "pipeline_state"):
        raise ValueError(f"step got a {type(state).__name__} as its state; it takes the state of its own reset")
    return state.pipeline_state


def _typed(rng: jax.Array) -> jax.Array:
    """Return typed keys [...] for typed keys, or for raw keys [..., 2]. Raises ValueError for anything else."""
    if not isinstance(rng, (jax.Array, np.ndarray)):
        raise ValueError(
            f"the key of reset is of the type {type(rng).__name__}; it takes a key, such as jax.random.key(0)"
        )
    if jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
        return rng  # type: ignore[return-value]
    size = jax.random.key_data(jax.random.key(0)).shape
    if rng.dtype != jnp.uint32 or rng.shape[-1:] != size:
        given = f"{rng.dtype}{list(rng.shape)}"
        raise ValueError(f"the key of reset is {given}; it takes typed keys, or raw ones of uint32[..., {size[0]}]")
    return jax.random.wrap_key_data(jnp.asarray(rng))
