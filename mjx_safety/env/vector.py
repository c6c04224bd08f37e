"""Many worlds at once: auto-reset to fresh layouts, the last observation of an episode, episode statistics."""

from __future__ import annotations

import math
from typing import Any, Generic, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mjx_safety.core.arguments import as_count, check_action, typed_key, typed_keys
from mjx_safety.core.precision import single_precision
from mjx_safety.env.vector_checks import check_budget, check_fields, check_mask
from mjx_safety.types import Environment

S = TypeVar("S")
Autoreset = Literal["same_step", "next_step", "disabled"]
AUTORESETS = ("same_step", "next_step", "disabled")

POOL = 0x706F6F6C  # folded into a world's key; steps and parts of a split are smaller
MOST_PARTS = 16  # parts of the batch; each has its own pool of fresh worlds
SMALLEST_PART = 32  # worlds; a smaller part would often run out early, and refill all pools


@struct.dataclass
class VecState:
    """B worlds after one step. `types.VectorState` explains the fields.

    With `autoreset="same_step"`, the default, ended episodes are already replaced.
    """

    env_state: Any  # [B] states; of replaced episodes the fresh state, with the outcome of the last step
    final_obs: jax.Array  # [B, O] observation of the step itself, before any reset
    episode_return: jax.Array  # [B]
    episode_cost: jax.Array  # [B]
    episode_costs: jax.Array  # [B, C]
    episode_cost_steps: jax.Array  # [B, C]
    episode_goals: jax.Array  # [B] int32
    episode_length: jax.Array  # [B] int32, steps
    partial: jax.Array  # [B] bool, first episode, shortened by a staggered start
    placement_failed: jax.Array  # [B] bool, the episode ended because an object found no free place
    blew_up: jax.Array  # [B] bool, the episode ended because the physics was not finite
    pool: Any  # [B] fresh states that replace ended episodes
    pool_used: jax.Array  # [G] int32, how many of each of its G parts are used
    key: jax.Array  # [] for the next pool
    blow_up: Any = ()  # the newest `BlowUp`, with `keep_blow_up`

    @property
    def obs(self) -> jax.Array:
        """[B, O] to act on."""
        return self.env_state.obs

    @property
    def reward(self) -> jax.Array:
        """[B] of the step."""
        return self.env_state.reward

    @property
    def cost(self) -> jax.Array:
        """[B] of the step."""
        return self.env_state.cost

    @property
    def costs(self) -> jax.Array:
        """[B, C] of the step, raw."""
        return self.env_state.costs

    @property
    def goal_met(self) -> jax.Array:
        """[B] bool."""
        return self.env_state.goal_met

    @property
    def terminated(self) -> jax.Array:
        """[B] bool."""
        return self.env_state.terminated

    @property
    def truncated(self) -> jax.Array:
        """[B] bool."""
        return self.env_state.truncated

    @property
    def done(self) -> jax.Array:
        """[B] bool, terminated or truncated."""
        return self.env_state.terminated | self.env_state.truncated


@struct.dataclass
class BlowUp:
    """The newest step whose physics was not finite. `env.step(before, action)` repeats it."""

    before: Any  # the state of its world before it
    action: jax.Array  # [A]
    count: jax.Array  # [] int32, blow-ups so far; `before` and `action` mean nothing while it is 0


