"""Counters after a billion steps, by arithmetic: where int32 and float32 end, and that nothing counts beyond."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from mjx_safety.agents import replay, running_stats
from mjx_safety.agents.constraints import lagrangian
from mjx_safety.agents.ppo import PPOConfig, ppo
from mjx_safety.agents.train import init, iterate, make_chunk, run_chunks
from mjx_safety.agents.types import RunningStats, TrainConfig
from mjx_safety.env.vector import vectorize

from . import probe_envs

BILLION = 10**9


def split(count):
    return {"count_low": jnp.uint32(count % 2**32), "count_high": jnp.uint32(count // 2**32)}


@pytest.mark.parametrize("count", [BILLION, 2**32 - 5, 10 * BILLION])
def test_the_normaliser_counts_on_and_keeps_its_variance(count, key):
    """A million merges of batches like all before must change neither mean nor variance."""
    stats = RunningStats(mean=jnp.array([2.0]), var=jnp.array([3.0]), **split(count))
    signs = jnp.tile(jnp.array([-1.0, 1.0]), 16)[:, None]
    batch = 2.0 + jnp.sqrt(3.0) * signs
    after = jax.jit(lambda s: jax.lax.fori_loop(0, 1_000_000, lambda _, s: running_stats.merge(s, batch), s))(stats)
    assert_allclose((after.mean[0], after.var[0]), (2.0, 3.0), rtol=1e-4)
    total = int(after.count_high) * 2**32 + int(after.count_low)
    assert total == count + 32_000_000


def test_iterations_are_counted_beyond_float32():
    venv = vectorize(probe_envs.Random(), 4, stagger=True)
    algorithm = ppo(PPOConfig(hidden_sizes=(4,), num_minibatches=2, num_passes=1), lagrangian(5.0))
    chunk = make_chunk(partial(iterate, venv, algorithm, TrainConfig(unroll_length=4)))
    state = jax.jit(partial(init, venv, algorithm))(jax.random.key(0)).replace(num_rollouts=jnp.int32(2**24))
    rows = [row for chunk in run_chunks(chunk, state, 2**24 + 3, 256) for row in chunk.rows]
    assert [row["num_rollouts"] for row in rows] == [2**24 + 1, 2**24 + 2, 2**24 + 3]
    assert [row["env_steps"] for row in rows] == [256 * (2**24 + i) for i in (1, 2, 3)]
    assert np.float32(2**24 + 1) == np.float32(2**24)  # why


def test_limits_act_for_good():
    """The steps of one world pass 2**31 after 2e9: they are counted in float32, which only rounds."""
    assert jnp.int32(2**21 + 1) * 1024 < 0  # why
    venv = vectorize(probe_envs.Random(), 4, stagger=True)
    algorithm = ppo(PPOConfig(hidden_sizes=(4,), num_minibatches=2, num_passes=1), lagrangian(5.0))
    step = jax.jit(partial(iterate, venv, algorithm, TrainConfig(unroll_length=1024)))
    state = jax.jit(partial(init, venv, algorithm))(jax.random.key(0)).replace(num_rollouts=jnp.int32(2**21))
    after, metrics = step(state)
    assert metrics["limit_acts"] == 1.0 and after.episode_cost.has_whole


def test_the_replay_runs_round_for_ever():
    """Its position stays below the capacity, whatever the number of steps."""
    buffer = replay.init(48, jnp.zeros(()))
    write = jax.jit(lambda buffer, i: (replay.add(buffer, jnp.full(36, i, jnp.float32)), buffer.position))
    buffer, positions = jax.lax.scan(write, buffer, jnp.arange(100_000))
    assert int(jnp.max(positions)) < 48 and int(jnp.min(positions)) == 0 and buffer.size == 48


def test_adam_counts_to_the_end_of_int32_and_stays():
    optimizer = optax.adam(1e-3)
    state = optimizer.init(jnp.float32(1.0))
    state = optax.tree.set(state, count=jnp.int32(2**31 - 2))
    for _ in range(3):
        change, state = optimizer.update(jnp.float32(1.0), state)
        assert jnp.isfinite(change)
    assert optax.tree.get(state, "count") == 2**31 - 1


def test_episodes_add_up_exactly_to_the_total_cost():
    """Each costly step is in one episode: ended, shortened or open. In whole numbers, over many rollouts."""
    venv = vectorize(probe_envs.Random(), 16, stagger=True)

    def ended(states, action):
        states = venv.step(states, action)
        return states, (states.cost, jnp.where(states.done, states.episode_cost, 0.0), states.partial & states.done)

    actions = jnp.zeros((2000, 16, 1))
    states, (cost, of_ended, cut) = jax.jit(lambda s: jax.lax.scan(ended, s, actions))(venv.reset(jax.random.key(1)))
    is_open = jnp.sum(jnp.where(states.done, 0.0, states.episode_cost), dtype=jnp.int32)
    total = jnp.sum(cost, dtype=jnp.int32)
    assert total == jnp.sum(of_ended, dtype=jnp.int32) + is_open > 1000
    assert jnp.any(cut) and is_open > 0


def test_the_metrics_of_a_training_add_up_exactly_to_its_total_cost():
    """Rate times steps, over all rollouts, is the cost of the episodes that ended and of those that are open."""
    venv = vectorize(probe_envs.Random(), 16)  # not staggered, so that no episode is shortened
    algorithm = ppo(PPOConfig(hidden_sizes=(4,), num_minibatches=2, num_passes=1), lagrangian(5.0))
    chunk = make_chunk(partial(iterate, venv, algorithm, TrainConfig(unroll_length=32)))
    state = jax.jit(partial(init, venv, algorithm))(jax.random.key(2))
    total = of_ended = episodes = 0
    for part in run_chunks(chunk, state, 40, 32 * 16):
        state = part.state
        for row in part.rows:
            total += round(row["cost_rate"] * 32 * 16)
            of_ended += round(row["num_completed"] * row["episode_cost"])
            episodes += row["num_completed"]
    worlds = state.env_state
    is_open = int(jnp.sum(jnp.where(worlds.done, 0.0, worlds.episode_cost)))
    assert total == of_ended + is_open > 5000 and episodes > 500
