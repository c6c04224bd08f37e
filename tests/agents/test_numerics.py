"""Known answers: returns, distributions, surrogates, normaliser, estimator of the episode cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents import distributions, episode_cost, optimize, returns, running_stats, surrogates
from mjx_safety.agents.evaluate import Episodes, summarise
from mjx_safety.agents.on_policy import make_batch
from mjx_safety.agents.types import Costs, EpisodeSums, Gaussian, TrainConfig, Trajectory

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


def test_gae_of_a_batch_without_vmap_is_refused():
    column = REWARD[:, None]
    with pytest.raises(ValueError, match=r"arrays \[T\] of one trajectory, got \(4,\), \(4, 1\)"):
        returns.gae(REWARD, column, NEXT_VALUE, NEVER, NEVER, 0.99, 0.95)


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


def test_a_bounded_log_std_keeps_its_gradient_outside_the_range():
    raw = jnp.array([-9.0, -1.0, 4.0])
    assert_array_equal(distributions.bound_log_std(raw, -5.0, 2.0), [-5.0, -1.0, 2.0])
    assert_array_equal(jax.grad(lambda raw: jnp.sum(distributions.bound_log_std(raw, -5.0, 2.0)))(raw), jnp.ones(3))


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


def test_advantages_are_standardised(key):
    standard = returns.standardise(3.0 + 2.0 * jax.random.normal(key, (20, 10)))
    assert_allclose([standard.mean(), standard.std()], [0.0, 1.0], atol=1e-5)


def test_cost_advantages_are_centred_each_on_its_own_and_keep_their_unit(key):
    costs = 3.0 + jax.random.normal(key, (20, 10, 2)) * jnp.array([[[1.0, 10.0]]])
    centred = returns.centre(costs)
    assert_allclose(centred.mean(axis=(0, 1)), [0.0, 0.0], atol=1e-4)
    assert_allclose(centred.std(axis=(0, 1)), costs.std(axis=(0, 1)), rtol=1e-5)


def test_a_batch_estimates_every_world_and_every_cost_on_its_own(key):
    """Advantages of 12 steps of 3 worlds are those of `gae` world by world; costs keep their unit, rewards do not."""
    keys = iter(jax.random.split(key, 12))
    draw = lambda *shape: jax.random.normal(next(keys), (12, 3, *shape))  # noqa: E731
    ends = jax.random.uniform(next(keys), (2, 12, 3)) < 0.1
    t = Trajectory(
        obs=draw(2),
        action=draw(1),
        log_prob=draw(),
        mean=draw(1),
        log_std=draw(1),
        reward=draw(),
        costs=draw(2) * jnp.array([[[1.0, 10.0]]]),
        terminated=ends[0],
        truncated=ends[1],
        value=draw(),
        next_value=draw(),
        cost_values=draw(2),
        next_cost_values=draw(2),
    )
    config = TrainConfig(discount=0.9, gae_lambda=0.8, cost_discount=0.7, cost_gae_lambda=0.6)
    batch = make_batch(t, running_stats.init(2), config)

    def by_world(signal, value, next_value, *settings):
        worlds = [returns.gae(signal[:, b], value[:, b], next_value[:, b], *ends[:, :, b], *settings) for b in range(3)]
        return (np.concatenate(x) for x in zip(*worlds, strict=True))

    advantage, target = by_world(t.reward, t.value, t.next_value, 0.9, 0.8)
    assert_allclose(batch.advantage, (advantage - advantage.mean()) / advantage.std(), atol=1e-5)
    assert_allclose(batch.value_target, target, rtol=1e-5)
    for k in range(2):
        signals = (x[..., k] for x in (t.costs, t.cost_values, t.next_cost_values))
        advantage, target = by_world(*signals, 0.7, 0.6)
        assert_allclose(batch.cost_advantages[:, k], advantage - advantage.mean(), atol=1e-4)
        assert_allclose(batch.cost_value_targets[:, k], target, rtol=1e-5)
    assert_array_equal(batch.action, t.action.swapaxes(0, 1).reshape(36, 1))  # world after world


RATIO = jnp.array([0.5, 1.0, 1.5])


@pytest.mark.parametrize(("advantage", "terms"), [(2.0, [-1.0, 0.0, 0.4]), (-2.0, [0.4, 0.0, -1.0])])
def test_reward_is_clipped_on_its_pessimistic_side(advantage, terms):
    clipped = surrogates.clipped_surrogate(RATIO, jnp.full(3, advantage), 0.2)
    assert_allclose(clipped, np.mean(terms), rtol=1e-6)
    assert_allclose(surrogates.surrogate(RATIO + 0.1, jnp.full(3, advantage)), 0.1 * advantage, rtol=1e-6)


def test_costs_are_clipped_on_theirs_each_on_its_own():
    costs = jnp.array([[2.0, -2.0]] * 3)
    assert_allclose(
        surrogates.clipped_cost_surrogates(RATIO, costs, 0.2),
        [np.mean([-0.4, 0.0, 1.0]), np.mean([1.0, 0.0, -0.4])],
        rtol=1e-6,
    )
    assert_allclose(surrogates.cost_surrogates(RATIO + 0.1, costs), [0.2, -0.2], rtol=1e-6)
    assert_allclose(surrogates.clipped_share(RATIO, 0.2), 2.0 / 3.0)


def test_where_a_policy_has_not_moved_nothing_is_gained(key):
    """Whatever the samples' mean advantage, exactly."""
    still, advantages = jnp.ones(64), 3.0 + jax.random.normal(key, (64, 2))
    assert surrogates.surrogate(still, advantages[:, 0]) == 0.0
    assert surrogates.clipped_surrogate(still, advantages[:, 0], 0.2) == 0.0
    assert_array_equal(surrogates.cost_surrogates(still, advantages), [0.0, 0.0])
    assert_array_equal(surrogates.clipped_cost_surrogates(still, advantages, 0.2), [0.0, 0.0])


