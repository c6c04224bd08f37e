"""The observation: the robot's sensors, then lidars and compasses of the objects, then extras."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mjx_safety.core.geometry import mat_from_quat, quat_from_yaw
from mjx_safety.env.randomness import observes_dynamics, with_noise
from mjx_safety.sim import dynamics
from mjx_safety.sim.scene import Scene
from mjx_safety.sim.state import PhysicsState
from mjx_safety.world.config import EnvConfig
from mjx_safety.world.lidar import compass, goal_closeness, natural_lidar, pseudo_lidar
from mjx_safety.world.objects import AbstractObject
from mjx_safety.world.readings import Readings

NAMES_2019 = {"push_box_lidar": "box_lidar", "push_box_comp": "box_compass", "goal_comp": "goal_compass"}


def observation_sizes(config: EnvConfig, scene: Scene) -> dict[str, int]:
    """Entries of the observation in order: name -> size."""
    sizes = _inserted_sizes(config, scene)
    return sizes if config.profile == "1.0.0" else {name: sizes[name] for name in sorted(sizes)}


def refuse_shared_names(config: EnvConfig, scene: Scene) -> None:
    """Raise ValueError if a sensor has the name of another entry of the observation."""
    others = _other_sizes(config, scene)
    for sensor in config.robot.sensors:
        if _renamed(config, sensor) in others:
            raise ValueError(
                f"robot {config.robot.name} has a sensor named {sensor!r}, as another entry of the observation:"
                f" rename the sensor; the others are {', '.join(others)}"
            )


def _inserted_sizes(config: EnvConfig, scene: Scene) -> dict[str, int]:
    """Entries in the order of 1.0.0, which is the order in `observe`."""
    sensors = {_renamed(config, name): size for name, size in scene.sensor_sizes().items()}
    return sensors | _other_sizes(config, scene)


def _renamed(config: EnvConfig, name: str) -> str:
    return name if config.profile == "1.0.0" else NAMES_2019.get(name, name)


def _other_sizes(config: EnvConfig, scene: Scene) -> dict[str, int]:
    """Entries after the sensors."""
    model = scene.model
    sizes = {}
    for name, kind in scene.objects.items():
        if kind.observed:
            sizes[f"{name}_lidar"] = config.lidar.num_bins
        if getattr(kind, "compass", False):
            sizes[f"{name}_comp"] = config.compass_size
    extras = {"qpos": model.nq, "qvel": model.nv, "ctrl": model.nu, "freejoint": scene.root_sizes[0], "com": 3}
    sizes |= {name: extras.get(name, 1) for name in config.extras}
    if observes_dynamics(config.randomize):
        sizes["dynamics"] = dynamics.size(scene)
    return {_renamed(config, name): size for name, size in sizes.items()}


def observe(
    config: EnvConfig, scene: Scene, readings: Readings, data: PhysicsState, step_count: jax.Array, key: jax.Array
) -> jax.Array:
    """Observation [O] float32 of a world, as shown by `AbstractTask.view`. key: of the episode."""
    mat = mat_from_quat(readings.root_quat)
    parts = [with_noise(config.randomize, readings.sensors, key, step_count)]
    for name, kind in config.objects.items():
        if kind.observed:
            lidar = _lidar(config, name, kind, readings, mat)
            parts.append(jnp.where(readings.hidden[name], 0.0, lidar) if name in readings.hidden else lidar)
        if getattr(kind, "compass", False):
            parts.append(compass(readings.pos[name][0], readings.root_pos, mat, config.compass_size))
    parts += [_extra(name, config, scene, readings, data, step_count) for name in config.extras]
    if observes_dynamics(config.randomize) and data.dynamics is not None:
        parts.append(dynamics.flat(data.dynamics))
    obs = jnp.concatenate(parts)
    return obs if config.profile == "1.0.0" else obs[_sorted_index(config, scene)]


def with_step_count(config: EnvConfig, scene: Scene, obs: jax.Array, step_count: jax.Array) -> jax.Array:
    """Return an observation [O] of the same world at another step of its episode. step_count: [] int32."""
    if "remaining" not in config.extras:
        return obs
    sizes = observation_sizes(config, scene)
    start = sum(list(sizes.values())[: list(sizes).index("remaining")])
    return obs.at[start : start + 1].set(_remaining(config, step_count))


def _remaining(config: EnvConfig, step_count: jax.Array) -> jax.Array:
    """Share [1] in [0, 1] of the episode that is over. step_count: [] int32."""
    return (step_count / config.episode_length).astype(jnp.float32)[None]


def _lidar(config: EnvConfig, name: str, kind: AbstractObject, readings: Readings, mat: jax.Array) -> jax.Array:
    pos = readings.pos[name]
    if config.lidar.kind == "pseudo":
        return pseudo_lidar(config.lidar, pos, readings.root_pos, mat)
    quat = readings.quat[name] if name in readings.quat else jax.vmap(quat_from_yaw)(jnp.array(kind.yaws))
    columns = kind.body_kind == "marker" and config.lidar.see_markers
    return natural_lidar(config.lidar, kind.shapes, pos, quat, readings.root_pos, mat, columns=columns)


def _extra(
    name: str, config: EnvConfig, scene: Scene, readings: Readings, data: PhysicsState, step_count: jax.Array
) -> jax.Array:
    match name:
        case "goal_dist":
            return goal_closeness(readings.pos["goal"][0], readings.root_pos)[None]
        case "remaining":
            return _remaining(config, step_count)
        case "freejoint":
            return data.qpos[: scene.root_sizes[0]]
        case "com" if readings.com is not None:
            return readings.com
        case _:
            return getattr(data, name)


def _sorted_index(config: EnvConfig, scene: Scene) -> np.ndarray:
    """Index of each number of the 2019 observation in that of 1.0.0, [O] int."""
    sizes = _inserted_sizes(config, scene)
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    return np.concatenate([np.arange(starts[name], starts[name] + sizes[name]) for name in sorted(sizes)])
