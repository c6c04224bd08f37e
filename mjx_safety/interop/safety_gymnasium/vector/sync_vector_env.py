"""A batch of single worlds with six values, each with its own wrappers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from mjx_safety.interop.gymnasium_spaces import read_seeds
from mjx_safety.interop.safety_gymnasium.wrappers import require_flat


class SafetySyncVectorEnv(gymnasium.vector.VectorEnv):
    """Steps B worlds one after the other, and starts the next episode in the step that ends one.

    env_fns: functions that make the worlds, `lambda: safety_gymnasium.make(id)`. Equal worlds share their program.
    observation_space, action_space, copy: the reference's, without effect. The spaces are those of the worlds, and
      every observation is a new array.
    If an episode ends, `info` has "final_observation" and "final_info", arrays of objects [B] with masks.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gymnasium.Env]],
        observation_space: Any = None,
        action_space: Any = None,
        copy: bool = True,
    ):
        self.envs: list[Any] = [make() for make in env_fns]
        self.num_envs: int = len(self.envs)
        _check_alike(self.envs)
        self.single_observation_space: Any = self.envs[0].observation_space
        require_flat(self.single_observation_space, type(self).__name__)
        self.single_action_space: Any = self.envs[0].action_space
        self.observation_space: Any = batch_space(self.single_observation_space, self.num_envs)
        self.action_space: Any = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start B episodes. An int seeds world i with seed + i."""
        if _is_one(seed):
            seeds = [None if seed is None else seed + i for i in range(self.num_envs)]  # type: ignore[operator]
        else:
            seeds = read_seeds(seed, self.num_envs)
        firsts = [env.reset(seed=seed, options=options) for env, seed in zip(self.envs, seeds, strict=True)]
        info: dict[str, Any] = {}
        for index, (_, own) in enumerate(firsts):
            info = self._add_info(info, own, index)
        return np.stack([obs for obs, _ in firsts]), info

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all worlds by one step. actions: [B, A]. Returns six values."""
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(
                f"actions have shape {actions.shape}; {self.num_envs} worlds take {self.action_space.shape}"
            )
        steps = [env.step(action) for env, action in zip(self.envs, actions, strict=True)]
        info: dict[str, Any] = {}
        observations, final = [], {name: np.full(self.num_envs, None, object) for name in FINAL}
        for index, (obs, _, _, terminated, truncated, own) in enumerate(steps):
            ends = {name: own.pop(name) for name in FINAL if name in own}  # from a world that resets itself
            if (terminated or truncated) and not ends:
                ends = {"final_observation": obs, "final_info": own}
                obs, own = self.envs[index].reset()
            for name, value in ends.items():
                final[name][index] = value
            observations.append(obs)
            info = self._add_info(info, own, index)
        reward, cost = (np.array([values[i] for values in steps], np.float64) for i in (1, 2))
        terminated, truncated = (np.array([values[i] for values in steps], bool) for i in (3, 4))
        if np.any(terminated | truncated):
            info |= final | {f"_{name}": terminated | truncated for name in FINAL}
        return np.stack(observations), reward, cost, terminated, truncated, info

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return an attribute of each world, or what its method of this name returns."""
        found = [env.get_wrapper_attr(name) for env in self.envs]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in found)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of each world."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each world. values: a list or tuple with one for each, or one value for all."""
        values = list(values) if isinstance(values, (list, tuple)) else [values] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(f"there are {len(values)} values of {name!r} for {self.num_envs} worlds")
        for env, value in zip(self.envs, values, strict=True):
            env.set_wrapper_attr(name, value)

    def close_extras(self, **_: Any) -> None:
        """Close all worlds."""
        for env in getattr(self, "envs", ()):  # none if they could not be made: older Gymnasium closes such a batch too
            env.close()


FINAL = ("final_observation", "final_info")


def _check_alike(envs: Sequence[gymnasium.Env]) -> None:
    """Raise ValueError without worlds, or if their spaces differ."""
    if not envs:
        raise ValueError("env_fns is empty; a batch has at least one world")
    for name in ("observation_space", "action_space"):
        first, *others = (getattr(env, name) for env in envs)
        other = next((space for space in others if space != first), first)
        if other != first:
            raise ValueError(f"worlds of a batch need the same {name}, and these have {first} and {other}")


def _is_one(seed: Any) -> bool:
    return seed is None or isinstance(seed, (int, np.integer))
