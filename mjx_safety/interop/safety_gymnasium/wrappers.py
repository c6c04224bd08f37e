"""safety-gymnasium's wrappers under their names, for environments with six values.

They behave as in the reference, but for two points. `SafeRescaleAction` changes the action space too. The running
statistics of observations leave out the last one of an episode. `SafePassiveEnvChecker` does not exist here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.utils import RunningMeanStd

from mjx_safety.interop.safety_gymnasium.forwarding import Forwarding


def require_flat(space: gymnasium.Space, taker: str) -> None:
    """Raise ValueError unless observations are arrays."""
    if not isinstance(space, gymnasium.spaces.Box):
        raise ValueError(
            f'{taker} takes flat observations, and these are a {type(space).__name__}; use observation="flat"'
        )


class _SixValuesWrapper(gymnasium.Wrapper, Forwarding):
    """Gymnasium's wrapper around an environment whose step returns six values."""

    env: Any


class SafeAutoResetWrapper(_SixValuesWrapper):
    """Starts the next episode in the step that ends one. `info` then has "final_observation" and "final_info"."""

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        obs, reward, cost, terminated, truncated, info = self.env.step(action)
        if (terminated or truncated) and "final_observation" not in info:
            final = {"final_observation": obs, "final_info": info}
            obs, info = self.env.reset()
            info = info | final
        return obs, reward, cost, terminated, truncated, info


class SafeRescaleAction(gymnasium.ActionWrapper, Forwarding):
    """Takes actions in [min_action, max_action] instead of the environment's own range.

    Raises ValueError unless both are finite and min_action is the smaller one.
    """

    def __init__(self, env: gymnasium.Env, min_action: Any, max_action: Any):
        super().__init__(env)
        shape = env.action_space.shape or ()
        self.min_action: np.ndarray = np.full(shape, min_action, np.float32)
        self.max_action: np.ndarray = np.full(shape, max_action, np.float32)
        if not np.all(np.isfinite(self.max_action - self.min_action) & (self.min_action < self.max_action)):
            raise ValueError(
                f"min_action is {min_action} and max_action {max_action}; they must be finite and ascending"
            )
        self.action_space = gymnasium.spaces.Box(self.min_action, self.max_action, dtype=np.float32)

    def action(self, action: Any) -> np.ndarray:
        """Return the action in the environment's own range."""
        low, high = self.env.action_space.low, self.env.action_space.high  # type: ignore[attr-defined]
        return low + (high - low) * (action - self.min_action) / (self.max_action - self.min_action)


class SafeTimeLimit(TimeLimit, Forwarding):
    """Truncates after `max_episode_steps` steps, unless the environment truncates earlier."""

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        *values, truncated, info = self.env.step(action)
        self._elapsed_steps = (self._elapsed_steps or 0) + 1
        truncated = truncated or self._elapsed_steps >= self._max_episode_steps
        if "final_observation" in info:  # the environment has reset itself
            self._elapsed_steps = 0
        return *values, truncated, info


class SafeUnsqueeze(_SixValuesWrapper):
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


class _Normalizer(Forwarding):
    """A wrapper of one world or of a batch, chosen by the wrapped object."""

    env: Any
    kind: type

    def __new__(cls, env: Any, *args: Any, **kwargs: Any) -> Any:
        normalizer = _blank(cls, isinstance(env, VectorEnv))
        normalizer.kind = cls
        return normalizer

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (self.kind, self.is_vector_env), vars(self)  # its own class may have no name to import

    def __init__(self, env: Any, epsilon: float):
        super().__init__(env)  # type: ignore[call-arg]
        self.epsilon: float = epsilon
        self.is_vector_env: bool = isinstance(env, VectorEnv)


class SafeNormalizeObservation(_Normalizer):
    """Normalises observations to mean 0 and standard deviation 1, by the running statistics `obs_rms`."""

    def __init__(self, env: Any, epsilon: float = 1e-8):
        super().__init__(env, epsilon)
        space = env.single_observation_space if self.is_vector_env else env.observation_space
        require_flat(space, type(self).__name__)
        self.obs_rms: RunningMeanStd = RunningMeanStd(shape=space.shape)

    def reset(self, **kwargs: Any) -> tuple[Any, ...]:
        """Start episodes."""
        obs, info = self.env.reset(**kwargs)
        self.obs_rms.update(obs if self.is_vector_env else obs[None])
        return self._centre(obs), info

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        obs, *values, info = self.env.step(action)
        self.obs_rms.update(obs if self.is_vector_env else obs[None])
        if "final_observation" in info:
            info["original_final_observation"] = last = info["final_observation"]
            if self.is_vector_env:
                info["final_observation"] = np.full(len(last), None, object)
                for world in np.flatnonzero(info["_final_observation"]):
                    info["final_observation"][world] = self._centre(last[world])
            else:
                info["final_observation"] = self._centre(last)
        return self._centre(obs), *values, info

    def _centre(self, obs: Any) -> Any:
        return ((obs - self.obs_rms.mean) / np.sqrt(self.obs_rms.var + self.epsilon)).astype(np.float32)


class _Scaler(_Normalizer):
    """Divides a number of each step by the standard deviation of its discounted sums `returns`."""

    def __init__(self, env: Any, gamma: float = 0.99, epsilon: float = 1e-8):
        super().__init__(env, epsilon)
        self.gamma: float = gamma
        self.return_rms: RunningMeanStd = RunningMeanStd(shape=())
        self.returns: np.ndarray = np.zeros(env.num_envs if self.is_vector_env else 1)

    def _scale(self, values: Any, terminated: Any) -> Any:
        """Scale the rewards or costs of a step."""
        self.returns = self.returns * self.gamma * (1 - np.atleast_1d(terminated)) + np.atleast_1d(values)
        self.return_rms.update(self.returns)
        scaled = np.asarray(values) / np.sqrt(self.return_rms.var + self.epsilon)
        return scaled if self.is_vector_env else float(scaled)


class SafeNormalizeReward(_Scaler):
    """Scales rewards by the standard deviation of their discounted sums."""

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        obs, reward, cost, terminated, truncated, info = self.env.step(action)
        return obs, self._scale(reward, terminated), cost, terminated, truncated, info


class SafeNormalizeCost(_Scaler):
    """Scales costs by the standard deviation of their discounted sums."""

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        obs, reward, cost, terminated, truncated, info = self.env.step(action)
        return obs, reward, self._scale(cost, terminated), terminated, truncated, info


class SafetyGymnasium2Gymnasium(_SixValuesWrapper):
    """Returns five values, with the cost in `info["cost"]`."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode. Its cost is 0, in the info too, because a step may be a reset."""
        obs, info = self.env.reset(**kwargs)
        return obs, info | {"cost": info.get("cost_sum", 0.0)}

    def step(self, action: Any) -> tuple[Any, ...]:
        """Advance by one step."""
        obs, reward, cost, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, info | {"cost": cost}


class Gymnasium2SafetyGymnasium(_SixValuesWrapper):
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
