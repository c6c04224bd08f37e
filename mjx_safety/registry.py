"""Names of environments and engines. Only this module turns strings into objects."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib.util
import io
import itertools
import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, cast, overload

import jax

from mjx_safety.core.importing import import_function, needed_arguments
from mjx_safety.core.settings import from_mapping
from mjx_safety.env.base import AbstractEnv
from mjx_safety.env.env import Env, build_env
from mjx_safety.env.locomotion import LocomotionEnv
from mjx_safety.sim import dynamics
from mjx_safety.sim.engines.base import AbstractPhysics, Scenes
from mjx_safety.sim.lone_robot import build_lone_robot
from mjx_safety.sim.model import Accuracy, Engine, with_slots
from mjx_safety.sim.relevance.slots import expected_share
from mjx_safety.sim.scene import Scene, build_scene
from mjx_safety.world.config import EnvConfig
from mjx_safety.world.locomotion.config import LocomotionConfig
from mjx_safety.world.locomotion.robots import presets as velocity_presets
from mjx_safety.world.placement.room import refuse_crowd
from mjx_safety.world.robots.ant import ANT
from mjx_safety.world.robots.base import Robot
from mjx_safety.world.robots.car import CAR
from mjx_safety.world.robots.doggo import DOGGO, DOGGO_2019
from mjx_safety.world.robots.point import POINT
from mjx_safety.world.tasks import button, circle, goal, push, run

ROBOTS: tuple[Robot, ...] = (POINT, CAR, DOGGO)
ROBOTS_2019: tuple[Robot, ...] = (POINT, CAR, DOGGO_2019)
MORE_ROBOTS: tuple[Robot, ...] = (ANT,)  # not part of the 27 of the benchmark
TASKS: tuple[ModuleType, ...] = (goal, button, push)  # each has `presets(robot)`, one per level
MORE_TASKS: tuple[ModuleType, ...] = (circle, run)  # not part of the 27 of the benchmark

Config = EnvConfig | LocomotionConfig  # one type per family of environments

ENGINES: tuple[Engine, ...] = ("mjx", "warp", "mujoco")
PHYSICS = (*ENGINES, "auto")
_OTHER_NAMES: dict[str, str] = dict.fromkeys(("num_steps", "max_steps", "max_episode_steps"), "episode_length")
ACCURACIES: tuple[Accuracy, ...] = ("fast", "reference")


def _presets(prefix: str, robots: tuple[Robot, ...], tasks: tuple[ModuleType, ...], profile: str) -> dict:
    factories = {}
    for task, robot in itertools.product(tasks, robots):
        for level, preset in enumerate(task.presets(robot)):
            settings = {"robot": robot, "profile": profile, **preset}
            name = settings["task"].name
            factories[f"{prefix}{robot.name}{name}{level}-v0"] = functools.partial(EnvConfig, **settings)
    return factories


_BENCHMARK = _presets("Safety", ROBOTS, TASKS, "1.0.0")
_MORE = {
    **_presets("Safety", ROBOTS, MORE_TASKS, "1.0.0"),
    **_presets("Safety", MORE_ROBOTS, (*TASKS, *MORE_TASKS), "1.0.0"),
}
_BENCHMARK_2019 = _presets("Safexp-", ROBOTS_2019, TASKS, "2019")
_VELOCITY = {name: functools.partial(dataclasses.replace, config) for name, config in velocity_presets().items()}
_PROCESS: list[int] = []  # the process that built the first environment
_FACTORIES: dict[str, Callable[[], Config]] = {**_BENCHMARK, **_MORE, **_VELOCITY, **_BENCHMARK_2019}

BENCHMARK_IDS: tuple[str, ...] = tuple(_BENCHMARK)  # the 27 of the benchmark
VELOCITY_IDS: tuple[str, ...] = tuple(_VELOCITY)  # robots without objects, whose speed costs
NAVIGATION_IDS: tuple[str, ...] = (*_BENCHMARK, *_MORE)  # robots in an arena of objects
ENV_IDS: tuple[str, ...] = (*NAVIGATION_IDS, *VELOCITY_IDS)  # all presets; ENV_IDS_2019 has the `Safexp-...` ids
ENV_IDS_2019: tuple[str, ...] = tuple(_BENCHMARK_2019)  # the 27 of Safety Gym (2019)


def register(env_id: str, factory: Callable[[], Config]) -> None:
    """Give a name to a function that returns settings (see `make`). Raises ValueError if the name is taken."""
    if env_id in _FACTORIES:
        raise ValueError(f"the environment id {env_id!r} is already registered")
    if not callable(factory):
        raise ValueError(
            f"register got a {type(factory).__name__} for {env_id!r}; it takes a function: lambda: settings"
        )
    _FACTORIES[env_id] = factory


def other_ids() -> tuple[str, ...]:
    """Ids beyond the presets: those of `register`, and entry points of other packages. Loads no package."""
    registered = [env_id for env_id in _FACTORIES if env_id not in (*ENV_IDS, *ENV_IDS_2019)]
    return tuple(dict.fromkeys([*registered, *(plugin.name for plugin in entry_points(group="mjx_safety.envs"))]))


@overload
def make(env: EnvConfig, *, physics: str = "mjx", accuracy: str = "fast", **overrides: Any) -> Env: ...
@overload
def make(env: LocomotionConfig, *, physics: str = "mjx", accuracy: str = "fast", **overrides: Any) -> LocomotionEnv: ...
@overload
def make(env: str | Config, *, physics: str = "mjx", accuracy: str = "fast", **overrides: Any) -> AbstractEnv: ...
def make(env: str | Config, *, physics: str = "mjx", accuracy: str = "fast", **overrides: Any) -> Any:
    """Build an environment.

    env: settings or a name. An `EnvConfig` makes an `Env`, and a `LocomotionConfig` a `LocomotionEnv`. A name is an id
      of `ENV_IDS`, of `register` or of an entry point in the group "mjx_safety.envs", or "package.module:factory", a
      function that returns settings.
    physics: "mjx" (JAX, any accelerator), "warp" (MJX-Warp, NVIDIA GPUs), "mujoco" (the C engine on all CPU cores), or
      "auto": mjx on an accelerator, mujoco on a CPU.
    accuracy: "fast" solves only for what can touch something. "reference" solves for every object, pair and contact,
      to check "fast"; it is slower on mujoco and far slower on mjx. warp always solves for everything. A robot without
      objects, of a `LocomotionConfig`, is the same in both.
    overrides: fields of the settings to change. A part may be a mapping of its fields: `hazards={"num": 3}`. A mapping
      for `task` changes fields of the environment's task. It can also describe another task, by all fields of that
      task or by its class: `{"class": "Run"}`.

    Raises ValueError for an unknown id, engine, accuracy or field, for an engine that cannot run here, and for wrong
    values.
    """
    if not isinstance(env, (str, *_FAMILIES)):
        raise ValueError(f"make got {env!r}; it takes an environment id or {_SETTINGS}")
    config = find_config(env) if isinstance(env, str) else env
    kind, allowed = type(config).__name__, [field.name for field in dataclasses.fields(config)]
    for name in sorted(set(overrides) - set(allowed)):
        hint = _did_you_mean(_OTHER_NAMES.get(name, name), [*allowed, "physics", "accuracy"])
        raise ValueError(f"{kind} has no field {name!r}{hint}; fields: {', '.join(allowed)}")
    if accuracy not in ACCURACIES:
        raise ValueError(f"unknown accuracy {accuracy!r}; choose from {', '.join(ACCURACIES)}")
    if isinstance(overrides.get("task"), Mapping) and dataclasses.is_dataclass(config.task):
        overrides["task"] = _read_task(type(config.task), overrides["task"])
    config, engine = dataclasses.replace(config, **overrides), resolve_physics(physics)
    if config.randomize is not None and engine == "warp":
        raise ValueError(
            f"{kind}.randomize is not for physics='warp', whose worlds share one model; use 'mjx' or 'mujoco'"
        )
    if not _PROCESS:
        _PROCESS.append(os.getpid())
    with jax.ensure_compile_time_eval():  # also while something is being traced
        built = _FAMILIES[type(config)](config, engine, cast(Accuracy, accuracy))
    if config.randomize is not None:
        dynamics.check(config.randomize, built.mj_model)
    return built


def _read_task(own: type, values: Mapping[str, Any]) -> Any:
    """Build the task that a mapping describes.

    Its class is the one that it names, else `own` if that has its fields, else the one with just these fields.
    """
    kinds = {kind.__name__: kind for kind in (*_task_kinds(), own)}
    fields = {name: value for name, value in values.items() if name != "class"}
    if "class" not in values:
        kind = _task_kind(own, fields)
    elif values["class"] in list(kinds):
        kind = kinds[values["class"]]
    else:
        raise ValueError(f"EnvConfig.task has the class {values['class']!r}; it must be one of {', '.join(kinds)}")
    return from_mapping(kind, fields, "EnvConfig.task")


def _task_kinds() -> list[type]:
    """Return the classes of this package's tasks."""
    return [type(module.presets(POINT)[0]["task"]) for module in (*TASKS, *MORE_TASKS)]


