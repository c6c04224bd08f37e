"""Worlds with a cost budget: what is left of it, what a step then earns, what stays, and that PPO keeps the budget."""

import jax
import jax.numpy as jnp
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents.ppo import PPOConfig, ppo
from mjx_safety.agents.saute import BudgetWorlds, SauteSettings
from mjx_safety.agents.train import init, iterate
from mjx_safety.agents.types import TrainConfig
from mjx_safety.env.vector import vectorize

from . import probe_envs


def test_the_budget_shrinks_by_the_cost_and_comes_back_with_a_new_episode(key):
    """Action 0 costs 0.5 in each of 20 steps. A budget of 4.2 has a rest of 0.05 after 8 steps, and none after 9."""
    plain = vectorize(probe_envs.CostlyTarget(), 3)
    worlds = BudgetWorlds(plain, 4.2, unsafe_reward=-7.0)
    assert worlds.obs_size == plain.obs_size + 1 and worlds.num_envs == 3
    states, expected = worlds.reset(key), plain.reset(key)
    assert_array_equal(states.obs, jnp.concatenate([expected.obs, jnp.ones((3, 1))], axis=1))
    step, plain_step = jax.jit(worlds.step), jax.jit(plain.step)
    for number in range(1, 26):
        states, expected = step(states, jnp.zeros((3, 1))), plain_step(expected, jnp.zeros((3, 1)))
        used = 0.5 * ((number - 1) % 20 + 1)
        assert_allclose(states.final_obs[:, -1], 1.0 - used / 4.2, atol=1e-5)
        assert_allclose(states.obs[:, -1], 1.0 if number == 20 else 1.0 - used / 4.2, atol=1e-5)
        assert_array_equal(states.obs[:, :-1], expected.obs)
        assert_array_equal(states.reward, expected.reward if used < 4.2 else jnp.full(3, -7.0))
        for name in ("cost", "done", "episode_return", "episode_cost", "episode_length", "partial"):
            assert_array_equal(getattr(states, name), getattr(expected, name))


def test_ppo_keeps_the_budget_in_every_episode():
    """A limit of 15: the best constant action, 0.5, uses it up and returns 15. What explores needs some room."""
    worlds = BudgetWorlds(vectorize(probe_envs.CostlyTarget(), 64, stagger=True), 15.0, unsafe_reward=-2.0)
    config = PPOConfig(
        hidden_sizes=(16,), num_minibatches=4, num_passes=4, num_critic_passes=2, learning_rate=3e-3, target_kl=0.02,
        critic_learning_rate=1e-2, init_log_std=-1.5, entropy_coef=0.0,
    )  # fmt: skip
    algorithm = ppo(config, SauteSettings().build(15.0))

    @jax.jit
    def trained(key):
        state = init(worlds, algorithm, key)
        return jax.lax.scan(
            lambda s, _: iterate(worlds, algorithm, TrainConfig(unroll_length=16), s), state, length=400
        )

    _, metrics = trained(jax.random.key(0))
    assert 12.5 < metrics["episode_cost"][-100:].mean() < 15.2
    assert metrics["episode_return"][-100:].mean() > 12.5
    assert_allclose(metrics["multiplier"], 0.0)
