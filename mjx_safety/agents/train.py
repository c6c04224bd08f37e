"""The training loop: one pure iteration, many of them in one compiled call, and the host's loop around those calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mjx_safety.agents import episode_cost, returns, rollout, running_stats
from mjx_safety.agents.types import Algorithm, Batch, EpisodeSums, Metrics, RunningStats, TrainState, Trajectory
from mjx_safety.types import VectorEnvironment

MAX_ITERATIONS = 64  # rows of metrics that one compiled call can return


@struct.dataclass
class TrainConfig:
    """What all on-policy algorithms share: rollouts, returns and the estimate of the episode cost."""

    unroll_length: int = struct.field(pytree_node=False, default=64)  # T, steps of each world per iteration
    discount: float = 0.99  # of reward, per step
    gae_lambda: float = 0.95  # of reward advantages
    cost_discount: float = 0.99  # of cost, per step
    cost_gae_lambda: float = 0.97  # of cost advantages; higher than for reward, as costs are harder to foresee
    cost_smoothing: float = 0.8  # weight of the past in the smoothed episode cost
    # Hold the cost of ended episodes to the limit, not the smoothed rate: later and noisier.
    use_completed_episodes: bool = struct.field(pytree_node=False, default=False)


class Chunk(NamedTuple):
    """What one call of the compiled loop returned to the host."""

    state: TrainState  # donated to the next call: copy what must outlive it
    rows: list[dict[str, float]]  # metrics, one row per iteration
    seconds: float  # wall time of the call, compilation included


def init(venv: VectorEnvironment, algorithm: Algorithm, key: jax.Array) -> TrainState:
    """Start the worlds and the networks. Pure."""
    env_key, agent_key = jax.random.split(key)
    state = init_agent(venv, algorithm, agent_key).replace(env_state=venv.reset(env_key))
    return jax.tree.map(_strong, state)


def init_agent(venv: VectorEnvironment, algorithm: Algorithm, key: jax.Array) -> TrainState:
    """Start the networks only: `env_state` is None. Pure."""
    key, params_key = jax.random.split(key)
    params = algorithm.networks.init(params_key, venv.obs_size, venv.action_size)
    return TrainState(
        env_state=None,
        params=params,
        opt_state=algorithm.init_optimizers(params),
        constraint=algorithm.constraint.init(),
        normaliser=running_stats.init(venv.obs_size),
        episode_cost=episode_cost.init(venv.episode_length),
        key=key,
        num_rollouts=jnp.int32(0),
    )


def iterate(
    venv: VectorEnvironment, algorithm: Algorithm, config: TrainConfig, state: TrainState
) -> tuple[TrainState, Metrics]:
    """Collect, estimate, learn; the very first rollout only fills the normaliser. Pure: scan it, vmap it."""
    key, rollout_key, update_key = jax.random.split(state.key, 3)
    normaliser = state.normaliser
    env_state, trajectory, sums = rollout.collect(
        venv, algorithm.networks, state.params, normaliser, state.env_state, rollout_key, config.unroll_length
    )
    estimate = episode_cost.update(state.episode_cost, sums, config.cost_smoothing)
    constrained_cost = episode_cost.from_completed(estimate) if config.use_completed_episodes else estimate.rate_cost
    is_warm_up = state.num_rollouts == 0
    state = state.replace(env_state=env_state, key=key, episode_cost=estimate, num_rollouts=state.num_rollouts + 1)
    learn = partial(_learn, algorithm, config, trajectory, constrained_cost, update_key)
    state, metrics = jax.lax.cond(is_warm_up, partial(_skip, learn), learn, state)
    state = state.replace(normaliser=running_stats.merge(normaliser, trajectory.obs))
    return state, metrics | _rollout_metrics(state, sums, constrained_cost, algorithm)


def make_batch(trajectory: Trajectory, normaliser: RunningStats, config: TrainConfig) -> Batch:
    """Estimate advantages along T and flatten [T, B] to M samples."""
    estimate = jax.vmap(returns.gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
    t = trajectory
    ends = (t.terminated, t.truncated)
    advantage, target = estimate(t.reward, t.value, t.next_value, *ends, config.discount, config.gae_lambda)
    cost_advantage, cost_target = estimate(
        t.cost, t.cost_value, t.next_cost_value, *ends, config.cost_discount, config.cost_gae_lambda
    )
    batch = Batch(
        obs=running_stats.normalise(normaliser, t.obs),
        action=t.action,
        log_prob=t.log_prob,
        mean=t.mean,
        log_std=t.log_std,
        advantage=returns.standardise(advantage),
        cost_advantage=returns.centre(cost_advantage),
        value_target=target,
        cost_value_target=cost_target,
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)


def make_chunk(
    venv: VectorEnvironment, algorithm: Algorithm, config: TrainConfig
) -> Callable[[TrainState, int], tuple[TrainState, Metrics]]:
    """Compile `iterate` once for any number of iterations up to MAX_ITERATIONS, the state donated.

    Returns a function (state, num_iterations) -> (state, rows), rows: [MAX_ITERATIONS] each, the rest 0.
    """

    def one(index: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, rows = carry
        state, metrics = iterate(venv, algorithm, config, state)
        return state, jax.tree.map(lambda row, value: row.at[index].set(value), rows, metrics)

    def chunk(state: TrainState, num_iterations: jax.Array) -> tuple[TrainState, Metrics]:
        shapes = jax.eval_shape(partial(iterate, venv, algorithm, config), state)[1]
        rows = {name: jnp.zeros(MAX_ITERATIONS, shape.dtype) for name, shape in shapes.items()}
        return jax.lax.fori_loop(0, num_iterations, one, (state, rows))

    return jax.jit(chunk, donate_argnums=0)


def train(
    venv: VectorEnvironment,
    algorithm: Algorithm,
    config: TrainConfig,
    state: TrainState,
    total_steps: int,
    chunk_seconds: float = 5.0,
) -> Iterator[Chunk]:
    """Train until `total_steps` environment steps since `init`. Host loop: take a Chunk, look, go on.

    total_steps is rounded down to whole iterations. chunk_seconds: how long one compiled call should take (s), which
    is how often the host gets a look; it changes no number.
    """
    chunk = make_chunk(venv, algorithm, config)
    remaining = total_steps // (config.unroll_length * venv.num_envs) - int(state.num_rollouts)
    size, fresh = 1, True
    while remaining > 0:
        size = min(size, remaining)
        start = time.perf_counter()
        state, metrics = chunk(state, jnp.int32(size))
        table = {name: np.asarray(column) for name, column in metrics.items()}
        seconds = time.perf_counter() - start
        yield Chunk(state, [{name: float(column[i]) for name, column in table.items()} for i in range(size)], seconds)
        remaining -= size
        # The first call is mostly compilation and says nothing about the speed.
        size = 1 if fresh else int(np.clip(size * chunk_seconds / seconds, 1, MAX_ITERATIONS))
        fresh = False


def _learn(
    algorithm: Algorithm,
    config: TrainConfig,
    trajectory: Trajectory,
    constrained_cost: jax.Array,
    key: jax.Array,
    state: TrainState,
) -> tuple[TrainState, Metrics]:
    """One update, and how well the critics knew the returns before it."""
    batch = make_batch(trajectory, state.normaliser, config)
    value, cost_value = trajectory.value.ravel(), trajectory.cost_value.ravel()
    state, metrics = algorithm.update(state, batch, constrained_cost, key)
    fitness = {
        "explained_variance": returns.explained_variance(value, batch.value_target),
        "cost_explained_variance": returns.explained_variance(cost_value, batch.cost_value_target),
    }
    return state, metrics | fitness


def _skip(learn: Callable[[TrainState], tuple[TrainState, Metrics]], state: TrainState) -> tuple[TrainState, Metrics]:
    """Change nothing; all learner metrics are 0."""
    shapes = jax.eval_shape(learn, state)[1]
    return state, {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}


def _rollout_metrics(
    state: TrainState, sums: EpisodeSums, constrained_cost: jax.Array, algorithm: Algorithm
) -> Metrics:
    """What the worlds did, and where the constraint stands."""
    estimate = state.episode_cost
    return {
        "num_rollouts": state.num_rollouts.astype(jnp.float32),
        "episode_return": estimate.completed_return,
        "episode_cost": estimate.completed_cost,
        "episode_goals": estimate.completed_goals,
        "episode_length": estimate.mean_length,
        "num_completed": sums.num_completed,
        "has_completed": estimate.has_completed.astype(jnp.float32),
        "return_estimate": estimate.rate_return,
        "cost_estimate": estimate.rate_cost,
        "constrained_cost": constrained_cost,
        "cost_rate": sums.cost_rate,
        "multiplier": algorithm.constraint.multiplier(state.constraint),
    }


def _strong(leaf: Any) -> jax.Array:
    """Give a weakly typed array its type for good, so that the second call compiles nothing."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.lax.convert_element_type(leaf, leaf.dtype)
