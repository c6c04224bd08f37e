"""Gymnasium: one world as an `Env`, a jitted batch of worlds as a `VectorEnv`. Importing this registers all ids.

    import gymnasium, mjx_safety.interop.gymnasium
    env = gymnasium.make("mjx_safety/SafetyPointGoal1-v0")
    envs = gymnasium.make_vec("mjx_safety/SafetyPointGoal1-v0", num_envs=1024)

The step returns Gymnasium's five values. `info["cost"]` is `State.cost`. `info["cost_<source>"]` is the raw value of
each source (`State.costs`). `info["goal_met"]` says whether this step met the goal.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, cast

import gymnasium
import jax
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

import mjx_safety
from mjx_safety import AbstractEnv, EnvConfig, LocomotionConfig, State, VecState

NAMESPACE = "mjx_safety"
Settings = EnvConfig | LocomotionConfig
OBSERVATIONS = ("flat", "dict")
BACKENDS = ("numpy", "jax", "torch")


class SafetyEnv(gymnasium.Env[Any, np.ndarray]):
    """One world.

    env: an id of `mjx_safety.make`, settings, or an environment, including a user's own (`types`).
    physics: an engine, or "auto": `mjx` on an accelerator, `mujoco` on a CPU.
    observation: "flat", a vector [O], or "dict", entries by name; float32.
    render_mode: None, or "rgb_array": `render()` then returns a picture [height, width, 3] uint8.
    camera, width, height: of the pictures; one of `mjx_safety.viz.CAMERAS`, pixels.
    overrides: fields of the settings to change.

    The environment keeps its own time limit: `truncated` after `episode_length` steps. It needs no wrapper.
    `reset(options={"snapshot": ...})` starts from a `Snapshot`. `world` is the pure environment, `state` its state.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        env: str | Settings | AbstractEnv,
        *,
        physics: str = "auto",
        observation: str = "flat",
        render_mode: str | None = None,
        camera: str = "track",
        width: int = 480,
        height: int = 360,
        **overrides: Any,
    ):
        self.world = _build(env, physics, overrides)
        self.render_mode, self._camera, self._size = render_mode, camera, (width, height)
        self._drawer: Any = None
        if render_mode is not None:
            self._check_render_mode()
            self.metadata = self.metadata | {"render_fps": round(1 / self.world.dt)}
        self.observation_space = observation_space(self.world, observation)
        self.action_space = action_space(self.world)
        self.state: State | None = None
        self._parts = _parts(self.world, observation)
        self._reset, self._step = jax.jit(self.world.reset), jax.jit(self._advance)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode on a fresh layout. The seed decides the layout. options: {"snapshot": `Snapshot`}."""
        super().reset(seed=seed)
        snapshot = _read_options(options, ("snapshot",)).get("snapshot")
        key = draw_key(self.np_random)
        state = self._reset(key) if snapshot is None else self.world.restore(snapshot, key)
        self.state = state
        return self._observation(state.obs), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one step. action: [A] in [-1, 1]."""
        if self.state is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        self.state, outcome = self._step(self.state, np.asarray(action, np.float32))
        obs, reward, terminated, truncated, info = jax.device_get(outcome)
        info = {name: value.item() for name, value in info.items()}
        return self._observation(obs), float(reward), bool(terminated), bool(truncated), info

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

    def _check_render_mode(self) -> None:
        if self.render_mode not in self.metadata["render_modes"]:
            raise ValueError(f'unknown render_mode {self.render_mode!r}; it must be None or "rgb_array"')
        if not isinstance(self.world, AbstractEnv):
            raise ValueError("render_mode is for environments of mjx_safety.make; this one draws itself, if at all")
        from mjx_safety.viz.frames import check_camera

        check_camera(self.world, self._camera)

    def _advance(self, state: State, action: jax.Array) -> tuple[State, tuple]:
        state = self.world.step(state, action)
        return state, (state.obs, state.reward, state.terminated, state.truncated, _step_info(self.world, state))

    def _observation(self, obs: Any) -> Any:
        obs = np.array(obs)  # a copy that the user may write to
        return obs if self._parts is None else {name: obs[part] for name, part in self._parts.items()}


class SafetyVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """B worlds in one compiled program. A fresh world replaces each one in the step that ends its episode.

    env, physics, observation, overrides: see `SafetyEnv`. The batch is that of `mjx_safety.vectorize`.
    backend: type of results and actions. "numpy" fetches all results from the device at once. "jax" keeps JAX arrays.
      "torch" shares their memory through dlpack, on any device.
    stagger: start worlds at different times of their first episode, and exclude these episodes from the statistics.
    max_episode_steps: Gymnasium's name for the field `episode_length`, used by `make_vec`.

    After the end of an episode, `obs` belongs to the next one. `info["final_obs"]` is the last observation of the ended
    one. `info["final_info"]` has its info and its totals: `["episode"]["r"]` return, `["c"]` cost, `["l"]` length.
    Masks [B] stand beside them, such as `info["_final_obs"]`.

    With "numpy" these keys exist only in steps that ended an episode. `final_obs` is then an array of objects, None for
    the other worlds, as in Gymnasium. With "jax" and "torch" the keys always exist and have one row per world, because
    a check of the mask would wait for the device. `info["cost"]` is the cost of this step for every world.

    `states` is the batch after the last step. The next step reuses its memory.
    """

    def __init__(
        self,
        env: str | Settings | AbstractEnv,
        num_envs: int = 1,
        *,
        observation: str = "flat",
        backend: str = "numpy",
        stagger: bool = False,
        **settings: Any,
    ):
        if backend not in BACKENDS:
            raise ValueError(f"unknown backend {backend!r}; choose from {', '.join(BACKENDS)}")
        if settings.get("max_episode_steps") is not None:
            settings["episode_length"] = settings["max_episode_steps"]
        settings.pop("max_episode_steps", None)
        self.world = _build(env, settings.pop("physics", "auto"), settings)
        self.num_envs = num_envs
        self.single_observation_space = observation_space(self.world, observation)
        self.single_action_space = action_space(self.world)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}
        self.metadata |= {"jax": backend == "jax", "torch": backend == "torch"}
        self.states: VecState | None = None
        self._batch = mjx_safety.vectorize(self.world, num_envs, stagger=stagger)
        self._parts = _parts(self.world, observation)
        self._reset, self._step = jax.jit(self._start), jax.jit(self._advance, donate_argnums=0)
        self._backend = backend
        self._to_jax, self._from_jax = _converters(backend)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start B episodes on fresh layouts. The seed decides the layouts. There are no options."""
        super().reset(seed=seed)
        _read_options(options, ())
        self.states, obs = self._reset(draw_key(self.np_random))
        return self._from_jax(obs), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advance all worlds by one step, then replace the ended ones. actions: [B, A] in [-1, 1]."""
        if self.states is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        actions = self._to_jax(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(
                f"actions have shape {actions.shape}; {self.num_envs} worlds take {self.action_space.shape}"
            )
        self.states, now, last = self._step(self.states, actions)
        obs, reward, terminated, truncated, info = self._from_jax(now)
        if self._backend != "numpy":
            info |= self._from_jax(last)
        elif np.any(terminated | truncated):
            info |= _with_objects(self._from_jax(last))
        return obs, reward, terminated, truncated, info

    def _start(self, key: jax.Array) -> tuple[VecState, Any]:
        states = self._batch.reset(key)
        return states, self._observation(states.obs)

    def _advance(self, states: VecState, actions: jax.Array) -> tuple[VecState, tuple, dict[str, Any]]:
        states = self._batch.step(states, actions)
        obs, info = self._observation(states.obs), _step_info(self.world, states)
        now = (obs, states.reward, states.terminated, states.truncated, info)
        return states, now, self._last(states, info)

    def _last(self, states: VecState, info: dict[str, jax.Array]) -> dict[str, Any]:
        """Return the entries of episodes that have just ended, each with a mask, as in Gymnasium."""
        done, counted = states.done, states.done & ~states.partial
        final_info: dict[str, Any] = _masked(info, done)
        totals = {"r": states.episode_return, "c": states.episode_cost, "l": states.episode_length}
        final_info |= {"episode": _masked(totals, counted), "_episode": counted}
        final_obs = self._observation(states.final_obs)
        return {"final_obs": final_obs, "_final_obs": done, "final_info": final_info, "_final_info": done}

    def _observation(self, obs: jax.Array) -> Any:
        return obs if self._parts is None else {name: obs[:, part] for name, part in self._parts.items()}


def observation_space(env: AbstractEnv, observation: str) -> spaces.Box | spaces.Dict:
    """Describe one world's observation: float32 without bounds, as in the reference."""
    if observation not in OBSERVATIONS:
        raise ValueError(f"unknown observation {observation!r}; choose from {', '.join(OBSERVATIONS)}")
    if observation == "flat":
        return _unbounded(env.obs_size)
    parts = [(name, _unbounded(part.stop - part.start)) for name, part in env.obs_slices.items()]
    return spaces.Dict(OrderedDict(parts))  # Gymnasium would sort a plain dict, and flatten it in that order


def action_space(env: AbstractEnv) -> spaces.Box:
    """Describe one world's action: float32 in [-1, 1]."""
    return spaces.Box(-1.0, 1.0, (env.action_size,), np.float32)


def draw_key(random: np.random.Generator) -> jax.Array:
    """Draw a PRNG key [] from Gymnasium's generator."""
    seed, more = random.integers(2**32, size=2, dtype=np.uint32)
    return jax.random.fold_in(jax.random.key(seed), more)


def register(*env_ids: str) -> None:
    """Register ids of `mjx_safety.make` with Gymnasium, with the prefix "mjx_safety/"."""
    for env_id in env_ids:
        gymnasium.register(
            f"{NAMESPACE}/{env_id}",
            entry_point=f"{__name__}:SafetyEnv",
            vector_entry_point=f"{__name__}:SafetyVectorEnv",
            kwargs={"env": env_id},
        )


def _build(env: str | Settings | AbstractEnv, physics: str, overrides: dict[str, Any]) -> AbstractEnv:
    if not hasattr(env, "step"):
        return mjx_safety.make(cast(Settings, env), physics=physics, **overrides)
    if overrides:
        raise ValueError(f"{sorted(overrides)[0]!r} cannot be changed in a finished Env; give it to mjx_safety.make")
    return cast(AbstractEnv, env)


def _unbounded(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)


def _parts(env: AbstractEnv, observation: str) -> dict[str, slice] | None:
    return env.obs_slices if observation == "dict" else None


def _read_options(options: dict[str, Any] | None, known: tuple[str, ...]) -> dict[str, Any]:
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        allowed = f"it takes {', '.join(known)}" if known else "it takes none"
        raise ValueError(f"reset has no option {unknown[0]!r}; {allowed}")
    return options or {}


def _step_info(env: AbstractEnv, state: Any) -> dict[str, jax.Array]:
    """Return the info of a step. state: of one world or of a batch."""
    sources = {f"cost_{name}": state.costs[..., index] for index, name in enumerate(env.cost_names)}
    return {"cost": state.cost, **sources, "goal_met": state.goal_met}


def _masked(values: Mapping[str, jax.Array], mask: jax.Array) -> dict[str, jax.Array]:
    """Set entries outside the mask [B] to zero, and put the mask beside each entry."""
    kept = {name: jax.numpy.where(mask, value, jax.numpy.zeros_like(value)) for name, value in values.items()}
    return kept | {f"_{name}": mask for name in values}


def _with_objects(last: dict[str, Any]) -> dict[str, Any]:
    """Turn `final_obs` into Gymnasium's array of objects [B], with None if the episode goes on."""
    ended, obs = np.flatnonzero(last["_final_obs"]), last["final_obs"]
    objects = np.full(len(last["_final_obs"]), None, dtype=object)
    for world in ended:  # usually few
        objects[world] = (
            obs[world] if isinstance(obs, np.ndarray) else {name: part[world] for name, part in obs.items()}
        )
    return last | {"final_obs": objects}


def _converters(backend: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return functions that convert actions to JAX, and a tree of results back."""
    if backend == "numpy":
        return lambda actions: np.asarray(actions, np.float32), _to_numpy
    if backend == "jax":
        return jax.numpy.asarray, lambda tree: tree
    torch = importlib.import_module("torch")

    def to_jax(actions: Any) -> jax.Array:
        return jax.numpy.from_dlpack(actions.detach().to(torch.float32).contiguous())

    return to_jax, lambda tree: jax.tree.map(torch.from_dlpack, tree)


def _to_numpy(tree: Any) -> Any:
    """Fetch everything at once, as copies, because arrays shared with JAX are read-only."""
    return jax.tree.map(np.array, jax.device_get(tree))


register(*mjx_safety.ENV_IDS, *mjx_safety.ENV_IDS_2019)
