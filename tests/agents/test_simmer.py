"""Worlds whose cost budget rises: what an episode has of it, how the controller moves it. The rest is Saute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents.catalogue import ALGORITHMS
from mjx_safety.agents.first_order import FirstOrderConfig
from mjx_safety.agents.saute import BudgetWorlds
from mjx_safety.agents.simmer import Controller, SimmerSettings, SimmerWorlds, control
from mjx_safety.agents.train import init, iterate
from mjx_safety.agents.types import TrainConfig
from mjx_safety.env.vector import vectorize

from . import probe_envs


def test_the_whole_budget_from_the_start_is_saute(key):
    """Step after step the same worlds, whatever happens in them."""
    plain = vectorize(probe_envs.CostlyTarget(), 5, stagger=True)
    saute = BudgetWorlds(plain, 4.2, unsafe_reward=-7.0)
    simmer = SimmerWorlds(plain, 4.2, SimmerSettings(unsafe_reward=-7.0, budget_start=1.0))
    assert (simmer.obs_size, simmer.num_envs, simmer.cost_names) == (saute.obs_size, 5, plain.cost_names)
    states, expected = simmer.reset(key), saute.reset(key)
    step, saute_step = jax.jit(simmer.step), jax.jit(saute.step)
    for action in jax.random.uniform(key, (45, 5, 1), minval=-1.0):
        for name in ("obs", "final_obs", "reward", "done", "partial", "episode_return", "episode_cost"):
            assert_allclose(getattr(states, name), getattr(expected, name), atol=1e-6)
        states, expected = step(states, action), saute_step(expected, action)
    assert states.controller.budget == 1.0


def test_an_episode_keeps_the_budget_that_it_began_with(key):
    """Action -0.8 costs 0.1 in each of 20 steps: 2 of a first budget of 0.25 x 10. The next one has a bit more."""
    plain = vectorize(probe_envs.CostlyTarget(), 3)
    settings = SimmerSettings(
        budget_start=0.25, budget_integral_gain=0.1, budget_proportional_gain=0.5, budget_smoothing=0.9
    )
    worlds = SimmerWorlds(plain, 10.0, settings)
    states, step, budget = worlds.reset(key), jax.jit(worlds.step), 0.25
    assert_allclose(states.obs[:, -1], 0.25)
    for number in range(1, 41):
        states = step(states, jnp.full((3, 1), -0.8))
        used = 0.01 * ((number - 1) % 20 + 1)
        assert_allclose(states.final_obs[:, -1], budget - used, atol=1e-5)
        if number == 20:
            left = 1.0 - 0.2 / 0.25  # 3 episodes end, with so much of their budgets
            budget = 0.25 + 0.1 * 3 * left + 0.5 * (1.0 - 0.9**3) * left
        if number < 40:
            assert_allclose(states.obs[:, -1], budget if number == 20 else budget - used, atol=1e-5)
    assert_allclose(worlds.report(states)["cost_budget"], 10.0 * states.obs[:, -1], rtol=1e-6)


def test_the_reward_ends_with_the_budget(key):
    """Action 0 costs 0.5 per step: a first budget of 0.25 x 10 has a rest after 4 steps, and none after 5."""
    worlds = SimmerWorlds(
        vectorize(probe_envs.CostlyTarget(), 2), 10.0, SimmerSettings(unsafe_reward=-7.0, budget_start=0.25)
    )
    states, step = worlds.reset(key), jax.jit(worlds.step)
    for number in range(1, 9):
        states = step(states, jnp.zeros((2, 1)))
        assert_array_equal(states.reward == -7.0, number >= 5)


SETTINGS = SimmerSettings(
    budget_start=0.2, budget_integral_gain=0.1, budget_proportional_gain=0.5, budget_smoothing=0.9
)


def test_control_by_hand():
    """Two episodes count, one of which overdraws its budget by more than it was."""
    start = Controller(*map(jnp.float32, (0.5, 0.1, 0.55)))
    found = control(SETTINGS, start, jnp.array([0.6, -5.0, 0.9]), jnp.array([True, True, False]))
    integral, smoothed_rest = 0.5 + 0.1 * (0.6 - 1.0), 0.81 * 0.1 + 0.19 * (0.6 - 1.0) / 2.0
    expected = (integral, smoothed_rest, integral + 0.5 * smoothed_rest)
    assert_allclose(jax.tree.leaves(found), expected, rtol=1e-6)
    for rest, ended in ((0.6, False), (jnp.nan, True)):
        same = control(SETTINGS, start, jnp.full(3, rest), jnp.full(3, ended))
        assert_allclose(jax.tree.leaves(same), [0.5, 0.1, 0.55], rtol=1e-6)


@pytest.mark.parametrize(("rest", "end"), [(1.0, 1.0), (-1.0, 0.2)])
def test_the_budget_stays_between_its_start_and_the_limit(rest, end):
    """And leaves either end at once: nothing winds up."""
    state = Controller(*map(jnp.float32, (0.5, 0.0, 0.5)))
    for _ in range(40):
        state = control(SETTINGS, state, jnp.full(4, rest), jnp.full(4, True))
    assert_allclose([state.integral, state.budget], end)
    for _ in range(4):
        state = control(SETTINGS, state, jnp.full(4, -rest), jnp.full(4, True))
    assert abs(state.budget - end) > 0.3


@pytest.mark.parametrize("name", ["ppo-simmer", pytest.param("trpo-simmer", marks=pytest.mark.slow)])
def test_the_budget_rises_once_it_is_kept(name):
    """A limit of 15, from a budget of 10.8 on. What is learned in the end is as under Saute: cost and return near 15.

    The cost first overdraws the budget, which therefore waits, until the policy keeps it.
    """
    choice = ALGORITHMS[name]
    settings = choice.constraint(unsafe_reward=-4.0, budget_start=0.72)
    worlds = choice.worlds(vectorize(probe_envs.CostlyTarget(), 64, stagger=True), settings, 15.0)
    config = choice.config(
        hidden_sizes=(16,), num_minibatches=4, num_critic_passes=2, critic_learning_rate=1e-2, init_log_std=-1.5
    )
    if isinstance(config, FirstOrderConfig):
        config = config.replace(num_passes=4, learning_rate=3e-3, target_kl=0.02, entropy_coef=0.0)
    algorithm = choice.build(config, settings, 15.0)

    @jax.jit
    def trained(key):
        state = init(worlds, algorithm, key)
        return jax.lax.scan(
            lambda s, _: iterate(worlds, algorithm, TrainConfig(unroll_length=16), s), state, length=400
        )

    _, metrics = trained(jax.random.key(0))
    budget, cost = metrics["cost_budget"], metrics["episode_cost"]
    assert_allclose([np.min(budget), np.max(budget)], [10.8, 15.0], rtol=1e-5)
    risen = int(np.argmax(budget > 14.9))
    assert 50 < risen < 300 and np.max(cost) < 15.0
    assert_allclose(budget[-100:], 15.0)
    assert 12.5 < cost[-100:].mean() < 15.2
    assert metrics["episode_return"][-100:].mean() > 9.0
    assert_allclose(metrics["multiplier"], 0.0)


def test_rewards_that_are_whole_numbers_can_be_replaced(key):
    """The unsafe reward is none, so the reward to learn from is a float in every step, the first state included."""

    class Whole(probe_envs.CostlyTarget):
        def reset(self, key):
            return super().reset(key).replace(reward=jnp.int32(0))

        def outcome(self, state, action, key):
            return jnp.int32(2), jnp.float32(1.0)

    worlds = SimmerWorlds(vectorize(Whole(), 2), 4.0, SimmerSettings(unsafe_reward=-0.5, budget_start=0.5))
    actions = jnp.zeros((4, 2, 1))
    start = worlds.reset(key)
    _, rewards = jax.jit(lambda: jax.lax.scan(lambda s, a: ((n := worlds.step(s, a)), n.reward), start, actions))()
    assert_array_equal(rewards[:, 0], [2.0, -0.5, -0.5, -0.5])
