"""Env: one world as pure functions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
from flax import struct

from mjx_safety.config import EnvConfig
from mjx_safety.geometry import mat_from_quat
from mjx_safety.lidar import pseudo_lidar
from mjx_safety.physics.base import NUM_SUBSTEPS, Physics
from mjx_safety.placement import MAX_REDRAWS, PlacementTable, placement_table, redraw, sample_layout
from mjx_safety.scene import PhysicsReading, PhysicsState, Readings, Scene
from mjx_safety.tasks.costs import SOURCES
from mjx_safety.types import Snapshot, State

HUGE = 1e10  # m, rad or their rates: from here on MuJoCo itself calls a value bad (mjMAXVAL)


@struct.dataclass
class Env:
    """One environment on one engine: `reset`, `step` and friends are pure and work under jit, vmap and scan.

    They are compiled on first use, also when called outside `jax.jit`. The environment itself is a pytree; settings in
    float and, on `mjx`, the physics model are leaves. Build it with `make`.
    """

    config: EnvConfig
    placement: PlacementTable
    physics: Any  # a `Physics`: a subtree on `mjx`, static on `mujoco`

    @property
    def scene(self) -> Scene:
        """Robot and objects, with the engine's model."""
        return self.physics.scene

    @property
    def mj_model(self) -> mujoco.MjModel:
        """The engine's model, as MuJoCo compiled it."""
        return self.scene.model

    @property
    def obs_slices(self) -> dict[str, slice]:
        """Where each entry stands in the observation: sensors (SI units, robot frame), then lidars in [0, 1]."""
        sizes = {name: int(self.mj_model.sensor(name).dim[0]) for name in self.config.robot.sensors}
        sizes |= {f"{name}_lidar": self.config.lidar.num_bins for name in self._observed}
        slices, start = {}, 0
        for name, size in sizes.items():
            slices[name] = slice(start, start + size)
            start += size
        return slices

    @property
    def obs_size(self) -> int:
        """O."""
        return list(self.obs_slices.values())[-1].stop

    @property
    def action_size(self) -> int:
        """A."""
        return self.mj_model.nu

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of the C entries of `State.costs`: the sources that this environment constrains."""
        return tuple(name for _, sources in self._constrained for name in sources)

    @property
    def dt(self) -> float:
        """Length of a step, s."""
        return float(self.mj_model.opt.timestep) * NUM_SUBSTEPS

    @property
    def episode_length(self) -> int:
        """Steps until `truncated`."""
        return self.config.episode_length

    @property
    def _goal_row(self) -> int | None:
        """Row in the placement table of what the task moves."""
        kind = self.config.task.moves
        return None if kind is None else self.placement.rows(kind).start

    @property
    def _observed(self) -> list[str]:
        return [name for name, kind in self.config.objects.items() if kind.observed]

    @property
    def _constrained(self) -> list[tuple[str, dict]]:
        objects = self.config.objects
        return [(kind, SOURCES[kind]) for kind in objects if kind in SOURCES and objects[kind].constrained]

    @jax.jit
    def reset(self, key: jax.Array) -> State:
        """Start an episode: fresh layout, robot at rest, goal drawn clear of everything. key: typed PRNG key []."""
        layout_key, yaw_key, memory_key, key = jax.random.split(key, 4)
        xy, failed = sample_layout(layout_key, self.placement, redrawn=self._goal_row)
        data, still_pos = self._enter(self._default_snapshot(yaw_key, xy))
        data, reading = self.physics.start(data)
        readings = self.scene.read(data, reading, still_pos)
        memory = self.config.task.init(readings, memory_key)
        return self._first_state(data, readings, memory, key, failed)

    @jax.jit
    def step(self, state: State, action: jax.Array) -> State:
        """Advance by one step. action: [A]; clipped to the actuators' range, [-1, 1] for every robot here."""
        if action.shape != (self.action_size,):
            raise ValueError(
                f"action has shape {action.shape}; {self.config.robot.name} takes ({self.action_size},), one number per"
                f" actuator (for a batch of worlds, use jax.vmap(env.step))"
            )
        config, task = self.config, self.config.task
        ctrl_range = jnp.asarray(self.mj_model.actuator_ctrlrange, jnp.float32)
        action = jnp.where(jnp.all(jnp.isfinite(action)), action, 0.0).astype(jnp.float32)  # as the C engine does
        ctrl = jnp.clip(action, ctrl_range[:, 0], ctrl_range[:, 1])
        data, reading = self.physics.step(state.data, ctrl)
        data, reading, exception = _undo_blow_up(state.data, data, reading)
        readings = self.scene.read(data, reading, state.scene)

        progress, goal_met = task.reward(readings, state.memory)
        goal_met = goal_met & ~exception
        reward = jnp.clip(progress, -config.reward_clip, config.reward_clip) + task.bonus * goal_met
        costs, cost = self._cost(readings)

        key = jax.random.fold_in(state.key, state.step_count)
        xy, failed = self._move_goal(key, self._current_xy(readings), goal_met)
        readings, still_pos = self._place_goal(readings, state.scene, xy)
        step_count = state.step_count + 1
        failed = failed | state.placement_failed  # a world that was never laid out properly ends at once
        ended = exception | failed
        if not config.continue_goal:
            ended = ended | goal_met
        return State(
            obs=self._observe(readings),
            reward=jnp.where(exception, config.reward_exception, reward),
            cost=jnp.where(exception, 1.0, cost),
            costs=costs,
            goal_met=goal_met,
            terminated=ended,
            truncated=(step_count >= config.episode_length) & ~ended,
            step_count=step_count,
            placement_failed=failed,
            data=data,
            scene=still_pos,
            memory=task.advance(readings, state.memory, goal_met, jax.random.fold_in(key, MAX_REDRAWS)),
            key=state.key,
        )

    @jax.jit
    def snapshot(self, state: State) -> Snapshot:
        """Return the world as plain arrays (see `Snapshot`)."""
        zero = PhysicsReading(sensors=jnp.zeros(self.mj_model.nsensordata), contacts=jnp.zeros(self._num_solid))
        readings = self.scene.read(state.data, zero, state.scene)
        root_nq, root_nv = self.scene.root_sizes
        fields = {f"{kind}_pos": pos for kind, pos in readings.pos.items()}
        for part in ("quat", "linvel", "angvel"):
            fields |= {f"{kind}_{part}": value for kind, value in getattr(readings, part).items()}
        fields |= self.config.task.to_snapshot(state.memory)
        return Snapshot(
            time=state.data.time,
            ctrl=state.data.ctrl,
            root_pos=readings.root_pos,
            root_quat=readings.root_quat,
            root_linvel=readings.root_linvel,
            root_angvel=readings.root_angvel,
            joint_qpos=state.data.qpos[root_nq : self.scene.robot_nq],
            joint_qvel=state.data.qvel[root_nv : self.scene.robot_nv],
            **fields,
        )

    @jax.jit
    def restore(self, snapshot: Snapshot, key: jax.Array | None = None) -> State:
        """Build the state of a snapshot, with its observation and costs, reward 0 and a new episode ahead of it.

        Fields that are None keep the value of a default reset (drawn with `key`, a fixed one if not given); memories of
        the reward that are missing are computed from the positions.
        """
        layout_key, yaw_key, memory_key, next_key = jax.random.split(jax.random.key(0) if key is None else key, 4)
        xy, failed = sample_layout(layout_key, self.placement)
        data, still_pos = self._enter(_overlay(self._default_snapshot(yaw_key, xy), snapshot))
        data, reading = self.physics.forward(data)
        readings = self.scene.read(data, reading, still_pos)
        memory = self.config.task.from_snapshot(readings, snapshot, memory_key)
        return self._first_state(data, readings, memory, next_key, failed)

    @jax.jit
    def data(self, state: State) -> Any:
        """Return the engine's complete data of a state: `mjx.Data` on `mjx`, current to the last entry."""
        return self.physics.data(state.data)

    @property
    def _num_solid(self) -> int:
        return sum(self.config.objects[name].num for name in self.scene.free_kinds)

    def _default_snapshot(self, key: jax.Array, xy: jax.Array) -> Snapshot:
        """Everything at rest at the places xy [N, 2] m of a layout, with random headings."""
        yaw = 2 * jnp.pi * jax.random.uniform(key, (len(xy),))
        fixed = self.config.robot.start_yaw
        root_yaw = yaw[0] if fixed is None else jnp.float32(fixed)
        rows = {name: self.placement.rows(name) for name in self.config.objects}
        places, headings = ({name: values[where] for name, where in rows.items()} for values in (xy, yaw))
        return self.scene.default_snapshot(xy[0], root_yaw, places, headings)

    def _enter(self, snapshot: Snapshot) -> tuple[PhysicsState, dict[str, jax.Array]]:
        """Split a snapshot into the physics state and the positions [N, 3] m of what has no physics."""
        still = [name for name in self.config.objects if name not in self.scene.free_kinds]
        positions = {name: getattr(snapshot, f"{name}_pos") for name in still}
        return self.scene.to_physics(snapshot), positions

    def _first_state(
        self, data: PhysicsState, readings: Readings, memory: Any, key: jax.Array, failed: jax.Array
    ) -> State:
        costs, cost = self._cost(readings)
        return State(
            obs=self._observe(readings),
            reward=jnp.float32(0),
            cost=cost,
            costs=costs,
            goal_met=jnp.bool_(False),
            terminated=failed,
            truncated=jnp.bool_(False),
            step_count=jnp.int32(0),
            placement_failed=failed,
            data=data,
            scene={name: pos for name, pos in readings.pos.items() if name not in self.scene.free_kinds},
            memory=memory,
            key=key,
        )

    def _cost(self, readings: Readings) -> tuple[jax.Array, jax.Array]:
        """Return the raw costs [C] and what the step costs []."""
        kinds = self.config.objects
        costs = [fn(kinds[kind], readings) for kind, sources in self._constrained for fn in sources.values()]
        total = jnp.stack(costs) if costs else jnp.zeros(0)
        cost = jnp.sum(total)
        return total, (cost > 0).astype(jnp.float32) if self.config.indicator else cost

    def _observe(self, readings: Readings) -> jax.Array:
        mat = mat_from_quat(readings.root_quat)
        lidars = [
            pseudo_lidar(self.config.lidar, readings.pos[kind], readings.root_pos, mat) for kind in self._observed
        ]
        return jnp.concatenate([readings.sensors, *lidars])

    def _current_xy(self, readings: Readings) -> jax.Array:
        """Where everything is now, [N, 2] m, in the order of placement."""
        places = [readings.root_pos[None, :2], *(readings.pos[name][:, :2] for name in self.config.objects)]
        return jnp.concatenate(places)

    def _move_goal(self, key: jax.Array, xy: jax.Array, needed: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Redraw, where needed [] bool, the place of what the task moves. Returns xy [N, 2] m and failed [] bool."""
        if self._goal_row is None:
            return xy, jnp.bool_(False)
        position, failed = redraw(key, self.placement, self._goal_row, xy, needed)
        return xy.at[self._goal_row].set(position), failed

    def _place_goal(
        self, readings: Readings, still_pos: dict[str, jax.Array], xy: jax.Array
    ) -> tuple[Readings, dict[str, jax.Array]]:
        """Enter the goal's place in xy [N, 2] m into the readings and the episode's positions."""
        kind = self.config.task.moves
        if kind is None:
            return readings, still_pos
        pos = still_pos[kind].at[:, :2].set(xy[self.placement.rows(kind)])
        return readings.replace(pos=readings.pos | {kind: pos}), still_pos | {kind: pos}


def build_env(config: EnvConfig, physics: Physics) -> Env:
    """Put config and engine together. Raises ValueError where something has no room to be placed."""
    table = placement_table({"robot": config.robot, **config.objects}, config.extents, config.margin)
    return Env(config=config, placement=table, physics=physics)


def _undo_blow_up(before: PhysicsState, after: PhysicsState, reading: PhysicsReading) -> tuple:
    """Return to the state before the step where the physics has blown up, and say so [] bool."""
    values = jnp.concatenate([after.qpos, after.qvel, reading.sensors])
    sane = jnp.all(jnp.abs(values) < HUGE)  # False for NaN too
    data = jax.tree.map(lambda old, new: jnp.where(sane, new, old), before, after)
    reading = jax.tree.map(lambda value: jnp.where(sane, value, 0.0), reading)
    return data, reading, ~sane


def _overlay(default: Snapshot, given: Snapshot) -> Snapshot:
    """Replace each field of the default that is given. Raises ValueError for a field of the wrong shape or kind."""
    changes = {}
    for name, value in vars(given).items():
        if value is None or name.startswith("last_"):
            continue
        known = getattr(default, name)
        if known is None:
            raise ValueError(f"snapshot.{name} is given, but this environment has no such thing")
        value = jnp.asarray(value, known.dtype)
        if name == "goal_pos":
            value = value.reshape(-1, 3)
        if value.shape != known.shape:
            raise ValueError(f"snapshot.{name} has shape {value.shape}; this environment's is {known.shape}")
        changes[name] = value
    return default.replace(**changes)
