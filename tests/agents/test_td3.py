"""TD3 on tiny worlds. What it shares with SAC, the replay and the iteration, is tested there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents.constraints import lagrangian, projected_ascent, unconstrained
from mjx_safety.agents.evaluate import evaluate
from mjx_safety.agents.off_policy import Objective, Step
from mjx_safety.agents.td3 import TD3Config, make_targets, td3
from mjx_safety.agents.train import init, iterate
from mjx_safety.agents.types import OffPolicyTrainConfig
from mjx_safety.env.vector import vectorize

from . import probe_envs

pytestmark = pytest.mark.usefixtures("strict_ranks")

SMALL = TD3Config(
    hidden_sizes=(32, 32),
    replay_capacity=20_000,
    batch_size=128,
    updates_per_step=0.0625,
    policy_delay=2,
    learning_rate=3e-3,
    critic_learning_rate=3e-3,
    tau=0.02,
    random_steps=1000.0,
)
CONFIG = OffPolicyTrainConfig(unroll_length=4, discount=0.9, cost_discount=0.9, cost_smoothing=0.5)


def run(venv, algorithm, num_iterations):
    """Train and return the final state and the metrics as columns."""

    @jax.jit
    def whole(key):
        state = init(venv, algorithm, key)
        return jax.lax.scan(lambda s, _: iterate(venv, algorithm, CONFIG, s), state, length=num_iterations)

    return whole(jax.random.key(0))


def test_targets_are_at_the_target_policys_action_with_clipped_noise(key):
    """Row 1 ends truly. The noise of standard deviation 100 is clipped to 0.5, on either side."""
    config = SMALL.replace(target_noise=100.0)
    params = td3(config).init(probe_envs.ProbeEnv(), key).params
    row = Step(jnp.ones(3), jnp.zeros(1), jnp.float32(2.0), jnp.array([3.0]), -jnp.ones(3), jnp.bool_(False))
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), row).replace(terminated=jnp.array([False, True]))
    objective = Objective(OffPolicyTrainConfig(discount=0.7, cost_discount=0.6), jnp.zeros(1))
    target, cost_targets = make_targets(config, objective, params, batch, key)
    action = jnp.tanh(params.target_policy(batch.next_obs[0]))
    possible = [jnp.clip(action + noise, -1.0, 1.0) for noise in (-0.5, 0.5)]
    values = [jnp.min(params.target_critics.rewards(batch.next_obs[0], each)) for each in possible]
    costs = [jnp.maximum(jnp.mean(params.target_critics.costs(batch.next_obs[0], each)), 0.0) for each in possible]
    assert min(abs(target[0] - (2.0 + 0.7 * value)) for value in values) < 1e-5
    assert min(abs(cost_targets[0, 0] - (3.0 + 0.6 * cost)) for cost in costs) < 1e-5
    assert_allclose([target[1], cost_targets[1, 0]], [2.0, 3.0])


def test_the_policy_takes_every_second_step(key):
    """256 steps a rollout bring 16 updates of the critics; the first one after the random steps counts too."""
    algorithm = td3(SMALL.replace(policy_delay=1000), lagrangian())
    params = algorithm.init(probe_envs.ProbeEnv(), key).params
    state, metrics = run(vectorize(probe_envs.Target(), 64), algorithm, 8)
    assert metrics["num_updates"].tolist() == [0.0, 0.0, 0.0, 16.0, 16.0, 16.0, 16.0, 16.0]
    before, after = (jax.tree.leaves(p.policy) for p in (jax.jit(lambda: run_start(algorithm))(), state.params))
    for old, new in zip(before, after, strict=True):
        assert_array_equal(old, new)  # no number of theirs, 48 ... 127, is a multiple of 1000
    assert np.any(jax.tree.leaves(params.critics)[0] != jax.tree.leaves(state.params.critics)[0])


def run_start(algorithm):
    return init(vectorize(probe_envs.Target(), 64), algorithm, jax.random.key(0)).params


def test_an_actor_without_noise_has_a_finite_standard_deviation():
    algorithm = td3(SMALL.replace(exploration_noise=0.0), unconstrained())
    state = init(vectorize(probe_envs.Target(), 64), algorithm, jax.random.key(0))
    assert np.all(np.isfinite(algorithm.actor(state.params, state.normaliser).log_std))


@pytest.mark.slow
def test_learns_to_act_on_the_observation(key):
    state, _ = run(vectorize(probe_envs.Target(), 64, stagger=True), td3(SMALL, unconstrained()), 200)
    test = vectorize(probe_envs.Target(), 64)
    episodes = evaluate(test, td3(SMALL, unconstrained()), state.params, state.normaliser, key, sampled=False)
    assert episodes.episode_return.mean() > 19.8  # of 20; a uniform policy gets about 11


@pytest.mark.slow
def test_constrained_optimum():
    """As for SAC: cost 12 and return 7.2 at a price of 3.2. A cost that is off by 1 % moves the return by 3 %."""
    venv = vectorize(probe_envs.CostlyTarget(), 64, stagger=True)
    rule = projected_ascent(init=3.0, learning_rate=0.03)
    algorithm = td3(SMALL.replace(exploration_noise=0.05), lagrangian(12.0, rule))
    _, metrics = run(venv, algorithm, 600)
    tail = slice(-200, None)
    assert_allclose(metrics["episode_cost"][tail].mean(), 12.0, rtol=0.05)
    assert_allclose(metrics["episode_return"][tail].mean(), 7.2, rtol=0.2)
    assert_allclose(metrics["multiplier"][tail].mean(), 3.2, rtol=0.15)
