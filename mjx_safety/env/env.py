"""Env: one world as pure functions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from typing_extensions import override

from mjx_safety.core.arguments import typed_key
from mjx_safety.core.compiled import compiled
from mjx_safety.core.settings import Rectangle, refuse_sweep
from mjx_safety.env import snapshots, task_calls
from mjx_safety.env.base import AbstractEnv, check_action, check_snapshot, check_state, to_control, undo_blow_up
from mjx_safety.env.observation import observation_sizes, observe, refuse_shared_names, with_step_count
from mjx_safety.env.randomness import draw_dynamics
from mjx_safety.sim.engines.base import AbstractPhysics
from mjx_safety.sim.scene import Scene
from mjx_safety.sim.state import PhysicsState
from mjx_safety.types import Dynamics, Places, Snapshot, State
from mjx_safety.world.config import EnvConfig
from mjx_safety.world.objects import AbstractObject
from mjx_safety.world.placement.batch import sample_layouts
from mjx_safety.world.placement.layout import redraw, sample_layout
from mjx_safety.world.placement.room import require_room
from mjx_safety.world.placement.table import PlacementTable, placement_table
from mjx_safety.world.readings import Readings
from mjx_safety.world.tasks.costs import CostFn, sources

PLACES, YAWS, MEMORY, WORLDS = range(4)  # folded into the layout's key, one number per use
STEP_USES = ("goal", "memory", "action", "substeps")  # of the random numbers of a step
StepSeed = tuple[jax.Array, jax.Array]  # key of the episode [], number of the step [] int32
LONGEST = 1000.0  # s; a sum of times in single precision errs by less than 1 % up to here, by 2.3 % from 1024 s on


@struct.dataclass
class Env(AbstractEnv):
    """One environment on one engine. Its functions are pure and work under jit, vmap and scan.

    They compile on first use, also outside `jax.jit`. The environment is a pytree. Its leaves are the float settings
    and, on `mjx` and `warp`, the physics model. Build it with `make`.
    """

    config: EnvConfig
    placement: PlacementTable
    physics: Any  # an `AbstractPhysics`: a subtree on `mjx` and `warp`, static on `mujoco`

    __hash__, __eq__ = object.__hash__, object.__eq__  # so that it may be a static argument of `jax.jit`

    def __repr__(self) -> str:
        """Return robot, task, engine and objects in one line."""
        kinds = [f"{kind.num} {name}" for name, kind in self.config.objects.items()]
        return f"Env({self.config.robot.name}, {self.config.task.name}, {self.physics.name}: {', '.join(kinds)})"

    @property
    def scene(self) -> Scene:
        """Robot and objects, with the engine's model."""
        return self.physics.scene

    @property
    def entry_sizes(self) -> dict[str, int]:
        """Entries of the observation: sensors (SI units, robot frame), lidars in [0, 1], the rest."""
        return observation_sizes(self.config, self.scene)

    @property
    @override
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        markers = {name: kind.num for name, kind in self.config.objects.items() if kind.body_kind == "marker"}
        return super().state_shapes | {name: (num, 3) for name, num in markers.items()}

    @property
    @override
    def objects(self) -> Mapping[str, AbstractObject]:
        return self.config.objects

    @property
    @override
    def extents(self) -> Rectangle:
        return self.config.extents

    @property
    @override
    def robot_name(self) -> str:
        return self.config.robot.name

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of the C entries of `State.costs`: the sources that this environment constrains."""
        return (*(name for name, _, _ in self._sources), *self.config.task.costs)

    @property
    def dt(self) -> float:
        """Length of a step, s. It is a mean if the number of physics steps is random."""
        return float(self.mj_model.opt.timestep) * self.config.frameskip * self.config.frameskip_prob

    @property
    def _goal_row(self) -> int | None:
        """Row of the kind that the task moves, in the placement table."""
        kind = self.config.task.moves
        return None if kind is None else self.placement.rows(kind).start

    @property
    def keeps_layout(self) -> bool:
        """Whether each world of a batch keeps one layout for all its episodes."""
        return self.config.layouts != "per_episode"

    @property
    def _sources(self) -> list[tuple[str, AbstractObject, CostFn]]:
        """Name, settings and function of each source of cost of the objects that this environment constrains."""
        kinds = [(name, kind) for name, kind in self.config.objects.items() if kind.constrained]
        return [(source, kind, fn) for name, kind in kinds for source, fn in sources(name, kind).items()]

    @compiled
    def reset(self, key: jax.Array) -> State:
        """Start an episode with a fresh layout and the robot at rest. key: typed PRNG key []."""
        refuse_sweep(self.config, "reset")
        layout_key, key = self._layout_key(typed_key("reset", key))
        xy, failed = sample_layout(jax.random.fold_in(layout_key, PLACES), self.placement, redrawn=self._goal_row)
        return self._begin(layout_key, key, xy, failed)

    @functools.partial(compiled, static="num")
    def _reset_many(self, key: jax.Array, num: int) -> State:
        """The episodes share the search for layouts, so none waits for the slowest world."""
        refuse_sweep(self.config, "reset")
        layout_key, key = self._layout_key(typed_key("reset_many", key))
        keys = jax.random.split(key, num)
        if self.config.layouts == "fixed":
            return jax.vmap(self.reset)(keys)
        places_key, worlds_key = (jax.random.fold_in(layout_key, use) for use in (PLACES, WORLDS))
        xy, failed = sample_layouts(places_key, self.placement, num, redrawn=self._goal_row)
        return jax.vmap(self._begin)(jax.random.split(worlds_key, num), keys, xy, failed)

    @compiled
    def step(self, state: State, action: jax.Array) -> State:
        """Advance by one step. action: [A], clipped to [-1, 1] and scaled to the ranges of the actuators."""
        check_action(self, action)
        check_state(self, state)
        refuse_sweep(self.config, "step")
        if state.key is None:  # as of a state on its way to the host, which NumPy cannot hold with its key
            raise ValueError("step got a state whose key is None; it takes a state with a key: state.replace(key=key)")
        config, task = self.config, self.config.task
        seed = state.key, state.step_count
        data, measured = self.physics.step(
            state.data, self._control(action, seed), config.frameskip, self._num_substeps(seed)
        )
        data, measured, blew_up = undo_blow_up(state.data, data, measured)
        world = self.scene.read(data, measured, state.places)

        progress, goal_met = task_calls.reward(task, world, state.memory)
        goal_met = goal_met & ~blew_up
        reward = self._clip(progress + self._upright(world)) + task.bonus * goal_met
        costs, cost = self._cost(task_calls.view(task, world, state.memory), state.memory)

        # without a next goal, the last observation shows the one that is met
        moved = goal_met if config.continue_goal else jnp.bool_(False)
        world, failed = self._move_goal(seed, world, moved) if config.continue_goal else (world, moved)
        memory = task_calls.advance(task, world, state.memory, moved, _step_key("memory", seed))
        step_count = state.step_count + 1
        failed = failed | state.placement_failed  # a world without a valid layout ends at once
        ended = blew_up | failed | self._is_down(world)
        if not config.continue_goal:
            ended = ended | goal_met
        shown = task_calls.view(task, world, memory)
        return State(
            obs=observe(config, self.scene, shown, data, step_count, state.key),
            reward=jnp.where(blew_up, config.reward_exception, reward),
            cost=jnp.where(blew_up, 1.0, cost),
            costs=costs,
            goal_met=goal_met,
            terminated=ended,
            truncated=(step_count >= config.episode_length) & ~ended,
            step_count=step_count,
            placement_failed=failed,
            blew_up=blew_up,
            data=data,
            places=self._places_of_world(shown),
            memory=memory,
            key=state.key,
        )

    @override
    def at_step(self, state: State, step_count: jax.Array) -> State:
        obs = with_step_count(self.config, self.scene, state.obs, step_count)
        return state.replace(obs=obs, step_count=step_count)

    @compiled
    def snapshot(self, state: State) -> Snapshot:
        """Return the world as plain arrays (see `Snapshot`)."""
        check_state(self, state, "snapshot")
        return snapshots.take(self.config, self.scene, state)

    def restore(self, snapshot: Snapshot, key: jax.Array | None = None) -> State:
        """Build the state of a snapshot at the start of a new episode, with its observation and costs, and reward 0.

        Fields that are None take the value of a default reset, drawn with `key` (a fixed key by default). Missing
        memories of the reward are computed from the positions. Quaternions are normalised. A planar robot takes x and
        y of `root_pos`, and stays at its height. Raises ValueError for numbers that are not finite, for quaternions of
        length 0, and for a `root_quat` that tilts a planar robot. Inside of `jax.jit` and other transformations values
        are not known, so a planar robot then takes the turn about z.
        """
        check_snapshot(snapshot, {"joint_qpos": self.scene.joint_quaternions})
        if self.config.robot.root_joint == "planar":
            snapshots.refuse_tilt(snapshot, self.robot_name)
        if self.scene.driven_kinds and not isinstance(snapshot.time, jax.core.Tracer | None):
            _require_short("snapshot.time is", float(np.max(snapshot.time)), self.scene.driven_kinds[0])
        self.config.task.check_snapshot(snapshot)
        return self._restore(snapshot, key)

    @compiled
    def _restore(self, snapshot: Snapshot, key: jax.Array | None) -> State:
        refuse_sweep(self.config, "restore")
        layout_key, next_key = self._layout_key(jax.random.key(0) if key is None else typed_key("restore", key))
        yaw_key, memory_key, next_key = jax.random.split(next_key, 3)
        if self.config.layouts == "fixed":
            yaw_key, memory_key = (jax.random.fold_in(layout_key, use) for use in (YAWS, MEMORY))
        xy, failed = jnp.zeros((len(self.placement.keepout), 2)), jnp.bool_(False)
        if any(getattr(snapshot, f"{name}_pos") is None for name in ("root", *self.config.placed)):
            places_key = jax.random.fold_in(layout_key, PLACES)
            xy, failed = sample_layout(places_key, self.placement, redrawn=self._goal_row)
        default = self._default_snapshot(yaw_key, xy).replace(dynamics=self._dynamics(next_key))
        complete = snapshots.complete(default, snapshot)
        data, measured = self.physics.forward(self.scene.to_physics(complete))
        world = self.scene.read(data, measured, self._places_of_snapshot(complete))
        memory = self.config.task.from_snapshot(world, snapshot, memory_key)
        return self._first_state(data, world, memory, next_key, failed)

    def _layout_key(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys for the layout and for everything else."""
        layout_key, key = jax.random.split(key)
        return (jax.random.key(self.config.layout_seed) if self.config.layouts == "fixed" else layout_key), key

    def _begin(self, layout_key: jax.Array, key: jax.Array, xy: jax.Array, failed: jax.Array) -> State:
        """Start an episode in a layout [N, 2] m."""
        snapshot = self._default_snapshot(jax.random.fold_in(layout_key, YAWS), xy)
        snapshot = snapshot.replace(dynamics=self._dynamics(key))
        memory_key = jax.random.fold_in(layout_key, MEMORY)
        data, measured = self.physics.start(self.scene.to_physics(snapshot))
        world = self.scene.read(data, measured, self._places_of_snapshot(snapshot))
        return self._first_state(data, world, self.config.task.init(world, memory_key), key, failed)

    def _default_snapshot(self, key: jax.Array, xy: jax.Array) -> Snapshot:
        """All objects at rest at the places xy [N, 2] m of a layout, with random headings."""
        return snapshots.at_rest(self.config, self.scene, self.placement, key, xy)

    def _dynamics(self, key: jax.Array) -> Dynamics | None:
        """Draw the factors on the constants of the model. key: of the episode."""
        return draw_dynamics(self.config.randomize, self.scene, key)

    def _places_of_snapshot(self, snapshot: Snapshot) -> Places:
        """Places that stay for the episode that begins with a complete snapshot."""
        remembers = any(name == "vases_displace" for name, _, _ in self._sources)
        return snapshots.places_of_snapshot(self.config.objects, snapshot, remembers)

    def _places_of_world(self, shown: Readings) -> Places:
        """Places that stay for the episode of a world, as `AbstractTask.view` shows it."""
        return snapshots.lasting_places(self.config.objects, shown.pos, shown.start_pos)

    def _first_state(
        self, data: PhysicsState, world: Readings, memory: Any, key: jax.Array, failed: jax.Array
    ) -> State:
        shown = task_calls.view(self.config.task, world, memory)
        costs, cost = self._cost(shown, memory)
        return State(
            obs=observe(self.config, self.scene, shown, data, jnp.int32(0), key),
            reward=jnp.float32(0),
            cost=cost,
            costs=costs,
            goal_met=jnp.bool_(False),
            terminated=failed,
            truncated=jnp.bool_(False),
            step_count=jnp.int32(0),
            placement_failed=failed,
            blew_up=jnp.bool_(False),
            data=data,
            places=self._places_of_world(shown),
            memory=memory,
            key=key,
        )

    def _control(self, action: jax.Array, seed: StepSeed) -> jax.Array:
        """Return controls [A] for an action, with the noise of the settings."""
        if not self.config.action_noise:
            return to_control(self, action)
        return to_control(
            self, action, self.config.action_noise * jax.random.normal(_step_key("action", seed), action.shape)
        )

    def _is_down(self, world: Readings) -> jax.Array:
        """Whether the robot is too low to go on, [] bool."""
        lowest = self.config.robot.lowest
        return jnp.bool_(False) if lowest is None else world.root_pos[2] <= lowest

    def _num_substeps(self, seed: StepSeed) -> jax.Array | None:
        """Draw the number [] of physics steps. None means all."""
        if self.config.frameskip_prob == 1.0:
            return None
        uniform = jax.random.uniform(_step_key("substeps", seed), (self.config.frameskip,))
        return jnp.sum(uniform < self.config.frameskip_prob, dtype=jnp.int32)

    def _clip(self, reward: jax.Array) -> jax.Array:
        bound = jnp.where(self.config.reward_clip > 0, self.config.reward_clip, jnp.inf)
        return jnp.clip(reward, -bound, bound)

    def _upright(self, world: Readings) -> jax.Array | float:
        """Reward [] for being upright: the scale times the cosine of the robot's tilt."""
        if not self.config.reward_orientation:
            return 0.0
        w, x, y, z = world.root_quat
        return self.config.reward_orientation_scale * (w * w - x * x - y * y + z * z)

    def _cost(self, world: Readings, memory: Any) -> tuple[jax.Array, jax.Array]:
        """Return the raw costs [C] and the cost of the step []."""
        costs = [fn(kind, world) for _, kind, fn in self._sources]
        costs += task_calls.costs(self.config.task, world, memory)
        total = jnp.stack(costs) if costs else jnp.zeros(0)
        cost = jnp.sum(total)
        return total, (cost > 0).astype(jnp.float32) if self.config.indicator else cost

    def _move_goal(self, seed: StepSeed, world: Readings, needed: jax.Array) -> tuple[Readings, jax.Array]:
        """Redraw the place of the kind that the task moves, if needed [] bool. Returns also failed [] bool."""
        kind, row = self.config.task.moves, self._goal_row
        if kind is None or row is None:
            return world, jnp.bool_(False)
        places = world.pos | {name: world.start_pos[name] for name in self.scene.driven_kinds}
        xy = jnp.concatenate([world.root_pos[None, :2], *(places[name][:, :2] for name in self.config.placed)])
        key_fn = functools.partial(_step_key, "goal")
        position, failed = redraw(key_fn, seed, self.placement, row, xy, needed)
        pos = world.pos[kind].at[0, :2].set(position)
        return world.replace(pos=world.pos | {kind: pos}), failed


