"""Gymnasium: one world as an `Env`, a jitted batch of worlds as a `VectorEnv`. Importing this registers all ids.

    import gymnasium, mjx_safety.interop.gymnasium
    env = gymnasium.make("mjx_safety/SafetyPointGoal1-v0")
    envs = gymnasium.make_vec("mjx_safety/SafetyPointGoal1-v0", num_envs=1024)

The step returns Gymnasium's five values. `info["cost"]` is `State.cost`. `info["cost_<source>"]` is the raw value of
each source (`State.costs`). `info["goal_met"]` says whether this step met the goal.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.envs.registration import EnvSpec

import mjx_safety
from mjx_safety import AbstractEnv, State, registry
from mjx_safety.interop.gymnasium_spaces import (
    Settings,
    action_space,
    build,
    draw_key,
    observation_space,
    parts_of,
    read_actions,
    read_options,
    read_seed,
    refuse_fork,
    step_info,
)
from mjx_safety.interop.gymnasium_spec import SettingsSpec, WorldSpec
from mjx_safety.interop.gymnasium_vector import SafetyVectorEnv

NAMESPACE = "mjx_safety"
SEEN = ("obs", "reward", "cost", "costs", "goal_met", "terminated", "truncated", "placement_failed")  # of a state
PICTURE = ("track", 480, 360)  # camera; width and height in pixels
__all__ = ["SafetyEnv", "SafetyVectorEnv", "action_space", "draw_key", "observation_space", "register"]


class SafetyEnv(gymnasium.Env[Any, np.ndarray]):
    """One world.

    env: an id of `mjx_safety.make`, settings, or an environment, including a user's own (`types`).
    physics: an engine, or "auto": `mjx` on an accelerator, `mujoco` on a CPU.
    observation: "flat", a vector [O], or "dict", entries by name; float32.
    render_mode: None, or "rgb_array": `render()` then returns a picture [height, width, 3] uint8.
    camera, width, height: of the pictures; one of `mjx_safety.viz.CAMERAS`, pixels.
    overrides: fields of the settings to change.

    Made by itself, it truncates after `episode_length` steps. Made by `gymnasium.make`, it leaves that to Gymnasium's
    `TimeLimit`, which `max_episode_steps` sets. `episode_length` may shorten the limit there.

    `reset(options={"snapshot": ...})` starts from a `Snapshot`. `world` is the pure environment. `state` is its current
    state, an immutable value: keep it, and assign it again to go back. Copies and pickles continue from this state.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        env: str | Settings | AbstractEnv,
        *,
        physics: str = "auto",
        observation: str = "flat",
        render_mode: str | None = None,
        camera: str = PICTURE[0],
        width: int = PICTURE[1],
        height: int = PICTURE[2],
        **overrides: Any,
    ):
        self.world: AbstractEnv = build(env, physics, overrides)
        self._own_limit, self._spec = True, None
        self.render_mode: str | None = render_mode
        self._camera, self._size = camera, (width, height)
        self._drawer: Any = None
        self._check_pictures()
        if render_mode is not None:
            self.metadata: dict[str, Any] = self.metadata | {"render_fps": _frames_per_second(self.world)}
        self.observation_space: Any = observation_space(self.world, observation)
        self.action_space: Any = action_space(self.world)
        self.state: State | None = None
        self._parts = parts_of(self.world, observation)
        self._compile()

    def _compile(self) -> None:
        """Compile an environment of the user's own. Those of this package compile themselves, equal ones once."""
        functions: tuple[Any, Any] = (self.world.reset, self.world.step)
        is_ours = isinstance(self.world, AbstractEnv)
        self._reset, self._step = functions if is_ours else map(jax.jit, functions)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is compiled, and the renderer."""
        return {name: value for name, value in vars(self).items() if name not in ("_reset", "_step")} | {
            "_drawer": None
        }

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        vars(self).update(attributes)
        self._compile()

    @property
    def spec(self) -> EnvSpec | None:
        """What Gymnasium made it from; `max_episode_steps` is the limit that holds."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        registered = None if spec is None else gymnasium.registry.get(spec.id)
        limit = None if registered is None else registered.max_episode_steps
        if spec is None or limit is None:
            self._spec = None if spec is None else SettingsSpec.of(spec)
            return
        given = spec.kwargs.get("episode_length")
        if given is not None and given > limit:
            raise ValueError(
                f"episode_length is {given}, more than the {limit} steps of Gymnasium's TimeLimit for this id;"
                f" give max_episode_steps={given} instead"
            )
        self._own_limit = given is not None
        self._spec = WorldSpec.of(spec)
        self._spec.max_episode_steps = given  # a TimeLimit around it tells its own

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode on a fresh layout. The seed decides the layout. options: {"snapshot": `Snapshot`}."""
        refuse_fork()
        super().reset(seed=read_seed(seed))
        snapshot = read_options(options, ("snapshot",)).get("snapshot")
        key = draw_key(self.np_random)
        state = self._reset(key) if snapshot is None else self.world.restore(snapshot, key)
        self.state, seen = state, _to_host(state)
        return self._observation(seen.obs), self._info(seen)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one step. action: [A] in [-1, 1]."""
        if self.state is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        refuse_fork()
        state = self._step(self.state, read_actions(action))
        self.state, seen = state, _to_host(state)
        truncated = bool(seen.truncated) and self._own_limit
        return self._observation(seen.obs), float(seen.reward), bool(seen.terminated), truncated, self._info(seen)

    def render(self) -> np.ndarray | None:
        """Draw the state, [height, width, 3] uint8; None without a `render_mode`."""
        if self.render_mode is None:
            gymnasium.logger.warn('render() draws nothing unless make was told render_mode="rgb_array"')
            return None
        if self.state is None:
            raise gymnasium.error.ResetNeeded("call reset before the first picture")
        if self._drawer is None:
            from mjx_safety.viz.frames import FrameDrawer

            self._drawer = FrameDrawer(self.world, *self._size)
        return self._drawer.draw(jax.device_get(self.state.replace(key=None)), self._camera)

    def close(self) -> None:
        """Free the renderer."""
        if self._drawer is not None:
            self._drawer.close()
            self._drawer = None

    def _check_pictures(self) -> None:
        if self.render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f'unknown render_mode {self.render_mode!r}; it must be None or "rgb_array"')
        if self.render_mode is None and (self._camera, *self._size) == PICTURE:
            return  # which spares the import of what draws
        if not isinstance(self.world, AbstractEnv):
            raise ValueError("render_mode is for environments of mjx_safety.make; this one draws itself, if at all")
        from mjx_safety.viz.frames import check_camera, check_size

        check_camera(self.world, self._camera)
        check_size(*self._size)

    def _info(self, seen: SimpleNamespace) -> dict[str, Any]:
        return {name: value.item() for name, value in step_info(self.world, seen).items()}

    def _observation(self, obs: Any) -> Any:
        obs = np.array(obs)  # a copy that the user may write to
        return obs if self._parts is None else {name: obs[part] for name, part in self._parts.items()}


def _frames_per_second(world: AbstractEnv) -> int:
    """Return the rate of pictures of steps in real time, at least 1; the default where steps take no time."""
    return max(round(1 / world.dt), 1) if world.dt > 0 else SafetyEnv.metadata["render_fps"]


def _to_host(state: State) -> SimpleNamespace:
    """Copy what a step returns from the device, all in one go. An environment of the user's own may lack some of it."""
    return SimpleNamespace(**jax.device_get({name: getattr(state, name) for name in SEEN if hasattr(state, name)}))


def register(*env_ids: str) -> None:
    """Register ids of `mjx_safety.make` with Gymnasium, with the prefix "mjx_safety/"."""
    for env_id in env_ids:
        gymnasium.register(
            f"{NAMESPACE}/{env_id}",
            entry_point=f"{__name__}:SafetyEnv",
            vector_entry_point=f"{__name__}:SafetyVectorEnv",
            max_episode_steps=registry.episode_length(env_id),
            kwargs={"env": env_id},
        )


register(*mjx_safety.ENV_IDS, *mjx_safety.ENV_IDS_2019)
