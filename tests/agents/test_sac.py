"""SAC-Lagrangian and its replay on tiny worlds."""

from collections import deque
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents import checkpoint, replay
from mjx_safety.agents.constraints import lagrangian, projected_ascent, unconstrained
from mjx_safety.agents.evaluate import evaluate
from mjx_safety.agents.off_policy import Objective, Step, count_updates
from mjx_safety.agents.sac import SACConfig, distribution, make_targets, sac, squash
from mjx_safety.agents.td3 import TD3Config, td3
from mjx_safety.agents.train import init, iterate, make_chunk
from mjx_safety.agents.types import Gaussian, OffPolicyTrainConfig
from mjx_safety.env.vector import vectorize

from . import probe_envs

pytestmark = pytest.mark.usefixtures("strict_ranks")

SMALL = SACConfig(
    hidden_sizes=(32, 32),
    replay_capacity=20_000,
    batch_size=128,
    updates_per_step=0.0625,
    policy_delay=1,
    learning_rate=3e-3,
    critic_learning_rate=3e-3,
    temperature_learning_rate=3e-3,
    tau=0.02,
    random_steps=1000.0,
)
CONFIG = OffPolicyTrainConfig(unroll_length=4, discount=0.9, cost_discount=0.9, cost_smoothing=0.9)


def run(venv, algorithm, num_iterations, config=CONFIG, seed=0):
    """Train and return the final state and the metrics as columns."""

    @jax.jit
    def whole(key):
        state = init(venv, algorithm, key)
        return jax.lax.scan(lambda s, _: iterate(venv, algorithm, config, s), state, length=num_iterations)

    return whole(jax.random.key(seed))


def params_of(algorithm, key):
    return algorithm.init(probe_envs.ProbeEnv(), key).params


def assert_same(a, b):
    plain = [
        jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)
        for tree in (a, b)
    ]
    jax.tree.map(assert_array_equal, *plain)


@pytest.mark.parametrize("make", [lambda: sac(SMALL), lambda: td3(TD3Config())], ids=["sac", "td3"])
def test_without_a_constraint_no_cost_counts(make):
    """As in `ppo()` and `trpo()`, whatever an episode costs."""
    constraint = make().constraint
    weights = constraint.weights(constraint.update(constraint.init(), jnp.array([1e6])))
    assert constraint.limits.tolist() == [np.inf]
    assert (weights.multipliers.tolist(), weights.margins.tolist()) == ([0.0], [0.0])


@pytest.mark.parametrize("num_steps", [1, 3, 7])
def test_the_ring_holds_the_newest_steps(num_steps):
    """Capacity 7, which 3 does not divide: the ring wraps inside a write."""
    step = {"number": jnp.int32(0), "twice": jnp.zeros((1, 2))}
    ring, expected, add = replay.init(7, step), deque(maxlen=7), jax.jit(replay.add)
    for start in range(0, 10 * num_steps, num_steps):
        number = jnp.arange(start, start + num_steps, dtype=jnp.int32)
        ring = add(ring, {"number": number, "twice": jnp.broadcast_to(2.0 * number[:, None, None], (num_steps, 1, 2))})
        expected.extend(number.tolist())
        assert ring.size == len(expected)
        held = np.asarray(ring.steps["number"])[: len(expected)]
        assert_array_equal(np.sort(held), expected)
        assert_array_equal(ring.steps["twice"][: len(expected), 0, 1], 2.0 * held)
        assert_array_equal(np.roll(ring.steps["number"], -int(ring.position))[-len(expected) :], expected)


def test_the_ring_refuses_more_than_it_holds():
    with pytest.raises(ValueError, match="it must hold at least the 8 of one rollout"):
        replay.add(replay.init(7, jnp.float32(0.0)), jnp.zeros(8))


