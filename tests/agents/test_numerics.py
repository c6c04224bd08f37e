"""Known answers: returns, distributions, normaliser, multipliers, estimator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from mjx_safety.agents import constraints, distributions, episode_cost, optimize, returns, running_stats
from mjx_safety.agents.types import EpisodeSums, Gaussian

pytestmark = pytest.mark.usefixtures("strict_ranks")

REWARD, VALUE, NEXT_VALUE = jnp.array([1.0, 0, 2, 1]), jnp.array([0.5, 0.4, 0.3, 0.2]), jnp.array([0.4, 0.9, 0.2, 0.6])
AT_ONE, NEVER = jnp.arange(4) == 1, jnp.zeros(4, bool)


@pytest.mark.parametrize("variant", [lambda f: f, jax.jit])
def test_gae_bootstraps_through_a_time_limit(variant):
    advantage, target = variant(returns.gae)(REWARD, VALUE, NEXT_VALUE, NEVER, AT_ONE, 0.99, 0.95)
    assert_allclose(advantage, [1.357785, 0.491, 3.209057, 1.394], atol=1e-6)
    assert_allclose(target, [1.857785, 0.891, 3.509057, 1.594], atol=1e-6)


def test_gae_stops_at_a_true_end():
    advantage, target = returns.gae(REWARD, VALUE, NEXT_VALUE, AT_ONE, NEVER, 0.99, 0.95)
    assert_allclose(advantage, [0.5198, -0.4, 3.209057, 1.394], atol=1e-6)
    assert_allclose(target, [1.0198, 0, 3.509057, 1.594], atol=1e-6)


def test_gae_termination_wins_over_truncation():
    both = returns.gae(REWARD, VALUE, NEXT_VALUE, AT_ONE, AT_ONE, 0.99, 0.95)
    assert_allclose(both, returns.gae(REWARD, VALUE, NEXT_VALUE, AT_ONE, NEVER, 0.99, 0.95))


def test_kl_of_gaussians():
    old = Gaussian(jnp.array([0.0, 0.1]), jnp.array([-0.5, -0.5]))
    new = Gaussian(jnp.array([0.05, 0.0]), jnp.array([-0.45, -0.6]))
    assert_allclose(distributions.kl(old, new), 0.0327952, atol=1e-6)
    assert_allclose(distributions.kl(new, old), 0.0289401, atol=1e-6)


def test_log_prob_integrates_to_one_and_entropy_is_its_mean():
    dist = Gaussian(jnp.array([0.3]), jnp.array([-0.5]))
    x = jnp.linspace(-6.0, 6.0, 20001)[:, None]
    log_density = distributions.log_prob(Gaussian(jnp.broadcast_to(dist.mean, x.shape), jnp.full_like(x, -0.5)), x)
    width = 12.0 / 20000
    assert_allclose(jnp.sum(jnp.exp(log_density)) * width, 1.0, atol=1e-4)
    assert_allclose(-jnp.sum(jnp.exp(log_density) * log_density) * width, distributions.entropy(dist), atol=1e-4)


def test_running_stats_agree_with_numpy(key):
    batches = [3.0 * jax.random.normal(k, (7, 5, 2)) + 10.0 for k in jax.random.split(key, 4)]
    stats = running_stats.init(2)
    for batch in batches:
        stats = running_stats.merge(stats, batch)
    data = np.concatenate(batches).reshape(-1, 2)
    assert_allclose(stats.mean, data.mean(axis=0), rtol=1e-5)
    assert_allclose(stats.var, data.var(axis=0), rtol=1e-4)
    assert running_stats.count(stats) == len(data)
    assert_allclose(
        running_stats.normalise(stats, batches[0]),
        np.clip((np.asarray(batches[0]) - data.mean(0)) / data.std(0), -5, 5),
        atol=1e-4,
    )


def test_running_stats_floor_and_clip():
    stats = running_stats.merge(running_stats.init(1), jnp.zeros((10, 1)))
    assert running_stats.normalise(stats, jnp.array([0.01])) == pytest.approx(1.0)
    assert running_stats.normalise(stats, jnp.array([1.0])) == 5.0


def test_running_stats_count_does_not_saturate():
    stats = running_stats.init(1).replace(count_low=jnp.uint32(2**32 - 4))
    stats = running_stats.merge(stats, jnp.zeros((10, 1)))
    assert (int(stats.count_high), int(stats.count_low)) == (1, 6)


COSTS = (60.0, 40.0, 20.0, 20.0, 26.0)


def multipliers(constraint, costs):
    state, values = constraint.init(), []
    for cost in costs:
        state = constraint.update(state, jnp.float32(cost))
        values.append(float(constraint.multiplier(state)))
    return state, values


def test_softplus_adam():
    constraint = constraints.lagrangian(25.0, constraints.softplus_adam())
    assert_allclose(constraint.init().raw, 0.541325, atol=1e-6)
    state, values = multipliers(constraint, COSTS)
    assert_allclose(values, [1.031895, 1.061389, 1.081557, 1.095592, 1.108001], atol=2e-6)
    assert_allclose(state.raw, 0.707197, atol=2e-6)


def test_clamped_adam():
    _, values = multipliers(constraints.lagrangian(25.0, constraints.clamped_adam()), COSTS)
    assert_allclose(values, [0.036, 0.067818, 0.089290, 0.104102, 0.117111], atol=2e-6)


def test_projected_ascent():
    rule = constraints.projected_ascent(init=0.0, learning_rate=0.01, maximum=0.4)
    _, values = multipliers(constraints.lagrangian(25.0, rule), (60.0, 60.0, 25.0, 20.0, 0.0, 0.0))
    assert_allclose(values, [0.35, 0.4, 0.4, 0.35, 0.1, 0.0], atol=1e-6)


def test_pid():
    gains = constraints.PIDGains(proportional_gain=0.1, integral_gain=0.01, derivative_gain=0.01)
    _, values = multipliers(constraints.pid_lagrangian(25.0, gains), (60.0, 55.0, 40.0, 30.0, 20.0))
    assert_allclose(values, [0.556, 1.02325, 1.249638, 1.317206, 1.228895], atol=2e-6)


def rollout_sums(cost_rate, episodes=(0, 0.0)):
    num, cost = episodes
    zero = jnp.float32(0.0)
    return EpisodeSums(
        zero, jnp.float32(cost_rate), jnp.float32(num), zero, jnp.float32(cost), zero, jnp.float32(1000 * num)
    )


def test_estimate_without_completed_episodes_is_the_smoothed_rate():
    estimate = episode_cost.update(episode_cost.init(1000), rollout_sums(0.06), 0.8)
    assert_allclose([estimate.rate_cost, episode_cost.from_completed(estimate)], 60.0)
    estimate = episode_cost.update(estimate, rollout_sums(0.01), 0.8)
    assert_allclose([estimate.rate_cost, episode_cost.from_completed(estimate)], 50.0, rtol=1e-6)
    assert not estimate.has_completed


def test_estimate_carries_completed_episodes_over():
    estimate = episode_cost.update(episode_cost.init(1000), rollout_sums(0.06, (2, 80.0)), 0.8)
    estimate = episode_cost.update(estimate, rollout_sums(0.0), 0.8)
    assert estimate.has_completed and episode_cost.from_completed(estimate) == 40.0


@pytest.mark.parametrize("num", [1, 2, 1000, 1024])
def test_shuffled_indices_are_a_permutation(key, num):
    order = optimize.shuffled_indices(key, num)
    assert_allclose(np.sort(order), np.arange(num))
    if num > 2:
        assert abs(np.corrcoef(order, np.arange(num))[0, 1]) < 0.1