def _task_kind(own: type, values: Mapping[str, Any]) -> type:
    """Return the class of a task whose fields are given: the environment's own, or that with just these fields."""
    if set(values) <= {field.name for field in dataclasses.fields(own)}:
        return own
    fitting = (kind for kind in _task_kinds() if {field.name for field in dataclasses.fields(kind)} == set(values))
    return next(fitting, own)


def started_in() -> int | None:
    """Id of the process that built the first environment, and so started JAX; None before."""
    return _PROCESS[0] if _PROCESS else None


def resolve_physics(physics: str) -> Engine:
    """Turn "auto" into the engine for this machine. Raises ValueError for an engine that is unknown or cannot run."""
    if physics not in PHYSICS:
        raise ValueError(
            f"unknown physics {physics!r}{_did_you_mean(physics, PHYSICS)}; choose from {', '.join(PHYSICS)}"
        )
    if physics == "warp":
        _require_warp()
    if physics != "auto":
        return cast(Engine, physics)
    return "mujoco" if jax.default_backend() == "cpu" else "mjx"


def _require_warp() -> None:
    if importlib.util.find_spec("warp") is None:
        raise ValueError("physics='warp' needs the extra 'warp': pip install 'mjx-safety[warp]'")
    device = jax.devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version.lower():
        there = device.device_kind.lower()
        raise ValueError(
            f"physics='warp' needs an NVIDIA GPU; this process sees only {there}: use physics='mujoco' or 'mjx'"
        )


