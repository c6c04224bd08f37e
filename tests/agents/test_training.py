"""Whole trainings on tiny worlds: do they learn, account, compile once, resume exactly, vmap."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents import checkpoint, episode_cost, rollout
from mjx_safety.agents.constraints import hard_limit, lagrangian, projected_ascent, unconstrained
from mjx_safety.agents.cpo import CPOConfig, cpo
from mjx_safety.agents.critics import make_actor_critic
from mjx_safety.agents.evaluate import evaluate, summarise
from mjx_safety.agents.ppo import PPOConfig, ppo
from mjx_safety.agents.train import Training, init, init_many, iterate, iterate_many, make_chunk, train
from mjx_safety.agents.types import TrainConfig
from mjx_safety.env.vector import vectorize

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


def networks_of(config):
    """The networks of a policy without a limit."""
    return make_actor_critic(config, unconstrained())[0]


def test_ppo_learns_to_act_on_the_observation():
    venv = vectorize(probe_envs.Target(), 64, stagger=True)
    config = PPOConfig(**NET, learning_rate=3e-3, target_kl=0.05)
    state, metrics = run(venv, ppo(config), TrainConfig(unroll_length=16), 80)
    test = vectorize(probe_envs.Target(), 64)
    episodes = evaluate(test, ppo(config), state.params, state.normaliser, jax.random.key(1), sampled=False)
    summary = summarise(jax.device_get(episodes), cost_limit=25.0)
    assert summary["episode_length_mean"] == 20.0
    assert summary["episode_return_mean"] > 19.7  # of 20; the initial policy gets about 17
    assert metrics["kl"].max() < 0.3 and metrics["num_passes"][1:].min() >= 1


def test_a_first_state_that_was_not_compiled_can_be_donated():
    venv, algorithm = vectorize(probe_envs.Target(), 8), ppo(PPOConfig(**NET))
    state = init(venv, algorithm, jax.random.key(0))
    (chunk,) = train(venv, algorithm, TrainConfig(unroll_length=4), state, 32)
    assert chunk.state.num_rollouts == 1
    assert [row["env_steps"] for row in chunk.rows] == [32]


def test_values_see_through_the_time_limit():
    """Constant reward 1 and discount 0.99: V is 100, although episodes last 50 steps."""
    venv = vectorize(probe_envs.ConstantReward(episode_length=50), 16, stagger=True)
    config = PPOConfig(**NET, critic_learning_rate=3e-2, max_grad_norm=100.0, num_passes=1)
    state, _ = run(venv, ppo(config), TrainConfig(unroll_length=16), 250)
    value = networks_of(config).value(state.params.value, jnp.zeros((1, 3)))
    assert_allclose(value, 100.0, rtol=0.03)


def test_no_cost_is_accounted_twice_or_lost(key):
    """Of the scalar cost, and of the steps in which each source cost: both are the learner's costs and the sums'."""
    venv = vectorize(probe_envs.TwoCosts(episode_length=7), 8)
    algorithm = ppo(PPOConfig(**NET))
    state = jax.jit(partial(init, venv, algorithm))(key)
    collect = partial(rollout.collect, venv, networks_of(PPOConfig(**NET)), ("seldom", "often"), unroll_length=100)
    env_state, trajectory, sums = jax.jit(collect)(state, key)
    assert sums.num_completed == 8 * (100 // 7)
    open_cost = jnp.sum(jnp.where(env_state.done, 0.0, env_state.episode_cost))
    open_steps = jnp.sum(jnp.where(env_state.done[:, None], 0.0, env_state.episode_cost_steps), axis=0)
    assert_allclose(sums.episode_costs.total + open_cost, 800.0 * sums.cost_rates.total, rtol=1e-5)
    assert_allclose(sums.episode_costs.sources + open_steps, 800.0 * sums.cost_rates.sources, rtol=1e-5)
    assert_allclose(jnp.mean(trajectory.costs, axis=(0, 1)), sums.cost_rates.sources[::-1], rtol=1e-5)
    assert set(np.unique(trajectory.costs)) == {0.0, 1.0}  # steps, whatever the raw cost
    ends = (trajectory.terminated | trajectory.truncated)[:-1]
    for name in ("value", "cost_values"):
        bootstrap, value = getattr(trajectory, f"next_{name}")[:-1], getattr(trajectory, name)[1:]
        assert_allclose(bootstrap[~ends], value[~ends], atol=1e-5)
        assert np.all(bootstrap[ends] != value[ends])


def test_shortened_first_episodes_are_left_out(key):
    venv = vectorize(probe_envs.CostlyTarget(), 32, stagger=True)
    algorithm = ppo(PPOConfig(**NET))
    state = jax.jit(partial(init, venv, algorithm))(key)
    collect = jax.jit(partial(rollout.collect, venv, networks_of(PPOConfig(**NET)), ()), static_argnums=2)
    env_state, _, first = collect(state, key, 19)
    assert first.num_completed == 0
    estimate = episode_cost.update(episode_cost.init(20, 1), first, 0.8, 19)
    assert_allclose(episode_cost.from_completed(estimate).total, 20 * first.cost_rates.total)
    _, _, second = collect(state.replace(env_state=env_state), key, 20)
    assert second.num_completed == 32 and second.episode_length == 32 * 20


def test_the_first_rollout_only_fills_the_normaliser(key):
    venv = vectorize(probe_envs.Target(), 16)
    algorithm = ppo(PPOConfig(**NET), lagrangian(25.0))
    start = jax.jit(partial(init, venv, algorithm))(key)
    state, metrics = jax.jit(partial(iterate, venv, algorithm, TrainConfig(unroll_length=4)))(start)
    jax.tree.map(assert_array_equal, (state.params, state.constraint), (start.params, start.constraint))
    assert metrics["kl"] == 0.0 and state.normaliser.count_low == 64


def test_without_cost_a_zero_multiplier_changes_nothing(key):
    """From the first rollout to the third update, through everything that an iteration does."""
    venv = vectorize(probe_envs.Target(), 16, stagger=True)

    def run_with(constraint):
        algorithm = ppo(PPOConfig(**NET), constraint)
        step = jax.jit(partial(iterate, venv, algorithm, TrainConfig(unroll_length=16)))
        state = init(venv, algorithm, key)
        for _ in range(4):
            state, metrics = step(state)
        assert metrics["multiplier"] == 0.0
        return state.params

    free, held = run_with(unconstrained()), run_with(lagrangian(25.0, projected_ascent(init=0.0)))
    jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-5), free, held)


def test_kl_stop_leaves_the_critics_alone(key):
    venv = vectorize(probe_envs.Random(), 16)
    config = PPOConfig(**NET, learning_rate=1e-2)
    state = init(venv, ppo(config, lagrangian(5.0)), key).replace(num_rollouts=jnp.int32(1))  # past the warm-up

    @jax.jit
    def update(target_kl):
        algorithm = ppo(config.replace(target_kl=target_kl), lagrangian(5.0))
        return iterate(venv, algorithm, TrainConfig(unroll_length=16), state)

    (stopped, few), (finished, many) = update(-1.0), update(1e9)
    assert few["num_passes"] == 0 and many["num_passes"] == 8
    jax.tree.map(assert_array_equal, stopped.params.policy, state.params.policy)
    jax.tree.map(assert_array_equal, stopped.params.value, finished.params.value)
    jax.tree.map(assert_array_equal, stopped.params.cost_values, finished.params.cost_values)
    assert np.any(jax.tree.leaves(stopped.params.value)[0] != jax.tree.leaves(state.params.value)[0])


@pytest.fixture
def small():
    venv = vectorize(probe_envs.Random(), 8, stagger=True)
    return venv, ppo(PPOConfig(**NET), lagrangian(5.0)), TrainConfig(unroll_length=8)


def test_chunks_compile_once(small, key):
    venv, algorithm, _ = small
    chunk = make_chunk(partial(iterate, *small))
    state = jax.jit(partial(init, venv, algorithm))(key)
    for num_iterations in (1, 3, 2):
        state, rows = chunk(state, jnp.int32(num_iterations))
    assert chunk._cache_size() == 1
    assert state.num_rollouts == 6 and rows["num_rollouts"][1] == 6


def test_a_number_of_steps_may_be_a_float(small, key):
    """Such as 1e6: all whole iterations run, in chunks whose sizes stay whole numbers to the last."""
    venv, algorithm, config = small
    state = jax.jit(partial(init, venv, algorithm))(key)
    chunks = [len(chunk.rows) for chunk in train(venv, algorithm, config, state, 7.0 * 64 + 1)]
    assert sum(chunks) == 7


def test_an_interrupted_training_continues_bit_for_bit(small, key, tmp_path):
    venv, algorithm, _ = small
    start = partial(init, venv, algorithm)
    chunk = make_chunk(partial(iterate, *small))
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


LIMITED = {
    "ppo": lambda limit: ppo(PPOConfig(**NET), lagrangian(limit, projected_ascent(learning_rate=0.1))),
    "cpo": lambda limit: cpo(CPOConfig(**NET), hard_limit(limit)),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["ppo", pytest.param("cpo", marks=pytest.mark.slow)])
def test_trainings_side_by_side_are_those_one_by_one(name):
    """Seeds and limits in one program: every number is that of the training on its own, to rounding."""
    venv, config = vectorize(probe_envs.CostlyTarget(), 8, stagger=True), TrainConfig(unroll_length=8)
    keys = jax.random.split(jax.random.key(9), 2)[jnp.array([0, 1, 1])]
    limits = jnp.array([5.0, 5.0, 50.0])

    def build(limit):
        return Training(venv, LIMITED[name](limit), config)

    @jax.jit
    def alone(limit, key):
        state = init(venv, build(limit).algorithm, key)
        return jax.lax.scan(lambda state, _: iterate(*build(limit), state), state, length=4)

    chunk = make_chunk(partial(iterate_many, build, limits))
    states, rows = chunk(jax.jit(partial(init_many, build))(limits, keys), jnp.int32(4))
    close = partial(assert_allclose, rtol=1e-3, atol=1e-4)
    for i in range(3):
        state, metrics = alone(limits[i], keys[i])
        jax.tree.map(close, jax.tree.map(lambda leaf, i=i: leaf[i], states.params), state.params)
        assert set(metrics) == set(rows)
        for column in metrics:
            close(rows[column][:4, i], metrics[column], err_msg=column)
    assert rows["cost_rate"][0, 0] != rows["cost_rate"][0, 1], "two seeds alike"
    assert_array_equal(rows["cost_rate"][:2, 1], rows["cost_rate"][:2, 2])  # the limit plays no part yet
    differences = jax.tree.map(lambda leaf: np.max(np.abs(leaf[1] - leaf[2])), states.params.policy)
    assert max(jax.tree.leaves(differences)) > 1e-4, "two limits alike"
