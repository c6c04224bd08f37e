"""The training loop: many iterations in one compiled call, the host's loop around it, many trainings at once.

Each algorithm has its own iteration (`Algorithm.iterate`). Everything here is shared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mjx_safety.agents import episode_cost, sharding
from mjx_safety.agents.checks import check_state, check_worlds, number
from mjx_safety.agents.types import Algorithm, Metrics, OffPolicyTrainConfig, TrainConfig, TrainState
from mjx_safety.core.precision import single_precision
from mjx_safety.types import VectorEnvironment

MAX_ITERATIONS = 64  # rows of metrics that one compiled call can return


class Chunk(NamedTuple):
    """The result of one call of the compiled loop, on the host."""

    state: TrainState  # donated to the next call; copy what you keep
    rows: list[dict[str, Any]]  # metrics, one row per iteration; floats, or lists of S for S trainings at once
    seconds: float  # wall time of the call, with compilation


@single_precision
def init(venv: VectorEnvironment[Any], algorithm: Algorithm, key: jax.Array) -> TrainState:
    """Start the worlds and the networks. Pure.

    Raises ValueError for a limit on a source of cost that the worlds do not have.
    """
    episode_cost.check_sources(algorithm.constraint.sources, venv.cost_names)
    env_key, agent_key = jax.random.split(key)
    state = algorithm.init(venv, agent_key).replace(env_state=venv.reset(env_key))
    return jax.tree.map(_own, state)


@single_precision
def iterate(
    venv: VectorEnvironment[Any], algorithm: Algorithm, config: OffPolicyTrainConfig, state: TrainState
) -> tuple[TrainState, Metrics]:
    """Collect and learn once. Pure, so it works under scan and vmap.

    Raises ValueError for a state that another algorithm began.
    """
    check_state(algorithm, venv, state)
    return algorithm.iterate(venv, config, state)


class Training(NamedTuple):
    """The worlds, the algorithm and the settings of a training."""

    venv: VectorEnvironment[Any]
    algorithm: Algorithm
    config: OffPolicyTrainConfig


@single_precision
def init_many(build_fn: Callable[[Any], Training], settings: Any, keys: jax.Array) -> TrainState:
    """Start S trainings that differ in key and settings. Pure.

    build_fn: the settings of one training -> that training; settings: pytree of arrays [S]; keys: [S].
    The result's leaves have the leading axis [S].
    """

    def start(inputs: tuple) -> TrainState:
        setting, key = inputs
        training = build_fn(setting)
        return init(training.venv, training.algorithm, key)

    # One after the other: on a CPU, batched orthogonal matrices of several networks may deadlock.
    return jax.lax.map(start, (settings, keys))


@single_precision
def iterate_many(build_fn: Callable[[Any], Training], settings: Any, states: TrainState) -> tuple[TrainState, Metrics]:
    """Collect and learn once in each of S trainings side by side. Metrics: [S]. Arguments as in `init_many`."""

    def one(setting: Any, state: TrainState) -> tuple[TrainState, Metrics]:
        return iterate(*build_fn(setting), state)

    return jax.vmap(one)(settings, states)


def make_chunk(
    iterate_fn: Callable[[TrainState], tuple[TrainState, Metrics]], shardings: TrainState | None = None
) -> Callable[[TrainState, jax.Array], tuple[TrainState, Metrics]]:
    """Compile a loop of up to MAX_ITERATIONS iterations once. It donates the state.

    shardings: placement of the state's arrays on several devices (`agents.sharding`).
    Returns a function (state, num_iterations) -> (state, rows), rows: [MAX_ITERATIONS, ...] each, the rest 0.
    """

    def one(index: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, rows = carry
        state, metrics = iterate_fn(state)
        return state, jax.tree.map(lambda row, value: row.at[index].set(value), rows, metrics)

    def chunk(state: TrainState, num_iterations: jax.Array) -> tuple[TrainState, Metrics]:
        shapes = jax.eval_shape(iterate_fn, state)[1]
        rows = {name: jnp.zeros((MAX_ITERATIONS, *shape.shape), shape.dtype) for name, shape in shapes.items()}
        return jax.lax.fori_loop(0, num_iterations, one, (state, rows))

    if shardings is None:
        return jax.jit(chunk, donate_argnums=0)
    mesh, spread = shardings.num_rollouts.mesh, shardings.num_rollouts.spec  # spread: trainings side by side
    of_rows = NamedSharding(mesh, PartitionSpec(None, *spread) if spread else PartitionSpec())
    return jax.jit(chunk, donate_argnums=0, in_shardings=(shardings, None), out_shardings=(shardings, of_rows))


def train(
    venv: VectorEnvironment[Any],
    algorithm: Algorithm,
    config: OffPolicyTrainConfig,
    state: TrainState,
    total_steps: float,
    chunk_seconds: float = 5.0,
) -> Iterator[Chunk]:
    """Train until `total_steps` environment steps since `init`. The host receives a Chunk after each call.

    total_steps is rounded down to whole iterations. chunk_seconds: target time of one compiled call (s). It changes no
    result. Schedules, such as `TrainConfig.limit_start`, take this length, unless the config names another one.
    Raises ValueError for a number of steps that is not whole, or holds no iteration.
    """
    check_worlds(venv)
    steps = config.unroll_length * venv.num_envs
    iterations = _count_iterations(total_steps, steps)
    chunk = make_chunk(partial(iterate, venv, algorithm, _with_length(config, iterations)))
    yield from run_chunks(chunk, state, iterations, steps, chunk_seconds)


def _count_iterations(total_steps: float, steps: int) -> int:
    """Whole iterations of so many steps. Raises ValueError for a number that holds none, or is not whole."""
    known = number("total_steps", total_steps)
    if known is None or not known.is_integer():
        raise ValueError(f"total_steps is {total_steps}; it must be a whole number, such as 1_000_000 or 1e6")
    if total_steps < steps:
        raise ValueError(f"total_steps is {total_steps}; it must be at least {steps}, the steps of one iteration")
    return int(total_steps) // steps


def _with_length(config: OffPolicyTrainConfig, num_iterations: int) -> OffPolicyTrainConfig:
    """Give schedules the length of the training, unless the config has one."""
    if not isinstance(config, TrainConfig) or math.isfinite(config.num_iterations):
        return config
    return config.replace(num_iterations=float(num_iterations))


def run_chunks(
    chunk: Callable[[TrainState, jax.Array], tuple[TrainState, Metrics]],
    state: TrainState,
    num_iterations: int,
    steps_per_iteration: int,
    chunk_seconds: float = 5.0,
) -> Iterator[Chunk]:
    """Call the function of `make_chunk` until `num_iterations` iterations since `init` are done. See `train`.

    steps_per_iteration: of all worlds together. The rows add `env_steps`, those steps since `init`. Raises ValueError
    for a state that an earlier call used up.
    """
    if getattr(state.num_rollouts, "is_deleted", lambda: False)():
        raise ValueError(
            "the state was used up by an earlier call; go on from `chunk.state`, or begin with `init` again"
        )
    remaining = num_iterations - int(np.ravel(state.num_rollouts)[0])
    size, fresh = 1, True
    while remaining > 0:
        size = min(size, remaining)
        start = time.perf_counter()
        state, metrics = chunk(state, jnp.int32(size))
        table = {name: np.asarray(column).tolist() for name, column in sharding.gather(metrics).items()}
        seconds = time.perf_counter() - start
        done = num_iterations - remaining  # counted here, because a float32 ends at 2**24 iterations
        counts = table["num_rollouts"][:size]
        table["num_rollouts"] = [_like(row, done + i + 1.0) for i, row in enumerate(counts)]
        table["env_steps"] = [_like(row, (done + i + 1) * steps_per_iteration) for i, row in enumerate(counts)]
        yield Chunk(state, [{name: column[i] for name, column in table.items()} for i in range(size)], seconds)
        remaining -= size
        # The first call mostly compiles, so it does not measure the speed. A call at most doubles, because iterations
        # become slower when an off-policy algorithm begins to learn.
        shared = float(sharding.of_each_process(seconds)[0])  # the clock of one process, so that all agree
        size = 1 if fresh else int(np.clip(size * chunk_seconds / shared, 1, min(2 * size, MAX_ITERATIONS)))
        fresh = False


def _like(row: float | list[float], number: float) -> float | list[float]:
    """Return a number once, or for each of the trainings side by side."""
    return [number] * len(row) if isinstance(row, list) else number


def _own(leaf: Any) -> jax.Array:
    """Make a strongly typed copy, so that the second call does not compile, and each buffer can be donated."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.copy(leaf)
    return jnp.copy(jax.lax.convert_element_type(leaf, leaf.dtype))
