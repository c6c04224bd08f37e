"""Snapshots: a world as plain arrays, for replay, tests and analysis; and the places that stay for an episode."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mjx_safety.env import task_calls
from mjx_safety.sim.scene import Scene, unit_quat
from mjx_safety.sim.state import Measurements
from mjx_safety.types import Dynamics, Places, Snapshot, State
from mjx_safety.world.config import EnvConfig
from mjx_safety.world.objects import AbstractObject
from mjx_safety.world.placement.table import PlacementTable

UPRIGHT = 1e-3  # (1) rounding of the first two imaginary parts of a unit quaternion: 2e-3 rad of tilt


def take(config: EnvConfig, scene: Scene, state: State) -> Snapshot:
    """Return a state as plain arrays."""
    nothing = Measurements(sensors=jnp.zeros(scene.model.nsensordata), contacts=jnp.zeros(len(scene.solid_bodies)))
    world = scene.read(state.data, nothing, state.places)
    root_nq, root_nv = scene.root_sizes
    fields = {f"{kind}_pos": pos for kind, pos in world.pos.items()}
    for part in ("quat", "linvel", "angvel"):
        fields |= {f"{kind}_{part}": value for kind, value in getattr(world, part).items()}
    fields |= {f"{kind}_start_pos": pos for kind, pos in state.places.starts.items()}
    fields |= scene.driven_fields(state.data)
    fields |= task_calls.to_snapshot(config.task, state.memory, fields)
    return Snapshot(
        time=state.data.time,
        ctrl=state.data.ctrl,
        act=state.data.act if scene.model.na else None,
        root_pos=world.root_pos,
        root_quat=world.root_quat,
        root_linvel=world.root_linvel,
        root_angvel=world.root_angvel,
        joint_qpos=state.data.qpos[root_nq : scene.robot_nq],
        joint_qvel=state.data.qvel[root_nv : scene.robot_nv],
        dynamics=state.data.dynamics,
        **fields,
    )


def at_rest(config: EnvConfig, scene: Scene, table: PlacementTable, key: jax.Array, xy: jax.Array) -> Snapshot:
    """All objects at rest at the places xy [N, 2] m of a layout, with random headings."""
    fixed = config.robot.start_yaw
    root_key, key = jax.random.split(key)
    root_yaw = 2 * jnp.pi * jax.random.uniform(root_key) if fixed is None else jnp.float32(fixed)
    placed = {name: xy[table.rows(name)] for name in config.placed}
    places = {name: placed.get(name, jnp.zeros((kind.num, 2))) for name, kind in config.objects.items()}
    turns = 2 * jnp.pi * jax.random.uniform(key, (sum(kind.num for kind in config.objects.values()),))
    headings, start = {}, 0
    for name, kind in config.objects.items():
        headings[name] = turns[start : start + kind.num] if kind.turned else jnp.array(kind.yaws, jnp.float32)
        start += kind.num
    return scene.default_snapshot(xy[0], root_yaw, places, headings, jax.random.fold_in(root_key, 1))


def lasting_places(
    objects: Mapping[str, AbstractObject], pos: Mapping[str, jax.Array], start_pos: Mapping[str, jax.Array]
) -> Places:
    """Return what stays for an episode among positions of all kinds, now and at reset."""
    return Places(
        markers={name: pos[name] for name, kind in objects.items() if kind.body_kind == "marker"},
        starts={name: value for name, value in start_pos.items() if objects[name].body_kind == "free"},
    )


def places_of_snapshot(objects: Mapping[str, AbstractObject], snapshot: Snapshot, remembers_vases: bool) -> Places:
    """Return what stays for the episode of a complete snapshot.

    remembers_vases: whether the places of vases at reset are needed. If they are not given, they are those of now.
    """
    pos, starts = {name: getattr(snapshot, f"{name}_pos") for name in objects}, {}
    if remembers_vases:
        given = snapshot.vases_start_pos
        starts["vases"] = snapshot.vases_pos if given is None else jnp.asarray(given, jnp.float32)
    return lasting_places(objects, pos, starts)


def refuse_tilt(given: Snapshot, robot_name: str) -> None:
    """Raise ValueError for a root that is not upright, as a planar robot always is. Traced arrays are not checked."""
    if given.root_quat is None or isinstance(given.root_quat, jax.core.Tracer):
        return
    quat = np.asarray(given.root_quat, float)
    if quat.shape == (4,) and np.linalg.norm(quat[1:3]) > UPRIGHT * np.linalg.norm(quat):
        raise ValueError(
            f"snapshot.root_quat is {np.round(quat, 4).tolist()}, which tilts the robot {robot_name};"
            f" its root is planar, so it takes a rotation about z: (w, 0, 0, z)"
        )


def complete(default: Snapshot, given: Snapshot) -> Snapshot:
    """Replace the fields of a default snapshot of a world with objects by the given ones. Raises as `overlay` does."""
    shapes = _shapes(default)
    more: dict[str, tuple[int, ...]] = {
        name: () for name in ("goal_button", "buttons_timer", "last_dist_goal", "last_dist_box", "last_box_goal")
    }
    more |= {"last_root_pos": (3,), "memory": ()}  # memory: of any shape
    for kind in ("vases", "gremlins"):
        if f"{kind}_pos" in shapes:
            more |= {f"{kind}_start_pos": shapes[f"{kind}_pos"], f"{kind}_start_quat": shapes[f"{kind}_quat"]}
    if "gremlins_pos" in shapes:
        more |= {f"gremlin_mocaps_{part}": shapes[f"gremlins_{part}"] for part in ("pos", "quat")}
    return overlay(default, given, more)


def overlay(default: Snapshot, given: Snapshot, more: Mapping[str, tuple[int, ...]]) -> Snapshot:
    """Replace the fields of the default by the given ones. Quaternions are normalised.

    more: shapes of allowed fields that the default lacks. Raises ValueError for a field of the wrong shape or kind.
    """
    known = _shapes(default) | dict(more)
    changes = {}
    for name, value in vars(given).items():
        if value is None:
            continue
        if name == "dynamics" and default.dynamics is not None:
            changes[name] = _fitting(default.dynamics, value)
            continue
        if name not in known:
            raise ValueError(f"snapshot.{name} is given, but this environment has no such thing")
        if name == "memory":
            changes[name] = value
            continue
        value = jnp.asarray(value, jnp.float32)
        if name == "goal_pos" and value.ndim == 1:
            value = value[None]
        if value.shape != known[name]:
            raise ValueError(f"snapshot.{name} has shape {value.shape}; this environment's is {known[name]}")
        changes[name] = unit_quat(value) if name.endswith("_quat") else value
    return default.replace(**changes)


def _shapes(snapshot: Snapshot) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a snapshot."""
    arrays = {name: value for name, value in vars(snapshot).items() if name != "dynamics"}
    return {name: jnp.shape(value) for name, value in arrays.items() if value is not None}


def _fitting(default: Dynamics, given: Dynamics) -> Dynamics:
    """Return given dynamics as single numbers. Raises ValueError unless they have the shapes of the default."""
    shapes = [jax.tree.map(jnp.shape, each) for each in (default, given)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"snapshot.dynamics has the shapes {shapes[1]}; this environment's are {shapes[0]}")
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), given)
