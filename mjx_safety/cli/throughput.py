"""Measures throughput: warm-up, medians of calls in turns, compile time, memory, buffer sizes (host)."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.rollout import Rollout

from mjx_safety.agents.networks import make_networks
from mjx_safety.env.base import AbstractEnv
from mjx_safety.env.vector import VecEnv, VecState, vectorize
from mjx_safety.registry import make
from mjx_safety.runs.training_options import default_options
from mjx_safety.sim.state import PhysicsState

MODES = ("step", "act", "train")  # given actions, a policy's actions, a whole training iteration
HOLD = 20  # steps that a random action lasts, so that robots move around
WARM_UP = 300  # steps before the timing, by the C engine on a CPU
WARM_UP_ON_DEVICE = 100  # steps before the timing on a device, by the timed engine after a reset


@dataclasses.dataclass(frozen=True)
class Timing:
    """One measurement."""

    env_steps_per_second: float  # of all worlds together
    compile_seconds: float  # tracing and compiling without a cache; other programs may compile beside it
    repeats: list[float]  # s, of the calls behind the median


def time_in_turns(repeats: int, **calls: Callable[[], Any]) -> dict[str, list[float]]:
    """Time the calls in turns, after one warm-up call each. Returns seconds."""
    for call in calls.values():
        jax.block_until_ready(call())
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return seconds


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program that steps or trains many worlds."""

    env: AbstractEnv
    num_envs: int
    num_steps: int  # of each world in one call
    mode: str
    start: Callable[[], Any]  # the first carry
    advance: Callable[[Any], Any]  # carry -> carry, donated
    compile_seconds: float  # tracing and compiling `advance`
    share_with_objects: Callable[[Any], jax.Array] | None  # of the worlds of a carry, see `share_with_objects`


def prepare(env: AbstractEnv, num_envs: int, mode: str, num_steps: int) -> Program:
    """Compile `num_steps` steps of `num_envs` worlds with auto-reset. Threads may call this side by side."""
    venv = vectorize(env, num_envs, stagger=True)
    advance, start = _training(venv, num_steps) if mode == "train" else _stepping(env, venv, mode, num_steps)
    carry = jax.eval_shape(start)
    begun = time.perf_counter()
    compiled = advance.lower(carry).compile()
    compile_seconds = time.perf_counter() - begun
    share = None
    if mode != "train" and env.physics.name != "warp":
        share = jax.jit(lambda carry: share_with_objects(env, carry[0].env_state.data)).lower(carry).compile()
    return Program(env, num_envs, num_steps, mode, jax.jit(start).lower().compile(), compiled, compile_seconds, share)


