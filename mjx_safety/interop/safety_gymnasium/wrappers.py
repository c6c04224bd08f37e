"""safety-gymnasium's wrappers under their names, for environments with six values.

They behave as in the reference. `SafePassiveEnvChecker` and the wrappers of vision tasks do not exist here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import RescaleAction
from gymnasium.wrappers.utils import RunningMeanStd


def require_flat(space: gymnasium.Space, taker: str) -> None:
    """Raise ValueError unless observations are arrays."""
    if not isinstance(space, gymnasium.spaces.Box):
        raise ValueError(
            f'{taker} takes flat observations, and these are a {type(space).__name__}; use observation="flat"'
        )


class _SixValues(gymnasium.Wrapper):
    """Gymnasium's wrapper around an environment whose step returns six values."""

    env: Any


class SafeAutoResetWrapper(_SixValues):
    """Starts the next episode in the step that ends one. `info` then has "final_observation" and "final_info"."""

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        obs, reward, cost, terminated, truncated, info = self.env.step(action)
        if (terminated or truncated) and "final_observation" not in info:
            final = {"final_observation": obs, "final_info": info}
            obs, info = self.env.reset()
            info = info | final
        return obs, reward, cost, terminated, truncated, info


class SafeRescaleAction(RescaleAction):
    """Takes actions in [min_action, max_action] instead of the environment's own range."""

    def __init__(self, env: gymnasium.Env, min_action: Any, max_action: Any):
        shape = env.action_space.shape or ()
        super().__init__(env, *(np.full(shape, bound, np.float32) for bound in (min_action, max_action)))


class SafeTimeLimit(_SixValues):
    """Truncates after `max_episode_steps` steps, unless the environment truncates earlier."""

    def __init__(self, env: gymnasium.Env, max_episode_steps: int):
        super().__init__(env)
        self.max_episode_steps: int = max_episode_steps
        self._count = 0

    def reset(self, **kwargs: Any) -> tuple[Any, ...]:
        """Start an episode, and count from 0."""
        self._count = 0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        self._count += 1
        *values, truncated, info = self.env.step(action)
        return *values, truncated or self._count >= self.max_episode_steps, info


class SafeUnsqueeze(_SixValues):
    """Adds a first axis of 1 to everything that one world returns, as in a batch of one."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        require_flat(env.observation_space, "SafeUnsqueeze")

    def reset(self, **kwargs: Any) -> tuple[Any, ...]:
        """Start an episode. obs: [1, O]."""
        obs, info = self.env.reset(**kwargs)
        return np.asarray(obs)[None], _unsqueezed(info)

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step. action: [A] or [1, A]."""
        *values, info = self.env.step(np.reshape(action, self.env.action_space.shape or (-1,)))
        return *(np.asarray(value)[None] for value in values), _unsqueezed(info)


def _unsqueezed(info: dict[str, Any]) -> dict[str, Any]:
    return {name: value[None] if isinstance(value, np.ndarray) else value for name, value in info.items()}


def _blank(kind: type, is_batch: bool) -> Any:
    """Return a normaliser without attributes, as a wrapper of one world or of a batch."""
    base = gymnasium.vector.VectorWrapper if is_batch else gymnasium.Wrapper
    return object.__new__(kind if issubclass(kind, base) else type(kind.__name__, (kind, base), {}))


