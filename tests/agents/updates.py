"""One update of an algorithm, on one batch with known advantages and a given distance from the limits."""

import functools
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

from mjx_safety.agents import distributions, first_order, second_order
from mjx_safety.agents.catalogue import ALGORITHMS
from mjx_safety.agents.first_order import FirstOrderConfig
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.types import Batch

from . import probe_envs

NUM_SAMPLES = 256


def build(name, limit=25.0, **settings):
    """An algorithm of the catalogue with a small network."""
    choice = ALGORITHMS[name]
    config = choice.config(hidden_sizes=(8,), num_minibatches=4, num_critic_passes=2, critic_learning_rate=1e-2)
    if isinstance(config, FirstOrderConfig):
        config = config.replace(num_passes=4, learning_rate=3e-3, target_kl=0.02)
    return choice.build(config.replace(**settings), choice.constraint(), limit)


def update_of(name, limit=25.0, **settings):
    """Networks of an on-policy algorithm, and its update on one batch: what its file hands to `on_policy`."""

    def parts(networks, constraint, init_optimizers, update):
        return networks, update

    with mock.patch.object(first_order, "on_policy", parts), mock.patch.object(second_order, "on_policy", parts):
        return build(name, limit, **settings)


class Updates:
    """One update of an algorithm on one batch of 256 samples, compiled once for all standings and advantages."""

    def __init__(self, name, limit=25.0, **settings):
        self.algorithm = build(name, limit, **settings)
        self.constraint = self.algorithm.constraint
        self.networks, update = update_of(name, limit, **settings)
        sizes = probe_envs.Target(obs_size=3, action_size=2)
        self.state = self.algorithm.init(sizes, jax.random.key(0))
        self.update = jax.jit(update)

    @functools.cached_property
    def batch(self):
        """Both actions raise the reward, the first one alone the cost. Costs: [M, K]."""
        obs_key, action_key, noise_key, cost_key, value_key = jax.random.split(jax.random.key(1), 5)
        obs = jax.random.normal(obs_key, (NUM_SAMPLES, 3))
        dist = self.networks.policy(self.state.params.policy, obs)
        noise = jax.random.normal(action_key, (NUM_SAMPLES, 2))
        action = distributions.sample(dist, noise)
        advantage = noise[:, 0] + noise[:, 1] + jax.random.normal(noise_key, (NUM_SAMPLES,))
        scatter = jax.random.normal(cost_key, (NUM_SAMPLES, self.constraint.num_costs))
        costs = 0.3 * noise[:, :1] + 0.1 * scatter
        return Batch(
            obs=obs,
            action=action,
            log_prob=distributions.log_prob(dist, action),
            mean=dist.mean,
            log_std=dist.log_std,
            advantage=(advantage - advantage.mean()) / advantage.std(),
            cost_advantages=costs - costs.mean(axis=0),
            value_target=jax.random.normal(value_key, (NUM_SAMPLES,)),
            cost_value_targets=jnp.zeros_like(costs),
        )

    def __call__(self, multiplier=0.0, violation=-jnp.inf, progress=0.0, **changes):
        """The new parameters and the metrics. changes: of the batch."""
        one = jnp.ones(self.constraint.num_costs)
        horizon = jnp.float32(3.97)
        status = CostStatus(multiplier * one, violation * one, cost_horizon=horizon, progress=jnp.float32(progress))
        state, metrics = self.update(self.state, self.batch.replace(**changes), status, jax.random.key(2))
        return state.params, metrics

    def gain(self, params, advantage):
        """Mean advantage of the new policy, importance-weighted, in float64. advantage: [M]."""
        dist = self.networks.policy(params.policy, self.batch.obs)
        log_ratio = np.asarray(distributions.log_prob(dist, self.batch.action) - self.batch.log_prob, np.float64)
        return np.mean(np.exp(log_ratio) * np.asarray(advantage, np.float64))

    def kl(self, params):
        """KL(old || new) by the textbook, in float64."""
        new = self.networks.policy(params.policy, self.batch.obs)
        old_mean, old_std, new_mean, new_std = (
            np.asarray(x, np.float64)
            for x in (self.batch.mean, jnp.exp(self.batch.log_std), new.mean, jnp.exp(new.log_std))
        )
        each = np.log(new_std / old_std) + (old_std**2 + (old_mean - new_mean) ** 2) / (2.0 * new_std**2) - 0.5
        return each.sum(axis=1).mean()


updates = functools.cache(Updates)


def assert_close(actual, expected):
    jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-6), actual, expected)


class ManySamples(Updates):
    """Costs as in PointGoal1: 16384 samples, rare and large advantages, standard deviation 3.8, of no direction."""

    @functools.cached_property
    def batch(self):
        tile = lambda leaf: jnp.tile(leaf, (64, *[1] * (leaf.ndim - 1)))  # noqa: E731
        batch = jax.tree.map(tile, super().batch)
        costs = jnp.where(jax.random.uniform(jax.random.key(5), (16384, 1)) < 0.05, 17.4, 0.0)
        return batch.replace(cost_advantages=costs - costs.mean(axis=0))
