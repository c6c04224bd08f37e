"""N-step targets of off-policy algorithms: sums that end with an episode or an unroll."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents.off_policy import Objective, OffPolicyConfig, Step, add_ahead
from mjx_safety.agents.q_critics import init_critics, n_step_targets
from mjx_safety.agents.sac import SACConfig, sac
from mjx_safety.agents.types import OffPolicyTrainConfig
from mjx_safety.env.vector import vectorize

from . import probe_envs

T, B = 6, 2
DISCOUNT, COST_DISCOUNT = 0.9, 0.8


@pytest.fixture
def steps():
    """World 0 ends truly at its third step, world 1 at the time limit of its fifth."""
    rng = np.random.default_rng(0)
    ends = np.zeros((T, B), bool)
    ends[2, 0] = True
    step = Step(
        obs=jnp.arange(T * B, dtype=jnp.float32).reshape(T, B, 1),
        action=jnp.asarray(rng.normal(size=(T, B, 2)), jnp.float32),
        reward=jnp.asarray(rng.normal(size=(T, B)), jnp.float32),
        costs=jnp.asarray(rng.random((T, B, 3)), jnp.float32),
        next_obs=100.0 + jnp.arange(T * B, dtype=jnp.float32).reshape(T, B, 1),
        terminated=jnp.asarray(ends),
        num_steps=jnp.ones((T, B)),
    )
    return step, jnp.asarray(ends).at[4, 1].set(True)


def add(steps, n):
    config = OffPolicyTrainConfig(discount=DISCOUNT, cost_discount=COST_DISCOUNT)
    return jax.jit(lambda: add_ahead(*steps, OffPolicyConfig(num_target_steps=n), config))()


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_sums_by_hand(steps, n):
    step, done = steps
    total = add(steps, n)
    assert_array_equal(total.obs, step.obs)
    assert_array_equal(total.action, step.action)
    for t in range(T):
        for b in range(B):
            last = t
            while last + 1 < min(t + n, T) and not done[last, b]:
                last += 1
            num = last - t + 1
            assert total.num_steps[t, b] == num
            assert_allclose(total.reward[t, b], DISCOUNT ** np.arange(num) @ step.reward[t : last + 1, b], rtol=1e-5)
            costs = COST_DISCOUNT ** np.arange(num) @ step.costs[t : last + 1, b]
            assert_allclose(total.costs[t, b], costs, rtol=1e-5)
            assert total.next_obs[t, b] == step.next_obs[last, b]
            assert total.terminated[t, b] == step.terminated[last, b]


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="num_target_steps is 0; it must be a whole number of at least 1"):
        sac(SACConfig(num_target_steps=0))


def test_targets_discount_what_follows_by_the_number_of_steps(key):
    """Rows after 1 and after 3 steps."""
    critics = init_critics(SACConfig(hidden_sizes=(4,)), vectorize(probe_envs.ProbeEnv(), 1), 1, key)
    obs, action = jax.random.normal(key, (2, 3)), jnp.zeros((2, 1))
    batch = Step(obs, action, jnp.full(2, 2.0), jnp.full((2, 1), 3.0), obs, jnp.zeros(2, bool), jnp.array([1.0, 3.0]))
    config = OffPolicyTrainConfig(discount=DISCOUNT, cost_discount=COST_DISCOUNT)
    target, cost_target = n_step_targets(Objective(config, jnp.zeros(1)), critics, batch, action, 0.5)
    value = np.min(critics.rewards(obs, action), axis=0) + 0.5
    cost_value = np.maximum(np.mean(critics.costs(obs, action), axis=0), 0.0)
    assert_allclose(target, 2.0 + DISCOUNT ** np.array([1, 3]) * value, rtol=1e-5)
    assert_allclose(cost_target, 3.0 + COST_DISCOUNT ** np.array([[1], [3]]) * cost_value, rtol=1e-5)