def costs_of(pair):
    return Costs(jnp.float32(pair[0]), jnp.array(pair[1:], jnp.float32))


def pair_of(costs):
    return [costs.total, *costs.sources]


def rollout_sums(cost_rates, num=0, episode_costs=(0.0, 0.0), length=1000):
    """One rollout of a world with one source of cost. Costs: the total, then the source's steps."""
    return EpisodeSums(
        reward_rate=jnp.float32(0.5),
        cost_rates=costs_of(cost_rates),
        num_completed=jnp.float32(num),
        episode_return=jnp.float32(300.0 * num),
        episode_costs=costs_of(episode_costs),
        episode_goals=jnp.float32(2.0 * num),
        episode_length=jnp.float32(length * num),
    )


def test_estimate_without_completed_episodes_is_the_smoothed_rate():
    estimate = episode_cost.update(episode_cost.init(1000, 1), rollout_sums([0.06, 0.1]), 0.8, 1000)
    assert_allclose(
        [pair_of(estimate.rate_costs), pair_of(episode_cost.from_completed(estimate))], [[60.0, 100.0]] * 2, rtol=1e-6
    )
    estimate = episode_cost.update(estimate, rollout_sums([0.01, 0.1]), 0.8, 1000)
    assert_allclose(
        [pair_of(estimate.rate_costs), pair_of(episode_cost.from_completed(estimate))], [[50.0, 100.0]] * 2, rtol=1e-6
    )
    assert not estimate.has_completed and estimate.rate_return == 500.0


def test_estimate_carries_completed_episodes_over():
    estimate = episode_cost.update(episode_cost.init(1000, 1), rollout_sums([0.06, 0.1], 2, (80.0, 120.0)), 0.8, 1000)
    estimate = episode_cost.update(estimate, rollout_sums([0.0, 0.0]), 0.8, 1000)
    assert estimate.has_completed
    assert_allclose(pair_of(episode_cost.from_completed(estimate)), [40.0, 60.0])
    assert (estimate.completed_return, estimate.completed_goals) == (300.0, 2.0)


def test_estimate_of_the_rate_follows_the_length_of_episodes_that_ended():
    """Episodes that end after 100 of 1000 steps cost 100 times the rate."""
    estimate = episode_cost.update(episode_cost.init(1000, 1), rollout_sums([0.06, 0.1], 2, length=100), 0.8, 1000)
    assert_allclose(pair_of(estimate.rate_costs), [6.0, 10.0], rtol=1e-6)
    assert estimate.mean_length == 100.0 and estimate.rate_return == 50.0