def test_samples_are_uniform_over_what_is_held(key):
    """5 of 8 places are filled."""
    ring = replay.add(replay.init(8, jnp.int32(0)), 10 + jnp.arange(5, dtype=jnp.int32))
    values, counts = np.unique(replay.sample(ring, key, 50_000), return_counts=True)
    assert_array_equal(values, [10, 11, 12, 13, 14])
    assert_allclose(counts, 10_000, rtol=0.04)  # 4.5 standard deviations


def test_each_part_has_a_ring_of_its_own(key):
    """Two parts of 4 places; a rollout brings 3 steps of each, the second one overwrites."""
    ring = replay.init(8, jnp.int32(0), num_parts=2)
    for start in (0, 3):
        steps = start + jnp.arange(3, dtype=jnp.int32)
        ring = replay.add(ring, jnp.concatenate([steps, 100 + steps]))
    assert_array_equal(ring.steps, [4, 5, 2, 3, 104, 105, 102, 103])
    assert (ring.size, ring.position) == (8, 2)
    values, counts = np.unique(replay.sample(ring, key, 40_000), return_counts=True)
    assert_array_equal(values, np.sort(ring.steps))
    assert_allclose(counts, 5_000, rtol=0.07)


def test_squashed_density_integrates_to_one():
    noise = jnp.linspace(-9.0, 9.0, 40_001)[:, None]
    dist = Gaussian(jnp.full_like(noise, 0.4), jnp.full_like(noise, -0.3))
    action, log_prob = squash(dist, noise)
    assert_allclose(np.trapezoid(np.exp(log_prob), action[:, 0]), 1.0, atol=1e-4)
    extreme = squash(Gaussian(jnp.full((1, 1), 40.0), jnp.zeros((1, 1))), jnp.zeros((1, 1)))
    assert_allclose(extreme[1], 2.0 * (40.0 - np.log(2.0)) - 0.5 * np.log(2.0 * np.pi), rtol=1e-5)


def test_a_log_std_outside_its_range_can_come_back(key):
    """The bias of the first log std is far below the range. The gradient of the std still reaches it."""
    policy = params_of(sac(SMALL), key).policy
    policy.params["params"]["output"]["bias"] = jnp.array([0.0, -50.0])

    def std(policy):
        return jnp.exp(distribution(policy, jnp.ones(3)).log_std[0])

    assert_allclose(std(policy), np.exp(-5.0), rtol=1e-5)
    assert_allclose(jax.grad(std)(policy).params["params"]["output"]["bias"], [0.0, np.exp(-5.0)], rtol=1e-5)


def test_targets_go_on_after_the_time_limit_but_not_after_the_end(key):
    """Rows 0 and 1 are the same but for the true end of 1."""
    params = params_of(sac(SMALL, lagrangian({"a": 1.0, "b": 1.0})), key).replace(log_temperature=jnp.log(0.5))
    row = Step(jnp.ones(3), jnp.zeros(1), jnp.float32(2.0), jnp.array([3.0, 4.0]), -jnp.ones(3), jnp.bool_(False))
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), row).replace(terminated=jnp.array([False, True]))
    objective = Objective(OffPolicyTrainConfig(discount=0.7, cost_discount=0.6), jnp.zeros(2))
    (target, cost_targets), entropy = make_targets(objective, params, batch, key)
    action, log_prob = squash(distribution(params.policy, batch.next_obs), jax.random.normal(key, (2, 1)))
    assert_allclose(entropy, -np.mean(log_prob), rtol=1e-5)
    q = params.target_critics.rewards(batch.next_obs, action)
    assert q.shape == (2, 2) and q[0, 0] != q[1, 0]
    assert_allclose(target, [2.0 + 0.7 * (min(q[0, 0], q[1, 0]) - 0.5 * log_prob[0]), 2.0], rtol=1e-5)
    cost_q = params.target_critics.costs(batch.next_obs, action)
    assert cost_q.shape == (2, 2, 2) and np.all(cost_q[0] != cost_q[1])
    next_cost = np.maximum(np.mean(cost_q, axis=0)[0], 0.0)
    assert_allclose(cost_targets, [[3.0 + 0.6 * next_cost[0], 4.0 + 0.6 * next_cost[1]], [3.0, 4.0]], rtol=1e-5)
    cheap = jax.tree.map(lambda leaf: leaf - 10.0, params.target_critics)  # nothing that follows can cost less than 0
    assert np.all(cheap.costs(batch.next_obs, action) < 0.0)
    (_, at_least), _ = make_targets(objective, params.replace(target_critics=cheap), batch, key)
    assert_allclose(at_least, [[3.0, 4.0]] * 2)


