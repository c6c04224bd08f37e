"""Environments whose step returns six values: one world, and one batch in a single program."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding

from mjx_safety.interop.gymnasium_spaces import read_actions, read_seed
from mjx_safety.interop.safety_gymnasium.forwarding import Forwarding
from mjx_safety.interop.safety_gymnasium.wrappers import SafetyGymnasium2Gymnasium

PREFIX = "mjx_safety/"  # of Gymnasium's ids, as in `env.spec.id`
IDS = f"mjx_safety.interop.gymnasium:{PREFIX}"  # the module for Gymnasium to import comes first
ABSENT = ("config", "camera_id")  # of the reference, absent here
IDLE = ("apply_api_compatibility", "autoreset", "disable_env_checker")  # of one world, without effect on a batch


class SixValues(gymnasium.Wrapper, Forwarding):
    """Returns the cost of an environment of `gymnasium.make("mjx_safety/...")` apart from its info.

    autoreset: start the next episode in the step that ends one. `info` then has "final_observation" and "final_info" of
    that step, as in safety-gymnasium's wrapper.
    """

    def __init__(self, env: gymnasium.Env, autoreset: bool = False):
        super().__init__(env)
        self.autoreset: bool = autoreset
        self.done: bool = True

    @property
    def obs_space_dict(self) -> spaces.Dict:
        """The entries of the observation by name, in order."""
        sizes = {name: part.stop - part.start for name, part in self.unwrapped.world.obs_slices.items()}
        boxes = [(name, spaces.Box(-np.inf, np.inf, (size,), np.float32)) for name, size in sizes.items()]
        return spaces.Dict(OrderedDict(boxes))

    def set_seed(self, seed: int | None = None) -> None:
        """Seed the next episodes."""
        self.unwrapped.np_random = seeding.np_random(read_seed(seed))[0]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode on a fresh layout. The seed decides the layout."""
        self.done = False
        obs, info = self.env.reset(seed=seed, options=options)
        return obs, self._named(info)

    def _named(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return costs and flags under the reference's names. Flags appear only if set."""
        flags = {name: True for name in ("goal_met", "placement_failed") if info.get(name)}
        return {name: float(value) for name, value in _costs(self.unwrapped, info).items()} | flags

    def step(self, action: Any) -> tuple[Any, float, float, bool, bool, dict[str, Any]]:
        """Advance by one step. Raises ResetNeeded after the end of an episode."""
        if self.done:
            raise gymnasium.error.ResetNeeded("Environment must be reset before stepping.")
        obs, reward, terminated, truncated, info = self.env.step(read_actions(action))
        cost, info = info["cost"], self._named(info)
        self.done = terminated or truncated
        if self.done and self.autoreset:
            final = {"final_observation": obs, "final_info": info}
            obs, info = self.reset()
            info = info | final
        return obs, float(reward), cost, terminated, truncated, info


class SixValuesVector(gymnasium.vector.VectorWrapper, Forwarding):
    """Returns the costs of a batch of `gymnasium.make_vec("mjx_safety/...")`, backend "numpy", apart from its info.

    If an episode ends, `info["final_observation"]` and `info["final_info"]` are arrays of objects [B], None for other
    worlds, with masks `"_final_observation"` and `"_final_info"`. The costs in `info` are those of the step, for all
    worlds.
    """

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes on fresh layouts. seed: one, or one for each world."""
        obs, info = self.env.reset(seed=seed, options=options)
        return obs, self._named(info)

    def _named(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return costs and flags [B] under the reference's names, each with a mask [B]."""
        named = _costs(self.unwrapped, info)
        named |= {f"_{name}": np.ones(self.num_envs, bool) for name in named}
        for name in ("goal_met", "placement_failed"):
            named |= {name: info[name], f"_{name}": info[name].copy()}
        return named

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all worlds by one step, then replace the ended ones. actions: [B, A]."""
        obs, reward, terminated, truncated, step_info = self.env.step(read_actions(actions))
        info = self._named(step_info)
        if "final_obs" in step_info:
            ended = step_info["_final_obs"]
            final_info = np.full(self.num_envs, None, dtype=object)
            for world in np.flatnonzero(ended):  # usually few
                final_info[world] = {name: float(info[name][world]) for name in info if name.startswith("cost_")}
                final_info[world] |= {"goal_met": True} if info["goal_met"][world] else {}
            info |= {"final_observation": step_info["final_obs"], "_final_observation": ended}
            info |= {"final_info": final_info, "_final_info": ended.copy()}
        return obs, reward, step_info["cost"], terminated, truncated, info


def make(
    id: str,
    max_episode_steps: int | None = None,
    autoreset: bool | None = None,
    apply_api_compatibility: bool | None = None,
    disable_env_checker: bool | None = None,
    **settings: Any,
) -> SixValues:
    """Make one world under safety-gymnasium's name.

    id: with or without the prefix of `env.spec.id`; apply_api_compatibility: has no effect; settings: see
      `interop.gymnasium.SafetyEnv`, and camera_name.
    """
    name = IDS + id.removeprefix(PREFIX)
    env = gymnasium.make(name, max_episode_steps, disable_env_checker, **without_absent(settings))
    return SixValues(env, autoreset=bool(autoreset))


def gymnasium_make(id: str, **settings: Any) -> gymnasium.Env:
    """Make one world whose step returns Gymnasium's five values, with `info["cost"]`.

    id: such as SafetyPointGoal1Gymnasium-v0, or an id of `make`; settings: those of `make`.
    """
    return SafetyGymnasium2Gymnasium(make(id.replace("Gymnasium-v", "-v"), **settings))


def make_vector(env_id: str, num_envs: int = 1, asynchronous: bool = True, **settings: Any) -> SixValuesVector:
    """Make one batch under safety-gymnasium's name, `safety_gymnasium.vector.make`.

    asynchronous: has no effect, because the worlds share one program; settings: see
      `interop.gymnasium.SafetyVectorEnv`. The `IDLE` ones have no effect: a batch always starts the next episodes.
    """
    settings = {name: value for name, value in without_absent(settings).items() if name not in IDLE}
    return SixValuesVector(gymnasium.make_vec(IDS + env_id.removeprefix(PREFIX), num_envs, **settings))


def without_absent(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out settings of the reference that do not exist here, and rename `camera_name`.

    Raises ValueError if one that does not exist has a value.
    """
    for name in ABSENT:
        if settings.get(name) is not None:
            raise ValueError(
                f"safety-gymnasium's {name!r} is not supported; fields of mjx_safety.EnvConfig are keywords"
            )
    kept = {name: value for name, value in settings.items() if name not in (*ABSENT, "camera_name")}
    camera = settings.get("camera_name")
    return kept if camera is None else kept | {"camera": camera}


def _costs(env: Any, info: dict[str, Any]) -> dict[str, Any]:
    """Return the costs under the reference's names. info: of one world or of a batch."""
    sources = {name: value for name, value in info.items() if name.startswith("cost_")}
    if env.world.config.indicator:
        sources = {name: (value > 0) * np.float32(1) for name, value in sources.items()}
    return {**sources, "cost_sum": info["cost"]}