def measure(program: Program, repeats: int, rollout: bool = False) -> tuple[Timing, dict[str, Any], Timing | None]:
    """Time a program. Returns its timing, memory figures, and the timing of the rollout if asked for.

    rollout: also time the bare rollout of such worlds, in turns with the steps. The ratio is then reliable on a noisy
    machine. This needs the engine `mujoco`.
    """
    env, num_envs, num_steps = program.env, program.num_envs, program.num_steps
    carry = program.advance(program.start())
    if jax.default_backend() != "cpu":  # on a CPU the worlds are already in mid-episode
        for _ in range(WARM_UP_ON_DEVICE // num_steps):
            carry = program.advance(carry)

    def advance() -> Any:
        nonlocal carry
        carry = program.advance(carry)
        return carry

    figures = memory(program.advance, carry, num_envs)
    if program.share_with_objects:
        figures["worlds_that_need_objects"] = float(program.share_with_objects(carry))
    bare = {"rollout": rollout_of(env, num_envs, num_steps)} if rollout else {}
    seconds = time_in_turns(repeats, advance=advance, **bare)
    timings = {name: _timing(num_steps * num_envs, taken) for name, taken in seconds.items()}
    timing = dataclasses.replace(timings["advance"], compile_seconds=program.compile_seconds)
    return timing, figures, timings.get("rollout")


def _timing(num_steps: int, seconds: list[float]) -> Timing:
    return Timing(num_steps / statistics.median(seconds), 0.0, seconds)


def driving(key: jax.Array, num_steps: int, num_envs: int, action_size: int) -> jax.Array:
    """Draw random actions [T, B, A], each held for `HOLD` steps."""
    drawn = jax.random.uniform(key, (-(-num_steps // HOLD), num_envs, action_size), minval=-1.0, maxval=1.0)
    return jnp.repeat(drawn, HOLD, axis=0)[:num_steps]


def in_mid_episode(env: AbstractEnv, num_envs: int) -> VecState:
    """Return worlds after `WARM_UP` steps of random driving, some with robots at objects.

    The C engine steps them on the CPU, because it compiles no physics. States are the same on all engines.
    """
    venv = vectorize(make(env.config, physics="mujoco"), num_envs, stagger=True)

    @jax.jit
    def run(key: jax.Array) -> VecState:
        actions = driving(key, WARM_UP, num_envs, env.action_size)
        return jax.lax.scan(lambda s, a: (venv.step(s, a), None), venv.reset(key), actions)[0]

    return run(jax.random.key(0))


def _stepping(env: AbstractEnv, venv: VecEnv, mode: str, num_steps: int) -> tuple[Any, Callable[[], Any]]:
    """Step by held random actions, or by a default-sized policy with such noise. Carry: worlds and key."""
    networks = make_networks((64, 64))
    params = networks.init(jax.random.key(1), venv.obs_size, venv.action_size).policy

    def step(states: Any, actions: jax.Array) -> tuple[Any, None]:
        if mode == "act":
            dist = networks.policy(params, states.obs)
            actions = dist.mean + jnp.exp(dist.log_std) * actions
        return venv.step(states, jnp.clip(actions, -1.0, 1.0)), None

    def run(carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        states, key = carry
        key, actions_key = jax.random.split(key)
        actions = driving(actions_key, num_steps, venv.num_envs, venv.action_size)
        return jax.lax.scan(step, states, actions)[0], key

    def start() -> tuple[Any, jax.Array]:
        on_cpu = jax.default_backend() == "cpu"
        states = in_mid_episode(env, venv.num_envs) if on_cpu else venv.reset(jax.random.key(0))
        return states, jax.random.key(2)

    return jax.jit(run, donate_argnums=0), start


def _training(venv: VecEnv, num_steps: int) -> tuple[Any, Callable[[], Any]]:
    """One iteration of PPO-Lagrangian with rollouts of `num_steps`. Carry: the training state."""
    from mjx_safety.agents import init, iterate

    options = default_options("ppo-lag", venv.num_envs, unroll_length=num_steps)
    algorithm = options.build()
    one = partial(iterate, venv, algorithm, options.train)
    return jax.jit(lambda state: one(state)[0], donate_argnums=0), lambda: init(venv, algorithm, jax.random.key(0))


def memory(compiled: Any, carry: Any, num_envs: int) -> dict[str, Any]:
    """Bytes per world of the carried state and of the program's buffers, and the device's peak."""
    carried = sum(leaf.nbytes for leaf in jax.tree.leaves(carry) if not _is_key(leaf))
    figures: dict[str, Any] = {"state_bytes_per_world": carried / num_envs}
    analysis = compiled.memory_analysis()
    if analysis is not None:
        figures["program_bytes_per_world"] = (analysis.argument_size_in_bytes + analysis.temp_size_in_bytes) / num_envs
    stats = jax.devices()[0].memory_stats()  # None on a CPU
    if stats:
        figures["device_peak_bytes"] = stats.get("peak_bytes_in_use")
    return figures


def share_with_objects(env: AbstractEnv, physics: PhysicsState) -> jax.Array:
    """Share of the worlds [B] in which an object moves or can be touched within a step. env: not on `warp`."""
    nearby = env.physics.nearby
    needs = jax.jit(jax.vmap(lambda data: nearby.needs_objects(data, env.dt, nearby.guess_excursion(data, env.dt))))
    return jnp.mean(needs(physics))


def buffers(env: AbstractEnv) -> dict[str, int]:
    """Sizes of the physics in every world: degrees of freedom, contact points, constraint rows."""
    model = env.physics.scene.model
    if env.physics.name == "mujoco":
        return {"nv": model.nv, "contacts": model.nconmax, "constraint_rows": model.njmax}
    if env.physics.name == "warp":
        room = env.physics.buffers
        return {"nv": model.nv, "contacts": room.contacts, "constraint_rows": room.rows}
    from mujoco import mjx

    data = mjx.make_data(env.physics.model)
    return {
        "nv": data.qvel.shape[0],
        "contacts": data._impl.contact.dist.shape[0],
        "constraint_rows": data._impl.efc_J.shape[0],
    }


def bare_rollout(env: AbstractEnv, physics: PhysicsState, actions: np.ndarray, rows: int) -> Callable[[], Any]:
    """Return MuJoCo's own threaded rollout of worlds [B] under actions [T, B, A], with `rows` physics steps per action.

    Actions in [-1, 1] are scaled to the actuators' ranges, as in `env.step`.
    env: on the engine `mujoco`, whose model has the true contacts. Fixed bodies and gremlins' targets do not move.
    """
    model = env.mj_model
    low, high = model.actuator_ctrlrange.T
    controls = 0.5 * (low + high) + 0.5 * (high - low) * actions
    num_threads, num_worlds = os.cpu_count() or 1, actions.shape[1]
    pool, data = Rollout(nthread=num_threads), [mujoco.MjData(model) for _ in range(num_threads)]
    first = np.zeros((num_worlds, mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)))
    first[:, 1 : 1 + model.nq] = physics.qpos
    first[:, 1 + model.nq : 1 + model.nq + model.nv] = physics.qvel
    parts = mujoco.mjtState
    spec = int(parts.mjSTATE_CTRL | parts.mjSTATE_MOCAP_POS | parts.mjSTATE_MOCAP_QUAT)
    mocaps = [np.asarray(x, np.float64).reshape(num_worlds, -1) for x in (physics.mocap_pos, physics.mocap_quat)]
    last = env.config.frameskip - 1  # row at which the next action takes over

    def run() -> Any:
        state = first
        for chosen in controls:
            control = np.concatenate([chosen, *mocaps], axis=1)[:, None]
            control = np.broadcast_to(control, (num_worlds, rows, control.shape[-1]))
            states: Any = pool.rollout(model, data, state, control, control_spec=spec)[0]
            state = states[:, last]
        return state

    return run


def rollout_of(env: AbstractEnv, num_envs: int, num_steps: int) -> Callable[[], Any]:
    """Prepare the bare rollout of worlds in mid-episode under random actions. env: on the engine `mujoco`."""
    with jax.default_device(jax.devices("cpu")[0]):
        physics = jax.tree.map(np.asarray, in_mid_episode(env, num_envs).env_state.data)
        actions = np.asarray(driving(jax.random.key(2), num_steps, num_envs, env.action_size), float)
    return bare_rollout(env, physics, actions, env.config.frameskip)


def measure_rollout(env: AbstractEnv, num_envs: int, num_steps: int, repeats: int) -> Timing:
    """Time the bare rollout alone. env: on the engine `mujoco`."""
    run = rollout_of(env, num_envs, num_steps)
    return _timing(num_steps * num_envs, time_in_turns(repeats, run=run)["run"])


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