class _Normalizer:
    """A wrapper of one world or of a batch, chosen by the wrapped object."""

    env: Any
    kind: type

    def __new__(cls, env: Any, *args: Any, **kwargs: Any) -> Any:
        normalizer = _blank(cls, isinstance(env, VectorEnv))
        normalizer.kind = cls
        return normalizer

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (self.kind, self.is_batch), vars(self)  # its own class may have no name to import

    def __init__(self, env: Any, epsilon: float = 1e-8, gamma: float = 0.99):
        super().__init__(env)  # type: ignore[call-arg]
        self.epsilon: float = epsilon
        self.gamma: float = gamma
        self.num: int = getattr(env, "num_envs", 1)
        self.is_batch: bool = isinstance(env, VectorEnv)
        space = env.single_observation_space if self.is_batch else env.observation_space
        require_flat(space, type(self).__name__)
        self.obs_rms: RunningMeanStd = RunningMeanStd(shape=space.shape)
        self.return_rms: RunningMeanStd = RunningMeanStd(shape=())
        self._discounted = np.zeros(self.num)

    def _scale(self, values: Any, terminated: Any) -> Any:
        """Divide rewards or costs by the standard deviation of their discounted sums."""
        self._discounted = self._discounted * self.gamma * (1 - np.atleast_1d(terminated)) + np.atleast_1d(values)
        self.return_rms.update(self._discounted)
        scaled = np.asarray(values) / np.sqrt(self.return_rms.var + self.epsilon)
        return scaled if self.is_batch else float(scaled)

    def _centre(self, obs: Any) -> Any:
        return ((obs - self.obs_rms.mean) / np.sqrt(self.obs_rms.var + self.epsilon)).astype(np.float32)


class SafeNormalizeObservation(_Normalizer):
    """Normalises observations to mean 0 and standard deviation 1, by running statistics."""

    def reset(self, **kwargs: Any) -> tuple[Any, ...]:
        """Start episodes."""
        obs, info = self.env.reset(**kwargs)
        self.obs_rms.update(obs if self.is_batch else obs[None])
        return self._centre(obs), info

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        obs, *values, info = self.env.step(action)
        self.obs_rms.update(obs if self.is_batch else obs[None])
        if "final_observation" in info:
            info["original_final_observation"] = last = info["final_observation"]
            if self.is_batch:
                info["final_observation"] = np.full(len(last), None, object)
                for world in np.flatnonzero(info["_final_observation"]):
                    info["final_observation"][world] = self._centre(last[world])
            else:
                info["final_observation"] = self._centre(last)
        return self._centre(obs), *values, info


class SafeNormalizeReward(_Normalizer):
    """Scales rewards by the standard deviation of their discounted sums."""

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        obs, reward, cost, terminated, truncated, info = self.env.step(action)
        return obs, self._scale(reward, terminated), cost, terminated, truncated, info


class SafeNormalizeCost(_Normalizer):
    """Scales costs by the standard deviation of their discounted sums."""

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        obs, reward, cost, terminated, truncated, info = self.env.step(action)
        return obs, reward, self._scale(cost, terminated), terminated, truncated, info


class SafetyGymnasium2Gymnasium(_SixValues):
    """Returns five values, with the cost in `info["cost"]`."""

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        obs, reward, cost, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, info | {"cost": cost}


class Gymnasium2SafetyGymnasium(_SixValues):
    """Returns six values, with the cost from `info["cost"]`."""

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step. Raises ValueError without a cost in the info."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        if "cost" not in info:
            raise ValueError("info has no 'cost', which the step of six values returns")
        return obs, reward, info["cost"], terminated, truncated, info


def with_gymnasium_wrappers(env: gymnasium.Env, *wrappers: Callable[[gymnasium.Env], gymnasium.Env]) -> gymnasium.Env:
    """Put Gymnasium's wrappers, with five values, around an environment with six."""
    env = SafetyGymnasium2Gymnasium(env)
    for wrapper in wrappers:
        env = wrapper(env)
    return Gymnasium2SafetyGymnasium(env)


__all__ = [
    "Gymnasium2SafetyGymnasium",
    "SafeAutoResetWrapper",
    "SafeNormalizeCost",
    "SafeNormalizeObservation",
    "SafeNormalizeReward",
    "SafeRescaleAction",
    "SafeTimeLimit",
    "SafeUnsqueeze",
    "SafetyGymnasium2Gymnasium",
    "with_gymnasium_wrappers",
]