def test_q_sees_through_the_time_limit():
    """Constant reward 1 and discount 0.9: Q is 10, although episodes last 5 steps (4.1 without what follows)."""
    venv = vectorize(probe_envs.ConstantReward(episode_length=5), 64, stagger=True)
    algorithm = sac(SMALL.replace(init_temperature=1e-6, temperature_learning_rate=0.0), lagrangian())
    _, metrics = run(venv, algorithm, 150)
    assert_allclose(metrics["temperature"], 1e-6, rtol=1e-5)
    assert_allclose(metrics["q_mean"][-20:], 10.0, rtol=0.03)


@pytest.mark.slow
def test_learns_to_act_on_the_observation(key):
    venv = vectorize(probe_envs.Target(), 64, stagger=True)
    algorithm = sac(SMALL, unconstrained())
    state, metrics = run(venv, algorithm, 200)
    test = vectorize(probe_envs.Target(), 64)
    episodes = evaluate(test, algorithm, state.params, state.normaliser, key, sampled=False)
    assert episodes.episode_return.mean() > 19.8  # of 20; a uniform policy gets about 11
    assert_allclose(metrics["entropy"][-20:].mean(), -1.0, atol=0.3)  # the default target, for one entry


@pytest.mark.thorough
def test_constrained_optimum():
    """Cost 10 (a + 1) <= 12 makes a = 0.2 the best action: return 20 (1 - 0.8^2) = 7.2; free of the limit, 20.

    There the reward rises by 1.6 and the cost by 0.5 per unit of action: the price of cost in reward is 3.2.
    """
    venv = vectorize(probe_envs.CostlyTarget(), 64, stagger=True)
    constraint = lagrangian(12.0, projected_ascent(learning_rate=0.06))
    _, metrics = run(venv, sac(SMALL, constraint), 900, CONFIG.replace(cost_smoothing=0.5))
    tail = slice(-200, None)
    assert_allclose(metrics["episode_cost"][tail].mean(), 12.0, rtol=0.05)
    assert_allclose(metrics["episode_return"][tail].mean(), 7.2, rtol=0.1)
    assert_allclose(metrics["multiplier"][tail].mean(), 3.2, rtol=0.1)


@dataclass(frozen=True)
class Scaled(probe_envs.CostlyTarget):
    cost_scale: float = 1.0

    def outcome(self, state, action, key):
        reward, cost = super().outcome(state, action, key)
        return reward, self.cost_scale * cost


@pytest.mark.slow
def test_costs_without_weight_change_nothing():
    @jax.jit
    def trained(cost_scale, cost_limit):
        venv = vectorize(Scaled(cost_scale=cost_scale), 64)
        constraint = lagrangian(cost_limit, projected_ascent(learning_rate=0.01))
        params = run(venv, sac(SMALL.replace(random_steps=300.0), constraint), 4)[0].params
        return params.policy, params.log_temperature, params.critics.q

    ignored = trained(0.0, jnp.inf)
    jax.tree.map(assert_array_equal, trained(0.0, 25.0), ignored)  # free
    jax.tree.map(assert_array_equal, trained(1.0, 100.0), ignored)  # below the limit
    with pytest.raises(AssertionError):
        jax.tree.map(assert_array_equal, trained(1.0, 1.0), ignored)


class TwoCosts(probe_envs.ProbeEnv):
    """Each step costs 3 in source a, 0 in source b: the scalar cost is 1."""

    def step(self, state, action):
        return super().step(state, action).replace(cost=jnp.float32(1.0), costs=jnp.array([3.0, 0.0]))

    def reset(self, key):
        return super().reset(key).replace(costs=jnp.zeros(2))


