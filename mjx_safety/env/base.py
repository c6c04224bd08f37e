"""The interface of all environments of `make`, for adapters, viewers and programs."""

from __future__ import annotations

import abc
import functools
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjx_safety.core import arguments
from mjx_safety.core.compiled import compiled
from mjx_safety.core.settings import Rectangle
from mjx_safety.sim.scene import SHORTEST
from mjx_safety.sim.state import Measurements, PhysicsState
from mjx_safety.types import Snapshot, State
from mjx_safety.world.objects import AbstractObject

HUGE = 1e10  # m, rad or their rates; MuJoCo itself calls larger values bad (mjMAXVAL)


class AbstractEnv(abc.ABC):
    """One environment on one engine. `reset`, `step`, `snapshot` and `restore` are pure. The caller adds `jax.vmap`.

    A family of environments is a subclass, a settings class, and a line in `registry.py`.
    """

    config: Any  # the settings, whose floats are leaves
    physics: Any  # an `AbstractPhysics`: a subtree on `mjx` and `warp`, static on `mujoco`

    @property
    def keeps_layout(self) -> bool:
        """Whether each world of a batch keeps one layout for all its episodes."""
        return False

    @property
    def track(self) -> tuple[float, float, float]:
        """The following camera: distance m, elevation degrees, height of its target m."""
        return math.hypot(2.0, 2.0), -45.0, 0.0

    @property
    def extents(self) -> Rectangle:
        """The view from above: xmin, ymin, xmax, ymax, in m."""
        return -3.0, -3.0, 3.0, 3.0

    @property
    @abc.abstractmethod
    def entry_sizes(self) -> dict[str, int]:
        """Entries of the observation in order: name -> size."""

    @property
    @abc.abstractmethod
    def cost_names(self) -> tuple[str, ...]:
        """Names of the C entries of `State.costs`: the sources that this environment constrains."""

    @property
    @abc.abstractmethod
    def dt(self) -> float:
        """Length of a step, s."""

    @property
    @abc.abstractmethod
    def robot_name(self) -> str:
        """Name of the robot."""

    @abc.abstractmethod
    def reset(self, key: jax.Array) -> State:
        """Start an episode. key: typed PRNG key []."""

    @abc.abstractmethod
    def step(self, state: State, action: jax.Array) -> State:
        """Advance by one step. action: [A] in [-1, 1]."""

    @abc.abstractmethod
    def snapshot(self, state: State) -> Snapshot:
        """Return the world as plain arrays (see `Snapshot`)."""

    @abc.abstractmethod
    def restore(self, snapshot: Snapshot, key: jax.Array | None = None) -> State:
        """Build the state of a snapshot at the start of a new episode, with reward 0."""

    def reset_many(self, key: jax.Array, num: int) -> State:
        """Start `num` episodes [num], as in a batch of `vectorize`."""
        return self._reset_many(key, arguments.read_num_worlds("reset_many", num))

    @functools.partial(compiled, static="num")
    def _reset_many(self, key: jax.Array, num: int) -> State:
        """One by one; a subclass may have a faster way."""
        return jax.vmap(self.reset)(jax.random.split(arguments.typed_key("reset_many", key), num))

    def at_step(self, state: State, step_count: jax.Array) -> State:
        """Return the same world at another step of its episode. step_count: [] int32."""
        return state.replace(step_count=step_count)

    @property
    def scene(self) -> Any:
        """The scene with the engine's model."""
        return self.physics.scene

    @property
    def objects(self) -> Mapping[str, AbstractObject]:
        """Kinds of objects around the robot: name -> settings."""
        return {}

    @property
    def mj_model(self) -> mujoco.MjModel:
        """The engine's model, compiled by MuJoCo."""
        return self.scene.model

    @property
    def obs_slices(self) -> dict[str, slice]:
        """Slice of each entry in the observation."""
        slices, start = {}, 0
        for name, size in self.entry_sizes.items():
            slices[name] = slice(start, start + size)
            start += size
        return slices

    @property
    def obs_size(self) -> int:
        """Observation size O, the number of entries."""
        return sum(self.entry_sizes.values())

    @property
    def action_size(self) -> int:
        """Action size A, the number of actuators."""
        return self.mj_model.nu

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes that tell this environment's states from those of others: name -> shape of one world's array."""
        sizes = {"obs": self.obs_size, "costs": len(self.cost_names), "qpos": self.mj_model.nq}
        return {name: (size,) for name, size in sizes.items()}

    @property
    def episode_length(self) -> int:
        """Steps until `truncated`."""
        return self.config.episode_length

    @compiled
    def mjx_data(self, state: State) -> Any:
        """Return the engine's complete data of a state: an up-to-date `mjx.Data`, on `mjx` and `warp`."""
        return self.physics.data(state.data)


def check_state(env: AbstractEnv, state: Any, caller: str = "step") -> None:
    """Raise ValueError unless it is a state of one world of this environment, by its shapes."""
    if not isinstance(state, State):
        what = "a VecState is for the step of `vectorize`" if hasattr(state, "env_state") else "see `env.reset`"
        raise ValueError(f"{caller} got a {type(state).__name__} as its state; it takes a State ({what})")
    check_shapes(env, state, caller, (), f" (for a batch of worlds, use vectorize, or jax.vmap(env.{caller}))")


