"""A trained policy of an off-policy algorithm averages the weights of the last gradient steps."""

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents import actor
from mjx_safety.agents.sac import SACConfig, sac
from mjx_safety.agents.td3 import TD3Config, td3
from mjx_safety.agents.train import init, iterate
from mjx_safety.agents.types import OffPolicyTrainConfig
from mjx_safety.env.vector import vectorize

from . import probe_envs

NUM_ENVS, NUM_STEPS, NUM_ITERATIONS = 4, 2, 12
ALGORITHMS = {"sac": (sac, SACConfig), "td3": (td3, TD3Config)}


def train(name, **settings):
    """One gradient step per iteration. Returns the algorithm and the parameters after each iteration [I, ...]."""
    make_algorithm, config = ALGORITHMS[name]
    small = {"hidden_sizes": (4,), "replay_capacity": 64, "batch_size": 8, "random_steps": 8.0, "policy_delay": 1}
    updates = {"updates_per_step": 1.0 / (NUM_ENVS * NUM_STEPS), "learning_rate": 0.05}
    algorithm = make_algorithm(config(**small, **updates, **settings))
    venv = vectorize(probe_envs.ProbeEnv(), NUM_ENVS)
    train_config = OffPolicyTrainConfig(unroll_length=NUM_STEPS)

    def once(state, _):
        state, _ = iterate(venv, algorithm, train_config, state)
        return state, state.params

    start = init(venv, algorithm, jax.random.key(0))
    end, params = jax.jit(lambda s: jax.lax.scan(once, s, length=NUM_ITERATIONS))(start)
    return algorithm, start, end, params


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_average_by_hand(name):
    share = 0.5
    _, start, _, params = train(name, average_share=share)
    average = start.params.average_policy
    for number in range(NUM_ITERATIONS):
        newest = jax.tree.map(lambda leaf, i=number: leaf[i], params.policy)
        rate = 1.0 / (1.0 + share * number)
        average = jax.tree.map(lambda old, new, r=rate: old + r * (new - old), average, newest)
    jax.tree.map(
        lambda expected, found: assert_allclose(found[-1], expected, atol=1e-6), average, params.average_policy
    )
    gaps = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a[-1] - b[-1])), params.average_policy, params.policy)
    assert max(jax.tree.leaves(gaps)) > 1e-3


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_average_acts_after_the_training(name):
    algorithm, _, end, _ = train(name)
    obs = jax.random.normal(jax.random.key(1), (5, probe_envs.ProbeEnv().obs_size))
    swapped = end.params.replace(policy=end.params.average_policy, average_policy=end.params.policy)
    acts = {label: algorithm.act(params, obs, None) for label, params in (("average", end.params), ("newest", swapped))}
    assert jnp.max(jnp.abs(acts["average"] - acts["newest"])) > 1e-4
    normaliser = end.normaliser.replace(mean=jnp.zeros_like(end.normaliser.mean), var=jnp.ones_like(end.normaliser.var))
    exported = algorithm.actor(end.params, normaliser)
    assert_allclose(actor.act(exported, obs), acts["average"], atol=1e-5)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_without_a_share_the_newest_policy_acts(name):
    _, _, _, params = train(name, average_share=0.0)
    jax.tree.map(assert_array_equal, params.average_policy, params.policy)