def _step_key(use: str, seed: StepSeed) -> jax.Array:
    """Key [] of one of STEP_USES. Called where the numbers are drawn, because it takes time."""
    return jax.random.split(jax.random.fold_in(*seed), len(STEP_USES))[STEP_USES.index(use)]


def _require_short(what: str, seconds: float, kind: str) -> None:
    """Raise ValueError for a time that is too long for driven objects, whose places follow from it.

    what: the culprit with its verb, for the message; kind: of the driven objects.
    """
    if seconds > LONGEST:
        raise ValueError(
            f"{what} {seconds:g} s, but with {kind} it may be at most {LONGEST:g} s: their clock is in single precision"
        )


def build_env(config: EnvConfig, physics: AbstractPhysics) -> Env:
    """Build the environment.

    Raises ValueError for an object without room, for an episode that is too long for driven objects, and for two
    entries of the observation with one name.
    """
    if physics.scene.driven_kinds:
        seconds = config.episode_length * config.frameskip * float(physics.scene.model.opt.timestep)
        what = f"EnvConfig.episode_length is {config.episode_length}, which takes"
        _require_short(what, seconds, physics.scene.driven_kinds[0])
    with jax.ensure_compile_time_eval():  # also inside of jit: nothing here depends on traced values, as a rule
        table = placement_table({"robot": config.robot, **config.placed}, config.extents, config.margin)
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(table)):
        require_room(table)
    env = Env(config=config, placement=table, physics=physics)
    refuse_shared_names(config, env.scene)
    return env