def check_shapes(env: AbstractEnv, state: State, caller: str, batch: tuple[int, ...], hint: str = "") -> None:
    """Raise ValueError unless the arrays of a state have the shapes of this environment.

    batch: shape of the batch of worlds, () for one; hint: ends the message.
    """
    found = {"obs": state.obs, "costs": state.costs, "qpos": state.data.qpos, **getattr(state.places, "markers", {})}
    for name, shape in env.state_shapes.items():
        given = jnp.shape(found[name]) if name in found else "none"
        if given != batch + shape:
            raise ValueError(
                f"{caller} got a state whose {name} has shape {given}, and this environment's has {batch + shape};"
                f" it takes one state of its own{hint}"
            )


def check_snapshot(snapshot: Any, quaternions: Mapping[str, Sequence[int]] | None = None) -> None:
    """Raise ValueError unless it is a `Snapshot` of a possible world. Traced arrays are not checked.

    quaternions: field -> where each quaternion begins in it, besides the fields `*_quat`.
    """
    if not isinstance(snapshot, Snapshot):
        raise ValueError(
            f"restore got a {type(snapshot).__name__}; it takes a Snapshot, such as env.snapshot(state) or"
            " mjx_safety.Snapshot(root_pos=...)"
        )
    for name, value in vars(snapshot).items():
        leaves = [] if name == "memory" else jax.tree.leaves(value)
        if leaves and not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            whole = leaves if name == "dynamics" else [value]  # a list is an array, not several
            _check_values(name, [_as_array(name, part) for part in whole], (quaternions or {}).get(name, ()))
            if name == "dynamics":
                _check_dynamics(value)


def _as_array(name: str, value: Any) -> np.ndarray:
    """Return a field of a snapshot as float64 of its shape. Raises ValueError if it holds something else."""
    try:
        array = np.asarray(value)
        if np.iscomplexobj(array):
            raise TypeError
        return np.asarray(array, float)
    except (TypeError, ValueError):
        raise ValueError(f"snapshot.{name} is {reprlib.repr(value)}; restore takes an array of numbers") from None


def _check_dynamics(dynamics: Any) -> None:
    """Raise ValueError for factors that no `Randomize` may draw. Traced arrays are not checked."""
    for name in ("mass", "objects", "friction", "gain", "damping"):
        may_be_zero = name in ("gain", "damping")
        for leaf in jax.tree.leaves(getattr(dynamics, name, ())):
            factors = np.ravel(_as_array("dynamics", leaf))
            wrong = factors[~((factors >= 0.0) if may_be_zero else (factors > 0.0))]
            if wrong.size:
                least = "at least 0" if may_be_zero else "above 0"
                raise ValueError(f"snapshot.dynamics.{name} holds {wrong[0]:g}; restore takes factors {least}")


def _check_values(name: str, arrays: list[np.ndarray], quaternions: Sequence[int]) -> None:
    """Raise ValueError if a field of a snapshot holds a bad number, or a quaternion of length 0."""
    bound = float(np.finfo(np.float32).max) if name == "qacc_warmstart" else HUGE  # that may be large before a blow-up
    for values in arrays:
        wrong = values[~(np.abs(values) < bound)]
        if wrong.size:
            raise ValueError(f"snapshot.{name} holds {wrong[0]:g}; restore takes finite numbers below {bound:g}")
    quats = [arrays[0]] if name.endswith("_quat") else [arrays[0][start : start + 4] for start in quaternions]
    for quat in quats:
        if quat.shape[-1:] == (4,) and np.any(np.linalg.norm(quat, axis=-1) < SHORTEST):
            raise ValueError(f"snapshot.{name} holds a quaternion of length 0, which is no orientation")


def check_action(env: AbstractEnv, action: Any) -> None:
    """Raise ValueError unless an action has the robot's shape [A]."""
    taker = f"{env.robot_name} takes ({env.action_size},), one number per actuator"
    arguments.check_action(action, (env.action_size,), f"{taker} (for a batch of worlds, use jax.vmap(env.step))")


def to_control(env: AbstractEnv, action: jax.Array, noise: jax.Array | float = 0.0) -> jax.Array:
    """Return controls [A]: the action clipped to [-1, 1], noisy, scaled to the actuators' ranges.

    A number that is not finite stops all actuators, as in the C engine. Each control becomes 0, or the nearest value in
    its range.
    """
    low, high = jnp.asarray(env.mj_model.actuator_ctrlrange.T, jnp.float32)
    is_finite = jnp.all(jnp.isfinite(action))
    action = jnp.where(is_finite, jnp.clip(action.astype(jnp.float32), -1.0, 1.0), 0.0) + noise
    scaled = 0.5 * (low + high) + 0.5 * (high - low) * action
    return jnp.where(is_finite, scaled, jnp.clip(0.0, low, high))


def undo_blow_up(
    before: PhysicsState, after: PhysicsState, measured: Measurements
) -> tuple[PhysicsState, Measurements, jax.Array]:
    """Return to the state before the step if the physics blew up. Returns also whether it did [] bool."""
    values = jnp.concatenate([after.qpos, after.qvel, *(value.ravel() for value in jax.tree.leaves(measured))])
    sane = jnp.all(jnp.abs(values) < HUGE)  # False for NaN too
    data = jax.tree.map(lambda old, new: jnp.where(sane, new, old), before, after)
    measured = jax.tree.map(lambda value: jnp.where(sane, value, 0.0), measured)
    return data, measured, ~sane
