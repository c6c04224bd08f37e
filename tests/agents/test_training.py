"""Whole trainings on tiny worlds: do they learn, account, compile once, resume exactly, vmap."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents import checkpoint, episode_cost, rollout
from mjx_safety.agents.constraints import (
    PIDGains,
    lagrangian,
    pid_lagrangian,
    projected_ascent,
    unconstrained,
)
from mjx_safety.agents.evaluate import evaluate, summarise
from mjx_safety.agents.ppo import PPOConfig, ppo
from mjx_safety.agents.train import TrainConfig, init, init_agent, iterate, make_chunk, train
from mjx_safety.agents.types import Batch
from mjx_safety.wrappers import vectorize

from . import probe_envs

NET = {"hidden_sizes": (16,), "num_minibatches": 4}


def run(venv, algorithm, config, num_iterations, seed=0):
    """Train and return the final state and the metrics as columns."""
    state = jax.jit(partial(init, venv, algorithm))(jax.random.key(seed))
    total = num_iterations * venv.num_envs * config.unroll_length
    rows = []
    for chunk in train(venv, algorithm, config, state, total):
        state, rows = chunk.state, rows + chunk.rows
    return state, {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_ppo_learns_to_act_on_the_observation():
    venv = vectorize(probe_envs.Target(), 64, stagger=True)
    config = PPOConfig(**NET, learning_rate=3e-3, target_kl=0.05)
    state, metrics = run(venv, ppo(config), TrainConfig(unroll_length=16), 80)
    test = vectorize(probe_envs.Target(), 64)
    networks = ppo(config).networks
    episodes = evaluate(test, networks, state.params.policy, state.normaliser, jax.random.key(1), sampled=False)
    summary = summarise(episodes, cost_limit=25.0)
    assert summary["episode_length_mean"] == 20.0
    assert summary["episode_return_mean"] > 19.7  # of 20; the initial policy gets about 17
    assert metrics["kl"].max() < 0.3 and metrics["num_passes"][1:].min() >= 1


@pytest.mark.parametrize(
    "constraint",
    [
        lagrangian(12.0, projected_ascent(init=0.0, learning_rate=0.03)),
        pid_lagrangian(12.0, PIDGains(integral_gain=0.03, proportional_gain=0.1, smoothing=0.8)),
    ],
    ids=["projected", "pid"],
)
def test_constrained_optimum(constraint):
    """Cost 10 (a + 1) <= 12 makes a = 0.2 the best action: return 20 (1 - 0.8^2) = 7.2; free of the limit, 20."""
    venv = vectorize(probe_envs.CostlyTarget(), 64, stagger=True)
    config = PPOConfig(**NET, init_log_std=-2.0, learning_rate=3e-3, target_kl=0.05)
    _, metrics = run(venv, ppo(config, constraint), TrainConfig(unroll_length=16, cost_smoothing=0.5), 300)
    tail = slice(-100, None)
    assert_allclose(metrics["episode_cost"][tail].mean(), 12.0, rtol=0.05)
    assert_allclose(metrics["episode_return"][tail].mean(), 7.2, rtol=0.12)


def test_values_see_through_the_time_limit():
    """Constant reward 1 and discount 0.99: V is 100, although episodes last 50 steps."""
    venv = vectorize(probe_envs.ConstantReward(episode_length=50), 16, stagger=True)
    algorithm = ppo(PPOConfig(**NET, critic_learning_rate=3e-2, max_grad_norm=100.0, num_passes=1))
    state, _ = run(venv, algorithm, TrainConfig(unroll_length=16), 250)
    value = algorithm.networks.value(state.params.value, jnp.zeros((1, 3)))
    assert_allclose(value, 100.0, rtol=0.03)


def test_no_cost_is_accounted_twice_or_lost(key):
    venv = vectorize(probe_envs.Random(), 8)
    algorithm = ppo(PPOConfig(**NET))
    state = jax.jit(partial(init, venv, algorithm))(key)
    collect = partial(rollout.collect, venv, algorithm.networks, unroll_length=100)
    env_state, trajectory, sums = jax.jit(collect)(state.params, state.normaliser, state.env_state, key)
    still_open = jnp.sum(jnp.where(env_state.done, 0.0, env_state.episode_cost))
    assert sums.num_completed > 40
    assert_allclose(sums.episode_cost + still_open, jnp.sum(trajectory.cost), rtol=1e-6)
    assert_allclose(sums.cost_rate, jnp.mean(trajectory.cost))
    assert_allclose(
        trajectory.next_value[:-1][~(trajectory.terminated | trajectory.truncated)[:-1]],
        trajectory.value[1:][~(trajectory.terminated | trajectory.truncated)[:-1]],
        atol=1e-5,
    )


def test_shortened_first_episodes_are_left_out(key):
    venv = vectorize(probe_envs.CostlyTarget(), 32, stagger=True)
    algorithm = ppo(PPOConfig(**NET))
    state = jax.jit(partial(init, venv, algorithm))(key)
    collect = jax.jit(partial(rollout.collect, venv, algorithm.networks), static_argnums=4)
    env_state, _, first = collect(state.params, state.normaliser, state.env_state, key, 19)
    assert first.num_completed == 0
    estimate = episode_cost.update(episode_cost.init(20), first, 0.8)
    assert_allclose(episode_cost.from_completed(estimate), 20 * first.cost_rate)
    _, _, second = collect(state.params, state.normaliser, env_state, key, 20)
    assert second.num_completed == 32 and second.episode_length == 32 * 20


def test_the_first_rollout_only_fills_the_normaliser(key):
    venv = vectorize(probe_envs.Target(), 16)
    algorithm = ppo(PPOConfig(**NET), lagrangian(25.0))
    start = jax.jit(partial(init, venv, algorithm))(key)
    state, metrics = jax.jit(partial(iterate, venv, algorithm, TrainConfig(unroll_length=4)))(start)
    jax.tree.map(assert_array_equal, (state.params, state.constraint), (start.params, start.constraint))
    assert metrics["kl"] == 0.0 and state.normaliser.count_low == 64


def random_batch(key, cost):
    keys = jax.random.split(key, 5)
    scalar = lambda k: jax.random.normal(k, (64,))  # noqa: E731
    return Batch(
        obs=jax.random.normal(keys[0], (64, 3)),
        action=jax.random.normal(keys[1], (64, 1)),
        log_prob=-jnp.ones(64),
        mean=jnp.zeros((64, 1)),
        log_std=jnp.full((64, 1), -0.5),
        advantage=scalar(keys[2]),
        cost_advantage=cost * scalar(keys[3]),
        value_target=scalar(keys[4]),
        cost_value_target=jnp.zeros(64),
    )


def updated(algorithm, batch, key):
    venv = vectorize(probe_envs.Target(), 1)
    return algorithm.update(init_agent(venv, algorithm, key), batch, jnp.float32(0.0), key)


def test_without_cost_a_zero_multiplier_changes_nothing(key):
    batch = random_batch(key, cost=0.0)
    constraints = unconstrained(), lagrangian(25.0, projected_ascent(init=0.0))
    free, held = (jax.jit(updated, static_argnums=0)(ppo(PPOConfig(**NET), c), batch, key)[0] for c in constraints)
    jax.tree.map(partial(assert_allclose, rtol=1e-5, atol=1e-6), free.params, held.params)


def test_kl_stop_leaves_the_critics_alone(key):
    batch = random_batch(key, cost=1.0)

    @jax.jit
    def update(target_kl):
        return updated(ppo(PPOConfig(**NET, target_kl=target_kl, learning_rate=1e-2), lagrangian(25.0)), batch, key)

    (stopped, few), (finished, many) = update(-1.0), update(1e9)
    assert few["num_passes"] == 0 and many["num_passes"] == 8
    jax.tree.map(assert_array_equal, stopped.params.value, finished.params.value)
    jax.tree.map(assert_array_equal, stopped.params.cost_value, finished.params.cost_value)


@pytest.fixture
def small():
    venv = vectorize(probe_envs.Random(), 8, stagger=True)
    return venv, ppo(PPOConfig(**NET), lagrangian(5.0)), TrainConfig(unroll_length=8)


def test_chunks_compile_once(small, key):
    venv, algorithm, _ = small
    chunk = make_chunk(*small)
    state = jax.jit(partial(init, venv, algorithm))(key)
    for num_iterations in (1, 3, 2):
        state, rows = chunk(state, jnp.int32(num_iterations))
    assert chunk._cache_size() == 1
    assert state.num_rollouts == 6 and rows["num_rollouts"][1] == 6


def test_an_interrupted_training_continues_bit_for_bit(small, key, tmp_path):
    venv, algorithm, _ = small
    start = partial(init, venv, algorithm)
    chunk = make_chunk(*small)
    whole, _ = chunk(jax.jit(start)(key), jnp.int32(10))
    half, _ = chunk(jax.jit(start)(key), jnp.int32(5))
    checkpoint.save(tmp_path, half)
    found = checkpoint.latest(tmp_path)
    restored = checkpoint.restore(found, jax.eval_shape(start, key))
    resumed, _ = chunk(restored, jnp.int32(5))
    assert_same(whole, resumed)


def assert_same(a, b):
    plain = [
        jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)
        for tree in (a, b)
    ]
    jax.tree.map(assert_array_equal, *plain)


def test_checkpoints_are_few_and_refuse_another_training(small, key, tmp_path):
    venv, algorithm, _ = small
    state = jax.jit(partial(init, venv, algorithm))(key)
    for number in (1, 2, 3):
        checkpoint.save(tmp_path, state.replace(num_rollouts=jnp.int32(number)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000002", "00000003"]
    other = ppo(PPOConfig(hidden_sizes=(8,)), lagrangian(5.0))
    with pytest.raises(ValueError, match="does not fit this training"):
        checkpoint.restore(tmp_path / "00000003", jax.eval_shape(partial(init, venv, other), key))


def test_whole_trainings_vmap_over_seeds_and_limits(small):
    venv, _, config = small

    def train_one(seed, cost_limit):
        algorithm = ppo(PPOConfig(**NET), lagrangian(cost_limit, projected_ascent(learning_rate=0.1)))
        state = init(venv, algorithm, jax.random.key(seed))
        return jax.lax.scan(lambda s, _: iterate(venv, algorithm, config, s), state, length=4)[1]

    metrics = jax.jit(jax.vmap(train_one))(jnp.array([0, 1, 1, 1]), jnp.array([5.0, 5.0, 5.0, 50.0]))
    assert metrics["cost_rate"][0, 0] != metrics["cost_rate"][1, 0]
    assert_array_equal(metrics["value_loss"][1], metrics["value_loss"][2])
    assert metrics["multiplier"][1, -1] > metrics["multiplier"][3, -1]