def _build_arena(config: EnvConfig, engine: Engine, accuracy: Accuracy) -> Env:
    refuse_crowd({"robot": config.robot, **config.placed}, config.extents)
    com = "com" in config.extras
    build = functools.partial(build_scene, config.robot, engine=engine, accuracy=accuracy, com=com)
    scene = build(config.objects)
    if accuracy == "reference" or engine == "warp":
        return build_env(config, _put_on(engine, Scenes(scene)))
    near = build(with_slots(config.objects))
    has_slots = near.solid_bodies != scene.solid_bodies or engine == "mjx"
    room = _room_near_objects(config, scene)
    return build_env(config, _put_on(engine, Scenes(scene, near if has_slots else None, build({}), room)))


def _room_near_objects(config: EnvConfig, scene: Scene) -> float:
    """Share of the worlds that step near objects at a time: on a CPU as few as possible, elsewhere all that need it.

    Worlds wait for the slowest of those that step with them. On a GPU the launches of another round cost more.
    """
    if jax.default_backend() == "cpu":
        return 0.0
    x_min, y_min, x_max, y_max = config.extents
    seconds = config.frameskip * float(scene.model.opt.timestep)
    return expected_share(scene, seconds, (x_max - x_min) * (y_max - y_min))


def _build_lone_robot(config: LocomotionConfig, engine: Engine, _: Accuracy) -> LocomotionEnv:
    scene = build_lone_robot(config, engine=engine)
    return LocomotionEnv(config=config, physics=_put_on(engine, Scenes(scene)))


_FAMILIES: dict[type, Callable[[Any, Engine, Accuracy], AbstractEnv]] = {  # settings -> builder of the environment
    EnvConfig: _build_arena,
    LocomotionConfig: _build_lone_robot,
}
_SETTINGS = "an EnvConfig or a LocomotionConfig"


def _put_on(engine: Engine, scenes: Scenes) -> AbstractPhysics:
    """Build the physics of the scenes on an engine."""
    if engine == "mujoco":
        from mjx_safety.sim.engines.mujoco import physics_of

        return physics_of(scenes)
    if engine == "warp":
        from mjx_safety.sim.engines.warp import WarpPhysics

        return WarpPhysics.create(scenes.full)
    with contextlib.redirect_stdout(io.StringIO()):  # MJX prints that Warp, which this engine does not use, is missing
        from mjx_safety.sim.engines.mjx import MjxPhysics

    return MjxPhysics.create(scenes)


def find_config(env_id: str) -> Config:
    """Return the settings of an id. Raises ValueError if there is none, or if its factory returns something else."""
    return check_config(env_id, find_factory(env_id)())


def check_config(env_id: str, made: Any) -> Config:
    """Return what the factory of an id made. Raises ValueError unless it is settings."""
    if not isinstance(made, tuple(_FAMILIES)):
        raise ValueError(f"the factory of {env_id!r} returned {type(made).__name__}; it must return {_SETTINGS}")
    return made


def episode_length(env_id: str) -> int:
    """Steps until the episodes of an id are truncated, without building it."""
    return find_config(env_id).episode_length


def find_factory(env_id: str) -> Callable[[], Config]:
    """Find the function behind an id. Raises ValueError if there is none; errors in its module are passed on."""
    if env_id in _FACTORIES:
        return _FACTORIES[env_id]
    plugins = {plugin.name: plugin for plugin in entry_points(group="mjx_safety.envs")}
    if env_id in plugins:
        return plugins[env_id].load()
    if ":" in env_id:
        factory = import_function(env_id, "environment", f"a function that returns {_SETTINGS}")
        needed = needed_arguments(factory)
        if needed:
            raise ValueError(f"{env_id!r} needs an argument {needed[0]!r}; a factory takes none")
        return cast(Callable[[], Config], factory)
    known = [*_FACTORIES, *plugins]
    hint = _did_you_mean(env_id, known)
    raise ValueError(f"unknown environment id {env_id!r}{hint}; `python -m mjx_safety` lists all {len(known)}")


def _did_you_mean(name: str, known: Any) -> str:
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
