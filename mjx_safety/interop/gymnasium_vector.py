"""A batch of worlds as Gymnasium's `VectorEnv`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

import mjx_safety
from mjx_safety import AbstractEnv, VecState, registry
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
    read_seeds,
    refuse_fork,
    step_info,
)
from mjx_safety.interop.gymnasium_spec import SettingsSpec

BACKENDS = ("numpy", "jax", "torch")
MODES: dict[AutoresetMode, Any] = {
    AutoresetMode.SAME_STEP: "same_step",
    AutoresetMode.NEXT_STEP: "next_step",
    AutoresetMode.DISABLED: "disabled",
}


class SafetyVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """B worlds in one compiled program. A fresh world replaces each one in the step that ends its episode.

    env, physics, observation, overrides: see `SafetyEnv`. The batch is that of `mjx_safety.vectorize`.
    backend: type of results and actions. "numpy" fetches all results from the device at once. "jax" keeps JAX arrays.
      "torch" shares their memory through dlpack, on any device.
    stagger: start worlds at different times of their first episode, and exclude these episodes from the statistics.
    max_episode_steps: Gymnasium's name for the field `episode_length`, used by `make_vec`. With both, the smaller one
      holds.
    autoreset_mode: Gymnasium's `AutoresetMode`. With SAME_STEP, the fastest, a fresh world replaces an ended one at
      once. With NEXT_STEP the next call resets it and ignores its action. With DISABLED it waits for
      `reset(options={"reset_mask": mask})`, which works in all modes. The last two have `info["episode_cost"]`, the
      cost of each world's episode so far.

    With SAME_STEP, after the end of an episode, `obs` belongs to the next one. `info["final_obs"]` is the last
    observation of the ended one. `info["final_info"]` has its info and its totals: `["episode"]["r"]` return, `["c"]`
    cost, `["l"]` length. Masks [B] stand beside them, such as `info["_final_obs"]`.

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
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **settings: Any,
    ):
        if backend not in BACKENDS:
            raise ValueError(f"unknown backend {backend!r}; choose from {', '.join(BACKENDS)}")
        mode = _mode(autoreset_mode)
        _refuse_pictures(settings)
        _set_length(env, settings)
        self.world: AbstractEnv = build(env, settings.pop("physics", "auto"), settings)
        self._batch = mjx_safety.vectorize(self.world, num_envs, stagger=stagger, autoreset=MODES[mode])
        self.num_envs: int = self._batch.num_envs
        self.single_observation_space: Any = observation_space(self.world, observation)
        self.single_action_space: Any = action_space(self.world)
        self.observation_space: Any = batch_space(self.single_observation_space, num_envs)
        self.action_space: Any = batch_space(self.single_action_space, num_envs)
        self.metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": mode}
        self.metadata |= {"jax": backend == "jax", "torch": backend == "torch"}
        self.states: VecState | None = None
        self._spec: SettingsSpec | None = None
        self._mode, self._ended = mode, np.zeros(num_envs, bool)
        self._parts = parts_of(self.world, observation)
        self._backend = backend
        self._compile()

    def _compile(self) -> None:
        self._reset, self._step = jax.jit(self._start), jax.jit(self._advance, donate_argnums=0)
        self._reset_each, self._restart = jax.jit(self._batch.reset_each), jax.jit(self._put)
        self._to_jax, self._from_jax = _converters(self._backend)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out compiled programs."""
        made = ("_reset", "_step", "_reset_each", "_restart", "_to_jax", "_from_jax")
        return {name: value for name, value in vars(self).items() if name not in made}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        vars(self).update(attributes)
        self._compile()

    @property
    def spec(self) -> EnvSpec | None:
        """What Gymnasium made it from."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = None if spec is None else SettingsSpec.of(spec)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start B episodes on fresh layouts.

        seed: decides the layouts. In a list [B], each seed decides the layout of one world, as for a single world.
        options: {"reset_mask": [B] bool}, the worlds to start. The others do not change.
        """
        refuse_fork()
        mask = _read_mask(read_options(options, ("reset_mask",)).get("reset_mask"), self.num_envs)
        if mask is not None and self.states is None:
            raise gymnasium.error.ResetNeeded("call reset without a reset_mask first")
        if seed is None or isinstance(seed, (int, np.integer)):
            super().reset(seed=read_seed(seed))
            begun = self._reset(draw_key(self.np_random))
        else:
            seeds = read_seeds(seed, self.num_envs)
            if None not in seeds:  # later resets follow from them
                super().reset(seed=int(np.random.SeedSequence(seeds).generate_state(1)[0]))  # type: ignore[arg-type]
            begun = self._reset_each(_keys(seeds))
        states = begun if mask is None else self._restart(self.states, begun, mask)
        self.states, self._ended = states, np.zeros(self.num_envs, bool) if mask is None else self._ended & ~mask
        return self._from_jax((self._observation(states.obs), self._info(states)))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advance all worlds by one step, then replace the ended ones. actions: [B, A] in [-1, 1]."""
        if self.states is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        refuse_fork()
        if self._ended.any():
            ended = np.flatnonzero(self._ended).tolist()
            raise ValueError(f"the episodes of worlds {ended} have ended; reset them: options={{'reset_mask': mask}}")
        actions = self._to_jax(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(
                f"actions have shape {actions.shape}; {self.num_envs} worlds take {self.action_space.shape}"
            )
        self.states, now, last = self._step(self.states, actions)
        obs, reward, terminated, truncated, info = self._from_jax(now)
        if self._mode is not AutoresetMode.SAME_STEP:
            if self._mode is AutoresetMode.DISABLED and self._backend == "numpy":
                self._ended = terminated | truncated
        elif self._backend != "numpy":
            info |= self._from_jax(last)
        elif np.any(terminated | truncated):
            info |= _with_objects(self._from_jax(last))
        return obs, reward, terminated, truncated, info

    def _start(self, key: jax.Array) -> VecState:
        return self._batch.reset(key)

    def _put(self, states: VecState, begun: VecState, mask: jax.Array) -> VecState:
        return self._batch.restart(states, begun, mask)

    def _info(self, states: VecState) -> dict[str, jax.Array]:
        info = step_info(self.world, states)
        return info if self._mode is AutoresetMode.SAME_STEP else info | {"episode_cost": states.episode_cost}

    def _advance(self, states: VecState, actions: jax.Array) -> tuple[VecState, tuple, dict[str, Any]]:
        states = self._batch.step(states, actions)
        obs, info = self._observation(states.obs), self._info(states)
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


def _mode(mode: AutoresetMode | str) -> AutoresetMode:
    """Read Gymnasium's mode, or its value from JSON."""
    try:
        return AutoresetMode(mode)
    except ValueError:
        allowed = ", ".join(known.value for known in AutoresetMode)
        raise ValueError(f"autoreset_mode is {mode!r}; it must be an AutoresetMode: {allowed}") from None


def _refuse_pictures(settings: dict[str, Any]) -> None:
    """Raise ValueError for options of the pictures of one world. A `render_mode` of None says nothing."""
    if settings.get("render_mode", "") is None:
        del settings["render_mode"]
    given = next((name for name in ("render_mode", "camera", "width", "height") if name in settings), None)
    if given is not None:
        raise ValueError(
            f"a batch of worlds draws no pictures, so it has no {given!r}; draw its worlds with"
            " mjx_safety.render(envs.unwrapped.world, envs.unwrapped.states.env_state)"
        )


def _set_length(env: str | Settings | AbstractEnv, settings: dict[str, Any]) -> None:
    """Turn `max_episode_steps` into `episode_length`. With both, the smaller one holds, as for a single world."""
    steps, length = settings.pop("max_episode_steps", None), settings.get("episode_length")
    registered = registry.episode_length(env) if isinstance(env, str) else None
    if steps is None or (length is not None and steps == registered):
        return  # `make_vec` always passes the registered number
    limits = {"max_episode_steps": steps} | ({} if length is None else {"episode_length": length})
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    settings["episode_length"] = min(limits.values())


def _keys(seeds: Sequence[int | None]) -> jax.Array:
    """Draw a key per world, as for single worlds. Returns keys [B]."""
    return jax.numpy.stack([draw_key(seeding.np_random(number)[0]) for number in seeds])


def _read_mask(mask: Any, num_envs: int) -> np.ndarray | None:
    """Check a mask of worlds [B] bool."""
    if mask is None:
        return None
    try:
        mask = np.asarray(mask)
    except ValueError:  # rows of different lengths
        raise ValueError(
            f"reset_mask is a {type(mask).__name__} without a shape; it must be bool[{num_envs}]"
        ) from None
    if mask.shape != (num_envs,) or mask.dtype != bool:
        raise ValueError(f"reset_mask is {mask.dtype}{list(mask.shape)}; it must be bool[{num_envs}]")
    return mask


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
        return read_actions, _to_numpy
    if backend == "jax":
        return _as_jax, lambda tree: tree
    torch = importlib.import_module("torch")

    def to_jax(actions: Any) -> jax.Array:
        if not isinstance(actions, torch.Tensor):
            return _as_jax(actions)
        return jax.numpy.from_dlpack(actions.detach().to(torch.float32).contiguous())

    return to_jax, lambda tree: jax.tree.map(torch.from_dlpack, tree)


def _as_jax(actions: Any) -> jax.Array:
    """Return actions as a JAX array. Raises ValueError unless they are real numbers."""
    return actions if isinstance(actions, jax.Array) else jax.numpy.asarray(read_actions(actions))


def _to_numpy(tree: Any) -> Any:
    """Fetch everything at once, as copies, because arrays shared with JAX are read-only."""
    return jax.tree.map(np.array, jax.device_get(tree))
