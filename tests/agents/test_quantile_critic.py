"""The cost critic of quantiles: its loss, its targets, its advantages."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents import quantile_critic, returns, risk
from mjx_safety.agents.types import TrainConfig, Trajectory

SIZE = quantile_critic.NUM_QUANTILES


def make_trajectory(costs, cost_values, next_cost_values, terminated, truncated):
    """costs: [T, B, K]; cost values: [T, B, K, N]. Everything that is not about cost is 0."""
    zero = jnp.zeros(costs.shape[:2])
    return Trajectory(
        obs=zero[..., None],
        action=zero[..., None],
        log_prob=zero,
        mean=zero[..., None],
        log_std=zero[..., None],
        reward=zero,
        costs=costs,
        terminated=terminated,
        truncated=truncated,
        value=zero,
        next_value=zero,
        cost_values=cost_values,
        next_cost_values=next_cost_values,
    )


def random_trajectory(key, shape=(6, 4, 2)):
    """With true ends and time limits. The result of a step that ends nothing is the next observation."""
    keys = jax.random.split(key, 5)
    terminated, truncated = (jax.random.bernoulli(key, 0.2, shape[:2]) for key in keys[3:])
    values, following = (jax.random.normal(key, (*shape, SIZE)) for key in keys[1:3])
    ended = (terminated | truncated).at[-1].set(True)[..., None, None]
    following = jnp.where(ended, following, jnp.roll(values, -1, axis=0))
    return make_trajectory(jax.random.uniform(keys[0], shape), values, following, terminated, truncated)


def test_the_loss_is_least_at_the_quantiles(key):
    """Of the exponential distribution: -log(1 - level)."""
    targets = jax.random.exponential(key, (4096, 1, 8))
    optimizer = optax.adam(optax.linear_schedule(0.1, 0.0, 500))

    def step(carry, _):
        quantiles, state = carry
        gradient = jax.grad(lambda q: quantile_critic.quantile_loss(jnp.tile(q, (4096, 1, 1)), targets))(quantiles)
        change, state = optimizer.update(gradient, state)
        return (optax.apply_updates(quantiles, change), state), None

    start = jnp.zeros((1, SIZE))
    (quantiles, _), _ = jax.jit(lambda q: jax.lax.scan(step, (q, optimizer.init(q)), length=500))(start)
    levels = (np.arange(SIZE) + 0.5) / SIZE
    assert_allclose(quantiles[0], -np.log(1.0 - levels), atol=0.12)
    assert_allclose(quantiles[0, :-2], -np.log(1.0 - levels[:-2]), atol=0.05)


def test_targets_by_hand(key):
    """Lambda 1 follows the trajectory to its end, lambda 0 takes the critic at once. Discount 0.5."""
    costs = jnp.array([1.0, 2.0, 4.0, 8.0])[:, None, None]
    following = jnp.arange(1.0, 5.0)[:, None, None, None] * 10.0 + jnp.arange(SIZE) / SIZE
    rest = jnp.arange(SIZE) / SIZE
    no = jnp.zeros((4, 1), bool)
    config = TrainConfig(cost_discount=0.5, cost_gae_lambda=1.0)
    t = make_trajectory(costs, following, following, no, no.at[1, 0].set(True))
    found = quantile_critic.sample_targets(t, config, key)[:, 0, 0]
    last = 8.0 + 0.5 * (40.0 + rest)
    second = 2.0 + 0.5 * (20.0 + rest)
    assert_allclose(found, jnp.stack([1.0 + 0.5 * second, second, 4.0 + 0.5 * last, last]), rtol=1e-6)
    ended = t.replace(terminated=no.at[1, 0].set(True), truncated=no)
    found = quantile_critic.sample_targets(ended, config, key)[:, 0, 0]
    assert_allclose(found[:2], [[2.0] * SIZE, [2.0] * SIZE], rtol=1e-6)
    found = quantile_critic.sample_targets(t, config.replace(cost_gae_lambda=0.0), key)
    assert_allclose(found, t.costs[..., None] + 0.5 * following, rtol=1e-6)


def test_the_mean_target_is_that_of_generalised_advantage_estimation(key):
    """Over many draws."""
    t, config = random_trajectory(key), TrainConfig(cost_discount=0.9, cost_gae_lambda=0.7)
    draw = jax.jit(jax.vmap(lambda key: quantile_critic.sample_targets(t, config, key).mean(axis=-1)))
    found = draw(jax.random.split(key, 2000)).mean(axis=0)
    value, following = t.cost_values.mean(axis=-1), t.next_cost_values.mean(axis=-1)
    for world in range(4):
        for k in range(2):
            ends = t.terminated[:, world], t.truncated[:, world]
            signals = (x[:, world, k] for x in (t.costs, value, following))
            _, target = returns.gae(*signals, *ends, 0.9, 0.7)
            assert_allclose(found[:, world, k], target, atol=0.02)


def test_advantages_weigh_what_is_worse_than_the_quantile(key):
    """One state, level 0.75, two actions: a sure cost of 2, and a bet of 8 in a quarter, else 1, that costs 2.75.

    The critic knows the bets alone: its quantile is 1, its CVaR 8. A sure 2 is better than that by 3: of the cost
    above 1, only 1 counts, four times.
    """
    values = jnp.where(jnp.arange(SIZE) < 0.75 * SIZE, 1.0, 8.0)
    costs = jnp.array([8.0, 1.0, 1.0, 1.0, 2.0])[None, :, None]
    all_values, ends = jnp.tile(values, (1, 5, 1, 1)), jnp.ones((1, 5), bool)
    t = make_trajectory(costs, all_values, all_values, ends, ~ends)
    found, targets = quantile_critic.advantages(t, TrainConfig(), 0.75, key)
    assert_array_equal(targets, jnp.tile(costs[..., None], SIZE))
    assert_allclose(found[0, :, 0], [1.0 + 4.0 * 7.0 - 8.0, -7.0, -7.0, -7.0, 1.0 + 4.0 * 1.0 - 8.0], rtol=1e-5)
    assert_allclose(found[0, :4, 0].mean(), 0.0, atol=1e-5)


def test_the_mean_advantage_of_the_own_distribution_is_nothing(key):
    """Steps that cost nothing, end nothing and lead to the same quantiles, at levels that cut a quantile in two."""
    values = jnp.tile(jax.random.exponential(key, (SIZE,)), (1, 1, 1, 1))
    no = jnp.zeros((1, 1), bool)
    t = make_trajectory(jnp.zeros((1, 1, 1)), values, values, no, no)
    for level in (0.3, 0.5, 0.9, 0.99):
        found, _ = quantile_critic.advantages(t, TrainConfig(cost_discount=1.0), level, key)
        assert_allclose(found, 0.0, atol=1e-5)
        assert risk.cvar(values, level)[0, 0, 0] > values.mean()