def test_the_smoothed_rate_begins_where_the_worlds_stand_for_whole_episodes():
    """Not with the young worlds of the first rollouts, which cost too little: they leave no trace in it."""
    estimate = episode_cost.init(1000, 1)
    for rate in (0.01, 0.02):
        estimate = episode_cost.update(estimate, rollout_sums([rate, rate]), 0.8, 400)
        assert_allclose(pair_of(estimate.rate_costs), 1000.0 * rate, rtol=1e-6)
        assert not estimate.has_rate
    estimate = episode_cost.update(estimate, rollout_sums([0.05, 0.05]), 0.8, 500)
    assert_allclose(pair_of(estimate.rate_costs), 50.0, rtol=1e-6)
    assert estimate.has_rate


def test_before_a_whole_episode_has_passed_early_ends_do_not_stand_for_all():
    """One of 16384 steps ended an episode after 120 steps. The others go on, up to their limit of 1000."""
    sums = rollout_sums([0.05, 0.05], 1, (6.0, 6.0), length=120).replace(termination_rate=jnp.float32(1 / 16384))
    estimate = episode_cost.update(episode_cost.init(1000, 1), sums, 0.8, 500)
    assert_allclose(pair_of(estimate.rate_costs), 0.05 * 16384 * (1 - (1 - 1 / 16384) ** 1000), rtol=1e-4)
    assert_allclose(pair_of(episode_cost.from_completed(estimate)), pair_of(estimate.rate_costs))
    estimate = episode_cost.update(estimate, sums, 0.8, 1000)
    assert estimate.mean_length == 120.0
    assert_allclose(pair_of(episode_cost.from_completed(estimate)), [6.0, 6.0])


@pytest.mark.parametrize("rate", [0.0, 1e-12, 1e-9, 0.9e-7, 1.1e-7, 1e-6, 1e-3, 0.5, 1.0])
def test_the_expected_length_is_that_of_a_constant_chance_to_end(rate):
    survival = (1.0 - rate) ** np.arange(1000)  # probability that step t is taken
    found = episode_cost.expected_length(jnp.float32(rate), jnp.float32(1000.0))
    assert_allclose(found, survival.sum(), rtol=1e-3)


def test_a_rollout_that_is_not_finite_leaves_the_estimate_alone():
    before = episode_cost.update(episode_cost.init(1000, 1), rollout_sums([0.06, 0.1]), 0.8, 1000)
    after = episode_cost.update(before, rollout_sums([jnp.nan, 0.1]), 0.8, 1000)
    jax.tree.map(assert_array_equal, after, before)


def test_running_stats_leave_out_what_is_not_finite():
    before = running_stats.merge(running_stats.init(2), jnp.arange(8.0).reshape(4, 2))
    after = running_stats.merge(before, jnp.array([[1.0, jnp.nan], [2.0, 3.0]]))
    jax.tree.map(assert_array_equal, after, before)


def test_summaries_take_what_evaluate_returns():
    ones, steps = jnp.ones((2, 1)), jnp.full(2, 20, jnp.int32)
    episodes = Episodes(jnp.array([1.0, 3.0]), jnp.array([0.0, 30.0]), ones, ones, steps, steps, steps)
    summary = summarise(episodes, 25.0, ("probe",))
    assert (summary["episode_return_mean"], summary["over_limit_share"], summary["cost_rate"]) == (2.0, 0.5, 0.75)


@pytest.mark.parametrize(
    ("num_samples", "num_minibatches", "left_out"), [(96, 3, 0), (64, 1, 0), (50, 4, 2), (7, 2, 1)]
)
def test_minibatches_take_as_much_of_every_part_of_a_batch(key, num_samples, num_minibatches, left_out):
    batch = {"sample": jnp.arange(num_samples), "twice": jnp.stack([jnp.arange(num_samples)] * 2, axis=1)}
    pieces = optimize.split_minibatches(batch, key, num_minibatches)
    assert pieces["sample"].shape == (num_minibatches, num_samples // num_minibatches)
    taken = np.unique(pieces["sample"])
    assert len(taken) == num_samples - left_out  # each sample once
    assert_array_equal(pieces["twice"], np.stack([pieces["sample"]] * 2, axis=-1))
    if num_samples == 96:  # 16 parts of 6 samples, two of them in each minibatch
        assert_array_equal(np.sort(pieces["sample"] // 6, axis=1), np.tile(np.repeat(np.arange(16), 2), (3, 1)))


@pytest.mark.parametrize("num", [1, 2, 1000, 1024])
def test_shuffled_indices_are_a_permutation(key, num):
    order = optimize.shuffled_indices(key, num)
    assert_allclose(np.sort(order), np.arange(num))
    if num > 2:
        assert abs(np.corrcoef(order, np.arange(num))[0, 1]) < 0.1