@pytest.mark.thorough
def test_every_limited_source_has_a_critic_and_a_multiplier():
    venv = vectorize(TwoCosts(cost_names=("a", "b")), 16, stagger=True)
    constraint = lagrangian({"b": 5.0, "a": 5.0}, projected_ascent(learning_rate=0.05))
    config = SMALL.replace(random_steps=0.0, updates_per_step=0.5, num_target_steps=1)
    state, metrics = run(venv, sac(config, constraint), 40, CONFIG.replace(unroll_length=8))
    assert_allclose(state.replay.steps.costs[0], [0.0, 1.0])  # steps with cost, in the order of the limits
    assert metrics["multiplier_b"][-1] == 0.0 and metrics["multiplier_a"][-1] > 1.0
    batch = state.replay.steps
    cost_q = state.params.critics.costs(batch.obs[:64], batch.action[:64])
    assert_allclose(cost_q.mean(axis=(0, 1)), [0.0, 10.0], atol=0.6)


def test_nothing_is_learnt_before_the_random_steps_and_a_batch_are_in():
    """A rollout has 40 steps: the third one completes 100 random ones, the second one a batch of 50."""
    venv = vectorize(probe_envs.CostlyTarget(), 10, stagger=True)

    def algorithm(random_steps):
        return sac(SMALL.replace(random_steps=random_steps, batch_size=50, updates_per_step=0.4), lagrangian(1.0))

    start = jax.jit(partial(init, venv, algorithm(0.0)))(jax.random.key(0))
    step = jax.jit(lambda random_steps, state: iterate(venv, algorithm(random_steps), CONFIG, state))
    for random_steps, first_update in ((100.0, 3), (0.0, 2)):
        state = start
        for number in (1, 2, 3, 4):
            before, (state, row) = state, step(random_steps, state)
            learns = number >= first_update
            assert row["num_updates"] == (16.0 if learns else 0.0)
            assert row["replay_size"] == 40.0 * number
            assert state.normaliser.count_low == 40 * number
            acts = number >= 3  # half an episode
            assert (state.constraint.multipliers > before.constraint.multipliers) == (learns and acts)
            if learns:
                assert not np.array_equal(
                    *(s.params.policy.params["params"]["output"]["bias"] for s in (state, before))
                )
            else:
                assert_same((state.params, state.opt_state), (start.params, start.opt_state))
    with pytest.raises(ValueError, match="it must be at least batch_size, 128"):
        sac(SMALL.replace(replay_capacity=127))


@pytest.mark.parametrize(("num_envs", "unroll_length"), [(2, 1), (7, 3), (64, 4)])
def test_the_work_per_step_is_the_same_for_any_number_of_worlds(num_envs, unroll_length):
    """A ratio of 0.15 means 15 updates in 100 steps, in whole updates after each rollout."""
    steps = num_envs * unroll_length
    numbers = jnp.arange(101, dtype=jnp.int32)
    updates = jax.vmap(lambda number: count_updates(jnp.float32(0.15 * steps), number))(numbers)
    assert_allclose(updates, np.arange(101) * steps * 0.15, atol=1.0)
    assert set(np.diff(updates)) <= {np.floor(0.15 * steps), np.ceil(0.15 * steps)}