class VecEnv(Generic[S]):
    """B copies of one environment. Build it with `vectorize`."""

    def __init__(
        self,
        env: Environment[S],
        num_envs: int,
        stagger: bool = False,
        cost_budget: jax.Array | float | None = None,
        autoreset: Autoreset = "same_step",
        keep_blow_up: bool = False,
    ):
        self.env: Environment[S] = env
        self.num_envs: int = num_envs
        self.stagger: bool = stagger
        self.cost_budget: jax.Array | float | None = cost_budget
        self.autoreset: Autoreset = autoreset
        self.keep_blow_up: bool = keep_blow_up
        self._refill = _Refill(env, num_envs)

    def __repr__(self) -> str:
        return f"VecEnv({self.env!r}, num_envs={self.num_envs})"

    @property
    def obs_size(self) -> int:
        """Observation size O, the number of entries."""
        return self.env.obs_size

    @property
    def action_size(self) -> int:
        """Action size A, the number of entries."""
        return self.env.action_size

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of the C cost sources."""
        return self.env.cost_names

    @property
    def episode_length(self) -> int:
        """Steps until `truncated`."""
        return self.env.episode_length

    @property
    def num_parts(self) -> int:
        """Parts of the worlds, each with fresh worlds of its own, so that none comes from another device."""
        return math.gcd(self.num_envs, MOST_PARTS) if self.num_envs >= MOST_PARTS * SMALLEST_PART else 1

    @single_precision
    def reset(self, key: jax.Array) -> VecState:
        """Start B episodes on fresh layouts. With `stagger`, their step counters start uniformly in [0, T)."""
        key, reset_key, stagger_key = jax.random.split(typed_key("reset", key), 3)
        env_state = _reset_all(self.env, reset_key, self.num_envs)
        partial = jnp.zeros(self.num_envs, bool)
        if self.stagger:
            start = jax.random.randint(stagger_key, (self.num_envs,), 0, self.episode_length, jnp.int32)
            env_state, partial = self._at_step(env_state, start), start > 0
        return self._begin(env_state, partial, key)

    @single_precision
    def reset_each(self, keys: jax.Array) -> VecState:
        """Start B episodes, each as `env.reset` does with its own key. keys: [B]."""
        keys = typed_keys("reset_each", keys, self.num_envs)
        env_state = jax.vmap(self.env.reset)(keys)
        return self._begin(env_state, jnp.zeros(self.num_envs, bool), jax.random.fold_in(keys[0], POOL))

    def restart(self, states: VecState, begun: VecState, chosen: jax.Array) -> VecState:
        """Put the first states of `begun` into the chosen worlds [B] bool.

        Raises ValueError unless both are states of these B worlds, and `chosen` has a bool for each.
        """
        for each in (states, begun):
            self._check_states(each, "restart")
        check_mask(chosen, self.num_envs, "restart")
        shared = ["pool_used", "key", "blow_up"]
        if not getattr(self.env, "keeps_layout", False):  # with a kept layout, the pool holds the layout of each world
            shared.append("pool")
        names = [name for name in states.__dataclass_fields__ if name not in shared]
        new, old = ({name: getattr(each, name) for name in names} for each in (begun, states))
        return states.replace(**choose_worlds(chosen, new, old))

    def _begin(self, env_state: Any, partial: jax.Array, key: jax.Array) -> VecState:
        """Begin to count. The pool counts as used: the first ended episode refills it."""
        check_fields(self, env_state, "reset")
        return VecState(
            env_state=env_state,
            final_obs=jnp.copy(env_state.obs),  # copies, so that all buffers can be donated
            episode_return=jnp.zeros(self.num_envs, jnp.float32),
            episode_cost=jnp.zeros(self.num_envs, jnp.float32),
            episode_costs=jnp.zeros(env_state.costs.shape, jnp.float32),  # also of costs that are bools or integers
            episode_cost_steps=jnp.zeros(env_state.costs.shape, jnp.float32),
            episode_goals=jnp.zeros(self.num_envs, jnp.int32),
            episode_length=jnp.zeros(self.num_envs, jnp.int32),
            partial=partial,
            placement_failed=_flag(env_state, "placement_failed"),
            blew_up=_flag(env_state, "blew_up"),
            pool=jax.tree.map(jnp.copy, env_state),
            pool_used=jnp.full(self.num_parts, self.num_envs // self.num_parts, jnp.int32),
            key=key,
            blow_up=self._no_blow_up(env_state) if self.keep_blow_up else (),
        )

    def _no_blow_up(self, env_state: Any) -> BlowUp:
        before = jax.tree.map(lambda leaf: jnp.copy(leaf[0]), env_state)
        return BlowUp(before, jnp.zeros(self.action_size, jnp.float32), jnp.int32(0))

    def _find_blow_up(self, last: BlowUp, before: Any, actions: jax.Array, blew_up: jax.Array) -> BlowUp:
        """Keep one of the worlds that blew up [B] bool, if any did."""
        index, num = jnp.argmax(blew_up), jnp.sum(blew_up, dtype=jnp.int32)
        here = BlowUp(jax.tree.map(lambda leaf: leaf[index], before), actions[index].astype(jnp.float32), num)
        found = jax.tree.map(lambda new, old: jnp.where(num > 0, new, old), here, last)
        return found.replace(count=last.count + num)

    @single_precision
    def step(self, states: VecState, actions: jax.Array) -> VecState:
        """Advance all worlds, and replace ended ones by fresh ones. actions: [B, A] in [-1, 1].

        Fresh worlds come from a pool of B. One batched reset refills it when it runs out. With episodes of T steps this
        happens once every T steps, whether the episodes end together or one by one.
        """
        shape = (self.num_envs, self.action_size)
        check_action(actions, shape, f"{self.num_envs} worlds take {shape}")
        actions = jnp.asarray(actions)
        self._check_states(states, "step")
        running = ~states.done  # `done` refers to the previous step, so reset those worlds' counters here
        before = states.env_state
        stepped = jax.vmap(self.env.step)(before, actions)
        check_fields(self, stepped, "step")
        if self.autoreset == "next_step":  # worlds that had ended begin here, whatever their action
            states, fresh = self._draw_fresh(states, ~running)
            stepped = choose_worlds(running, stepped, fresh)
        states = self._count(states, stepped, running)
        if self.cost_budget is not None:
            stepped = stepped.replace(terminated=stepped.terminated | (states.episode_cost >= self.cost_budget))
        blew_up, blow_up = _flag(stepped, "blew_up"), states.blow_up
        if self.keep_blow_up:
            blow_up = self._find_blow_up(blow_up, before, actions, blew_up)
        final_obs, env_state = stepped.obs, stepped
        if self.autoreset == "same_step":
            done = stepped.terminated | stepped.truncated
            states, fresh = self._draw_fresh(states, done)
            outcome = ("reward", "cost", "costs", "goal_met", "terminated", "truncated")
            fresh = fresh.replace(**{name: getattr(stepped, name) for name in outcome})
            env_state = choose_worlds(done, fresh, stepped)
        return states.replace(
            env_state=env_state,
            final_obs=final_obs,
            placement_failed=_flag(stepped, "placement_failed"),
            blew_up=blew_up,
            blow_up=blow_up,
        )

    def _check_states(self, states: Any, caller: str) -> None:
        """Raise ValueError unless they are states of this number of worlds, with the same `keep_blow_up`."""
        if not isinstance(states, VecState) or jnp.shape(states.done) != (self.num_envs,):
            given = (
                f"a VecState of {len(states.done)}" if isinstance(states, VecState) else f"a {type(states).__name__}"
            )
            raise ValueError(
                f"{caller} got {given} as its states; it takes the VecState of its own {self.num_envs} worlds"
            )
        if isinstance(states.blow_up, BlowUp) != self.keep_blow_up:
            begun = f"with keep_blow_up={not self.keep_blow_up}"
            raise ValueError(
                f"{caller} got states that began {begun}; this VecEnv has keep_blow_up={self.keep_blow_up}"
            )

    def _count(self, states: VecState, stepped: Any, running: jax.Array) -> VecState:
        """Add a step to the totals. running: [B] bool, False where an episode begins with this call."""

        def total(old: jax.Array, new: jax.Array) -> jax.Array:
            shape = running.shape + (1,) * (old.ndim - 1)
            before = jnp.where(running.reshape(shape), old, jnp.zeros_like(old))
            if self.autoreset == "next_step":  # no step was taken where an episode begins
                new = jnp.where(running.reshape(shape), new, jnp.zeros_like(new))
            return before + new.astype(old.dtype)

        return states.replace(
            episode_return=total(states.episode_return, stepped.reward),
            episode_cost=total(states.episode_cost, stepped.cost),
            episode_costs=total(states.episode_costs, stepped.costs),
            episode_cost_steps=total(states.episode_cost_steps, stepped.costs > 0.0),
            episode_goals=total(states.episode_goals, stepped.goal_met),
            episode_length=total(states.episode_length, jnp.ones_like(states.episode_length)),
            partial=states.partial & running,
        )

    def _draw_fresh(self, states: VecState, done: jax.Array) -> tuple[VecState, Any]:
        """Return fresh worlds [B] for those that are done. With kept layouts they start again in the same layout."""
        num_done = self._count_by_part(done)
        if getattr(self.env, "keeps_layout", False):
            key, fresh_key = jax.random.split(states.key)
            fresh = self._at_step(states.pool, jnp.zeros_like(states.pool.step_count))  # only the first is staggered
            fresh = fresh.replace(key=jax.random.split(fresh_key, self.num_envs))
            return states.replace(key=key, pool_used=states.pool_used + num_done), fresh
        states = self._refill_pool(states, done)
        size = self.num_envs // self.num_parts
        rank = jnp.cumsum(done.reshape(self.num_parts, size), axis=1, dtype=jnp.int32)  # of ended episodes
        index = jnp.clip(states.pool_used[:, None] + rank - 1, 0, size - 1)

        def draw(leaf: jax.Array) -> jax.Array:
            parts = leaf.reshape(self.num_parts, size, *leaf.shape[1:])
            return jax.vmap(lambda part, index: part[index])(parts, index).reshape(leaf.shape)

        return states.replace(pool_used=states.pool_used + num_done), jax.tree.map(draw, states.pool)

    def _count_by_part(self, done: jax.Array) -> jax.Array:
        """How many episodes ended in each part [G]. done: [B] bool."""
        return jnp.sum(done.reshape(self.num_parts, -1), axis=1, dtype=jnp.int32)

    def _refill_pool(self, states: VecState, done: jax.Array) -> VecState:
        """Draw B fresh worlds if in any part fewer are left than episodes ended.

        This is a loop of at most one turn, not a conditional. Under `vmap`, such as over seeds, a conditional would
        draw them in every step.
        """
        room = self.num_envs // self.num_parts - self._count_by_part(done)  # [G] used ones at most, else it runs out
        carry = (states.pool, states.pool_used, states.key, room)
        pool, pool_used, key, _ = jax.lax.while_loop(_runs_out, self._refill, carry)
        return states.replace(pool=pool, pool_used=pool_used, key=key)

    def _at_step(self, env_state: Any, step_count: jax.Array) -> Any:
        """Put worlds at other steps of their episodes. step_count: [B] int32."""
        at_step = getattr(self.env, "at_step", None)  # an environment may observe its step
        return env_state.replace(step_count=step_count) if at_step is None else jax.vmap(at_step)(env_state, step_count)


class _Refill:
    """The turn of the loop that refills the pool. One object per `VecEnv`, so that JAX traces it once."""

    def __init__(self, env: Any, num_envs: int):
        self.env, self.num_envs = env, num_envs

    def __call__(self, carry: tuple) -> tuple:
        """Return a fresh pool [B], none of it used."""
        _, pool_used, key, room = carry
        key, reset_key = jax.random.split(key)
        return _reset_all(self.env, reset_key, self.num_envs), jnp.zeros_like(pool_used), key, room


def _runs_out(carry: tuple) -> jax.Array:
    """Whether in any part fewer worlds are left than episodes ended, [] bool."""
    _, pool_used, _, room = carry
    return jnp.any(pool_used > room)


def _reset_all(env: Any, key: jax.Array, num: int) -> Any:
    """Start `num` episodes [num]."""
    reset_many = getattr(env, "reset_many", None)  # an environment may have a faster way
    return jax.vmap(env.reset)(jax.random.split(key, num)) if reset_many is None else reset_many(key, num)


def vectorize(
    env: Environment[S],
    num_envs: int,
    *,
    stagger: bool = False,
    cost_budget: jax.Array | float | None = None,
    autoreset: Autoreset = "same_step",
    keep_blow_up: bool = False,
) -> VecEnv[S]:
    """Run `num_envs` worlds side by side with auto-reset to fresh layouts.

    Returns a `VecEnv`: `reset(key)` starts a `VecState`, and `step(states, actions)` advances it. Both are pure.

    stagger: start the worlds at different times of their first episode, so that each batch of steps has all phases of
      an episode. `partial` marks these shortened first episodes.
    cost_budget: terminate an episode once its cost reaches this (early termination, arXiv 2107.04200).
    autoreset: when an ended episode is replaced: in the step that ends it ("same_step", what the agents need), in the
      step after it, which ignores the action ("next_step"), or never ("disabled"); `VecEnv.restart` then does it.
    keep_blow_up: keep the newest step whose physics was not finite, in `VecState.blow_up`.
    """
    if isinstance(env, type) or not hasattr(env, "step"):
        given = f"the class {env.__name__}" if isinstance(env, type) else f"a {type(env).__name__}"
        raise ValueError(f"vectorize got {given}; it takes an environment, such as of mjx_safety.make")
    whole = as_count(num_envs)
    if whole is None:
        raise ValueError(f"num_envs is {num_envs!r}; it must be a whole number of at least 1")
    if autoreset not in AUTORESETS:
        raise ValueError(f"autoreset is {autoreset!r}; it must be one of {', '.join(AUTORESETS)}")
    for name, flag in {"stagger": stagger, "keep_blow_up": keep_blow_up}.items():
        if not isinstance(flag, (bool, np.bool_)):
            raise ValueError(f"{name} is {flag!r}; it must be True or False")
    check_budget(cost_budget, whole)
    return VecEnv(env, whole, bool(stagger), cost_budget, autoreset, bool(keep_blow_up))


def _flag(env_state: Any, name: str) -> jax.Array:
    """[B] bool. A user's own environment may lack this field."""
    return getattr(env_state, name, jnp.zeros_like(env_state.terminated))


def choose_worlds(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    """Choose world by world. condition: [B]; the trees' leaves: [B, ...]."""

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(choose, if_true, if_false)
