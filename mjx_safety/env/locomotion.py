"""LocomotionEnv: one robot without objects, as pure functions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
from flax import struct
from typing_extensions import override

from mjx_safety.core.arguments import typed_key
from mjx_safety.core.compiled import compiled
from mjx_safety.core.settings import refuse_sweep
from mjx_safety.env.base import AbstractEnv, check_action, check_snapshot, check_state, to_control, undo_blow_up
from mjx_safety.env.randomness import draw_dynamics, observes_dynamics, with_noise
from mjx_safety.env.snapshots import overlay
from mjx_safety.sim import dynamics
from mjx_safety.sim.lone_robot import STATE, LoneRobot
from mjx_safety.sim.model import COM
from mjx_safety.sim.scene import quaternion_starts, with_unit_quats
from mjx_safety.sim.state import Measurements, PhysicsState
from mjx_safety.types import Places, Snapshot, State
from mjx_safety.world.locomotion.config import ANYTHING, LocomotionConfig


@struct.dataclass
class LocomotionEnv(AbstractEnv):
    """One environment on one engine. Its functions are pure and work under jit, vmap and scan.

    The floor is the same everywhere. Each step runs near the origin, and the result moves back to the robot's place. In
    single precision, speeds and contacts far away are then as exact as at the start.
    """

    config: LocomotionConfig
    physics: Any  # an `AbstractPhysics`: a subtree on `mjx` and `warp`, static on `mujoco`

    __hash__, __eq__ = object.__hash__, object.__eq__  # so that it may be a static argument of `jax.jit`

    def __repr__(self) -> str:
        """Return a short description."""
        return f"LocomotionEnv({self.config.name}, {self.physics.name}: {self.config.threshold} m/s)"

    @property
    def scene(self) -> LoneRobot:
        """The robot, with the engine's model."""
        return self.physics.scene

    @property
    @override
    def entry_sizes(self) -> dict[str, int]:
        model = self.mj_model
        rows = {"cinert": 10 * model.nbody, "cvel": 6 * model.nbody, "cfrc_ext": 6 * model.nbody}
        sizes = {"qpos": model.nq - self.config.travel, "qvel": model.nv, "qfrc_actuator": model.nv} | rows
        entries = {name: sizes[name] for name in self.config.entries}
        if observes_dynamics(self.config.randomize):
            entries["dynamics"] = dynamics.size(self.scene)
        return entries

    @property
    def cost_names(self) -> tuple[str, ...]:
        """The one source of cost."""
        return ("velocity",)

    @property
    def dt(self) -> float:
        """Length of a step, s."""
        return float(self.mj_model.opt.timestep) * self.config.frameskip

    @property
    @override
    def robot_name(self) -> str:
        return self.config.name

    @property
    @override
    def track(self) -> tuple[float, float, float]:
        """From the side, or from above if the robot lies flat."""
        height = float(self.mj_model.body("robot").pos[2])
        return 4.0, -15.0 if height > 0 else -60.0, 0.7 * height

    @compiled
    def reset(self, key: jax.Array) -> State:
        """Start an episode near the model's own pose, with noise. key: typed PRNG key []."""
        refuse_sweep(self.config, "reset")
        start_key, key = jax.random.split(typed_key("reset", key))
        return self._first_state(self._start(start_key, key), key)

    @compiled
    def step(self, state: State, action: jax.Array) -> State:
        """Advance by one step. action: [A] in [-1, 1], scaled to the actuators' range."""
        config = self.config
        check_action(self, action)
        check_state(self, state)
        refuse_sweep(self.config, "step")
        ctrl = to_control(self, action)
        before = _moved(state.data, -state.data.qpos[: config.travel])
        data, measured = self.physics.step(before, ctrl, config.frameskip)
        data, measured, blew_up = undo_blow_up(before, data, measured)

        offset = self._offset(data, measured)
        moved = _padded(data.qpos[: config.travel])
        velocity = (moved + offset - state.memory) / self.dt
        reward = config.forward_reward * velocity[0] + config.healthy_reward
        reward = reward - config.control_cost * jnp.sum(ctrl**2)
        excess = jnp.where(blew_up, 0.0, jnp.maximum(self._speed(velocity) - config.threshold, 0.0))
        cost = (excess > 0).astype(jnp.float32) if config.indicator else excess

        data = _moved(data, state.data.qpos[: config.travel])
        step_count = state.step_count + 1
        ended = blew_up | ~self._is_healthy(data)
        return state.replace(
            obs=self._observe(data, measured, step_count, state.key),
            reward=jnp.where(blew_up, config.reward_exception, reward),
            cost=jnp.where(blew_up, 1.0, cost),
            costs=excess[None],
            terminated=ended,
            truncated=(step_count >= config.episode_length) & ~ended,
            step_count=step_count,
            blew_up=blew_up,
            data=data,
            memory=offset,
        )

    @compiled
    def snapshot(self, state: State) -> Snapshot:
        """Return the world as plain arrays (see `Snapshot`)."""
        check_state(self, state, "snapshot")
        fields = ("time", "ctrl", "qpos", "qvel", "qacc_warmstart", *(["act"] if self.mj_model.na else []))
        return Snapshot(**{name: getattr(state.data, name) for name in (*fields, "dynamics")})

    def restore(self, snapshot: Snapshot, key: jax.Array | None = None) -> State:
        """Build the state of a snapshot at the start of a new episode, with its observation, cost 0 and reward 0.

        Fields that are None take the value of a default reset, drawn with `key` (a fixed key by default). Quaternions
        are normalised. Raises ValueError for numbers that are not finite and for quaternions of length 0, except inside
        of `jax.jit` and other transformations, where values are not known.
        """
        check_snapshot(snapshot, {"qpos": quaternion_starts(self.mj_model)})
        return self._restore(snapshot, key)

    @compiled
    def _restore(self, snapshot: Snapshot, key: jax.Array | None) -> State:
        refuse_sweep(self.config, "restore")
        start_key, next_key = jax.random.split(jax.random.key(0) if key is None else typed_key("restore", key))
        return self._first_state(overlay(self._start(start_key, next_key), snapshot, {}), next_key)

    def _start(self, key: jax.Array, episode_key: jax.Array) -> Snapshot:
        """Draw the world at the start of an episode."""
        model, noise = self.mj_model, self.config.reset_noise
        qpos_key, qvel_key = jax.random.split(key)
        shift = jax.random.uniform(qpos_key, (model.nq,), minval=-1.0, maxval=1.0)
        if self.config.reset_velocity == "normal":
            qvel = jax.random.normal(qvel_key, (model.nv,))
        else:
            qvel = jax.random.uniform(qvel_key, (model.nv,), minval=-1.0, maxval=1.0)
        return Snapshot(
            time=jnp.float32(0),
            ctrl=jnp.zeros(model.nu),
            act=jnp.zeros(model.na) if model.na else None,
            qpos=jnp.asarray(model.qpos0, jnp.float32) + noise * shift,
            qvel=noise * qvel,
            qacc_warmstart=jnp.zeros(model.nv),
            dynamics=draw_dynamics(self.config.randomize, self.scene, episode_key),
        )

    def _first_state(self, snapshot: Snapshot, key: jax.Array) -> State:
        """State of a complete snapshot. The solver's first guess stays for the first step."""
        fields = ("time", "ctrl", "qvel", "qacc_warmstart", "dynamics")
        data = PhysicsState(
            qpos=with_unit_quats(snapshot.qpos, quaternion_starts(self.mj_model)),
            act=jnp.zeros(0) if snapshot.act is None else snapshot.act,
            mocap_pos=jnp.zeros((0, 3)),
            mocap_quat=jnp.zeros((0, 4)),
            **{name: getattr(snapshot, name) for name in fields},
        )
        place = data.qpos[: self.config.travel]
        measured = self.physics.forward(_moved(data, -place))[1]
        return State(
            obs=self._observe(data, measured, jnp.int32(0), key),
            reward=jnp.float32(0),
            cost=jnp.float32(0),
            costs=jnp.zeros(1),
            goal_met=jnp.bool_(False),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            step_count=jnp.int32(0),
            placement_failed=jnp.bool_(False),
            blew_up=jnp.bool_(False),
            data=data,
            places=Places(markers={}, starts={}),
            memory=self._offset(_moved(data, -place), measured),
            key=key,
        )

    def _offset(self, data: PhysicsState, measured: Measurements) -> jax.Array:
        """Offset [2] m from the root to the point whose speed counts."""
        if self.config.point == "root":
            return jnp.zeros(2)
        com = int(self.mj_model.sensor(COM).adr[0])
        return measured.sensors[com : com + 2] - _padded(data.qpos[: self.config.travel])

    def _speed(self, velocity: jax.Array) -> jax.Array:
        """Speed [] m/s that may cost. velocity: [2] m/s."""
        return velocity[0] if self.config.direction == "ahead" else jnp.sqrt(jnp.sum(velocity**2))

    def _is_healthy(self, data: PhysicsState) -> jax.Array:
        """Whether the episode goes on, [] bool."""
        config = self.config
        shape = data.qpos[config.travel :]
        healthy = jnp.all(jnp.abs(jnp.concatenate([shape, data.qvel])) < config.healthy_state)
        for index, (lowest, highest) in enumerate((config.healthy_height, config.healthy_angle)):
            if (lowest, highest) != ANYTHING:  # else the root may lack this coordinate
                value, start = shape[index], self._start_of(index)
                value = value if start == 0.0 else value + start
                healthy &= (value > lowest) & (value < highest)
        return healthy

    def _start_of(self, index: int) -> float:
        """Return the root's height, m, or tilt, rad, where its coordinate is 0. index: 0 for the height, else 1."""
        model, coordinate = self.mj_model, self.config.travel + index
        root = model.body("robot")
        if model.jnt_type[root.jntadr[0]] == mujoco.mjtJoint.mjJNT_FREE:
            return 0.0  # its coordinates are the place itself
        return float((root.pos[2] if index == 0 else 0.0) - model.qpos0[coordinate])

    def _observe(self, data: PhysicsState, measured: Measurements, step_count: jax.Array, key: jax.Array) -> jax.Array:
        """Observation [O] float32. key: of the episode."""
        bound, randomize = self.config.velocity_clip, self.config.randomize
        known = {"qpos": data.qpos[self.config.travel :], "qvel": jnp.clip(data.qvel, -bound, bound)}
        obs = jnp.concatenate([known[name] if name in STATE else measured.fields[name] for name in self.config.entries])
        obs = with_noise(randomize, obs, key, step_count)
        if not observes_dynamics(randomize) or data.dynamics is None:
            return obs
        return jnp.concatenate([obs, dynamics.flat(data.dynamics)])


def _padded(place: jax.Array) -> jax.Array:
    """Return a place on the floor [1 or 2] m as [2] m. A robot in a vertical plane stays at y = 0."""
    return jnp.concatenate([place, jnp.zeros(2 - len(place))])


def _moved(data: PhysicsState, shift: jax.Array) -> PhysicsState:
    """Return the same world elsewhere on the floor. shift: [1 or 2] m."""
    return data.replace(qpos=data.qpos.at[: len(shift)].add(shift))