@pytest.mark.slow
def test_what_the_replay_keeps_belongs_together():
    """The reward is the first observation, the cost the second one's sign; the actions are still uniform."""
    venv = vectorize(probe_envs.Random(), 40, stagger=True)
    state, _ = run(venv, sac(SMALL.replace(random_steps=1e6, num_target_steps=1), lagrangian()), 20)
    steps = jax.tree.map(lambda leaf: np.asarray(leaf[:3200]).reshape(80, 40, *leaf.shape[1:]), state.replay.steps)
    assert_array_equal(steps.reward, steps.obs[..., 0])
    assert_array_equal(steps.costs[..., 0], steps.obs[..., 1] > 0.0)
    goes_on = (steps.next_obs[:-1] == steps.obs[1:]).all(axis=-1)  # `next_obs` is from before the reset
    ended, timed_out = steps.terminated[:-1], ~goes_on & ~steps.terminated[:-1]
    assert not goes_on[ended].any()
    assert 0.02 < ended.mean() < 0.04 and 0.02 < timed_out.mean() < 0.06
    quantiles = np.linspace(0.1, 0.9, 9)
    assert_allclose(np.quantile(steps.action, quantiles), 2.0 * quantiles - 1.0, atol=0.08)
    assert 0.99 < np.abs(steps.action).max() <= 1.0


@pytest.mark.slow
def test_no_gradient_step_copies_the_replay():
    venv = vectorize(probe_envs.Random(), 8)
    algorithm = sac(SMALL.replace(replay_capacity=1_000_000), lagrangian())
    shapes = jax.eval_shape(partial(init, venv, algorithm), jax.random.key(0))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes.replay))
    compiled = make_chunk(partial(iterate, venv, algorithm, CONFIG)).lower(shapes, jnp.int32(1)).compile()
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes > size > 30e6  # donated
    assert memory.temp_size_in_bytes < 0.05 * size


@pytest.fixture
def small():
    venv = vectorize(probe_envs.Random(), 8, stagger=True)
    return venv, sac(SMALL.replace(random_steps=100.0, replay_capacity=150, updates_per_step=0.5), lagrangian(5.0))


def test_chunks_compile_once(small, key):
    chunk = make_chunk(partial(iterate, *small, CONFIG))
    state = jax.jit(partial(init, *small))(key)
    for num_iterations in (1, 3, 2):
        state, rows = chunk(state, jnp.int32(num_iterations))
    assert chunk._cache_size() == 1
    assert all(row.dtype == jnp.float32 and row.ndim == 1 for row in rows.values())


def test_an_interrupted_training_continues_bit_for_bit(small, key, tmp_path):
    start = partial(init, *small)
    chunk = make_chunk(partial(iterate, *small, CONFIG))
    whole, _ = chunk(jax.jit(start)(key), jnp.int32(10))
    half, _ = chunk(jax.jit(start)(key), jnp.int32(7))
    restored = checkpoint.restore(checkpoint.save(tmp_path, half), jax.eval_shape(start, key))
    resumed, _ = chunk(restored, jnp.int32(3))
    assert whole.replay.size == 150  # full, and written over
    assert_same(whole, resumed)


@pytest.mark.slow
def test_whole_trainings_vmap_over_seeds_and_settings():
    venv = vectorize(probe_envs.Random(), 8, stagger=True)

    def train_one(seed, cost_limit, random_steps):
        constraint = lagrangian(cost_limit, projected_ascent(learning_rate=0.1))
        algorithm = sac(SMALL.replace(random_steps=random_steps, updates_per_step=0.5), constraint)
        state = init(venv, algorithm, jax.random.key(seed))
        return jax.lax.scan(lambda s, _: iterate(venv, algorithm, CONFIG, s), state, length=8)[1]

    seeds, limits = jnp.array([0, 1, 1, 1]), jnp.array([5.0, 5.0, 5.0, 50.0])
    metrics = jax.jit(jax.vmap(train_one))(seeds, limits, jnp.array([0.0, 0.0, 160.0, 0.0]))
    assert metrics["cost_rate"][0, 0] != metrics["cost_rate"][1, 0]
    assert metrics["multiplier"][1, -1] > metrics["multiplier"][3, -1]
    assert_array_equal(metrics["num_updates"][:, 3], [16.0, 16.0, 0.0, 16.0])
    assert_allclose(metrics["temperature"][2, :4], 0.01, rtol=1e-6)  # others learn beside it
    assert metrics["num_updates"][2, 4] == 16.0 and abs(metrics["temperature"][2, 4] - 0.01) > 1e-5
