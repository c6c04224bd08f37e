"""Limits on the CVaR: the estimate, who may have one, what an update is told, and that trainings hold it."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents import risk
from mjx_safety.agents.catalogue import ALGORITHMS
from mjx_safety.agents.constraints import lagrangian
from mjx_safety.agents.evaluate import cvar
from mjx_safety.agents.on_policy import on_policy
from mjx_safety.agents.quantile_critic import NUM_QUANTILES, make_quantile_networks
from mjx_safety.agents.sac import SACConfig, sac
from mjx_safety.agents.train import init, iterate
from mjx_safety.agents.types import TrainConfig
from mjx_safety.env.vector import vectorize

from . import probe_envs
from .test_constrained_optimum import learner, trained

CIRCLES = "ppo-lag-softplus"  # around its limit, with Adam's steps and the lag of the estimate
ABLE = [name for name, choice in ALGORITHMS.items() if choice.limits_risk]


@pytest.mark.parametrize(
    ("level", "num", "expected"),
    [
        (0.0, None, 5.5),
        (0.8, None, 9.5),
        (0.75, None, (10.0 + 9.0 + 0.5 * 8.0) / 2.5),  # a share may cut an episode in two
        (0.95, None, 10.0),  # less than one episode
        (0.5, 4, 8.5),  # of 3, 10, 1, 7
        (0.9, 0, 0.0),
    ],
)
def test_cvar_by_hand(level, num, expected):
    values = jnp.array([3.0, 10.0, 1.0, 7.0, 2.0, 9.0, 4.0, 8.0, 5.0, 6.0])
    assert_allclose(risk.cvar(values, level, None if num is None else jnp.int32(num)), expected, rtol=1e-6)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 0.97])
def test_cvar_is_that_of_evaluations(level, key):
    values = jax.random.exponential(key, (3, 100))
    expected = [cvar(np.asarray(row, np.float64), 1.0 - level) for row in values]
    assert_allclose(risk.cvar(values, level), expected, rtol=1e-5)


def test_the_newest_episodes_are_remembered():
    """Rollouts with none to all of 40 worlds' episodes ending, against a list."""
    rng, recent, expected = np.random.default_rng(0), risk.init(2), []
    remember = jax.jit(risk.remember)
    for chance in (0.0, 0.02, 0.1, 0.0, 0.2, 1.0, 0.05):
        ended, costs = rng.random((5, 40)) < chance, rng.random((5, 40, 2)).astype(np.float32)
        if chance == 0.2:
            costs[ended] = np.nan  # not finite: left out
        recent = remember(recent, jnp.array(ended), jnp.array(costs))
        expected = [c for c in costs[ended][::-1] if np.all(np.isfinite(c))] + expected
        expected = expected[: risk.MEMORY]
        assert recent.num == len(expected)
        assert_array_equal(recent.costs[: recent.num], np.array(expected).reshape(-1, 2))
        for k in range(2):
            value = risk.cvar(jnp.array(expected).reshape(-1, 2)[:, k], 0.9) if expected else 0.0
            assert_allclose(risk.estimate(recent, 0.9)[k], value, rtol=1e-5)


def test_the_estimate_is_known_once_the_worst_share_is_an_episode():
    for level, least in ((0.5, 2), (0.9, 10), (0.99, 100)):
        known = [bool(risk.is_known(risk.init(1).replace(num=jnp.int32(n)), level)) for n in (least - 1, least)]
        assert known == [False, True]


def test_levels_and_algorithms_that_are_refused():
    for level in (-0.1, 0.995, 1.0, float("nan")):
        with pytest.raises(ValueError, match=f"risk_level is {level}; it must lie between 0 and 0.99"):
            risk.limit_cvar(lagrangian(25.0), level)
    with pytest.raises(ValueError, match="off-policy algorithms only limit the mean"):
        sac(SACConfig(), risk.limit_cvar(lagrangian(25.0), 0.9))
    assert set(ABLE) == {"ppo-lag", "ppo-lag-adam", "ppo-lag-softplus", "ppo-pid", "trpo-lag", "trpo-pid"}


def test_what_an_update_is_told():
    """Nothing before ten whole episodes have ended; then the CVaR less the limit, per step of an episode."""
    constraint = risk.limit_cvar(lagrangian({"seldom": 1.0, "often": 10.0}), 0.9)
    networks = make_quantile_networks((4,), -0.5, 2)

    def update(state, batch, status, key):
        return state, {"told_seldom": status.violations[0], "told_often": status.violations[1]}

    algorithm = on_policy(networks, constraint, lambda params: (), update)
    venv = vectorize(probe_envs.TwoCosts(), 16, stagger=True)
    step = jax.jit(partial(iterate, venv, algorithm, TrainConfig(unroll_length=5)))
    state = init(venv, algorithm, jax.random.key(0))
    for _ in range(12):
        state, metrics = step(state)
        num = state.recent_costs.num
        assert metrics["limit_acts"] == (num >= 10)
        worst = [risk.cvar(state.recent_costs.costs[:, k], 0.9, num) for k in range(2)]
        assert_allclose([metrics["cost_cvar_seldom"], metrics["cost_cvar_often"]], worst, rtol=1e-6)
        told = [metrics["told_seldom"], metrics["told_often"]]
        expected = (np.array(worst) - [1.0, 10.0]) / 20.0 if num >= 10 else [-np.inf, -np.inf]
        if state.num_rollouts > 1:  # the first rollout teaches nothing
            assert_allclose(told, expected, rtol=1e-4, atol=1e-5)
    assert num > 30 and metrics["multiplier_seldom"] > 0.0
    assert metrics["violation"] == max(np.array(worst) - np.array([1.0, 10.0]))


@pytest.mark.parametrize("name", ABLE)
def test_every_algorithm_takes_several_limits(name):
    """By shapes alone, and without a level nothing of it is there."""
    venv = vectorize(probe_envs.TwoCosts(), 4)
    for level in (0.0, 0.9):
        algorithm = learner(name, {"often": 15.0, "seldom": 5.0}, level)
        state = jax.eval_shape(partial(init, venv, algorithm), jax.random.key(0))
        after, metrics = jax.eval_shape(partial(iterate, venv, algorithm, TrainConfig(unroll_length=4)), state)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        assert ({"cost_cvar_often", "cost_cvar_seldom"} <= set(metrics)) == (level > 0.0)
        assert any("cvar" in column for column in metrics) == (level > 0.0)
        assert all(value.shape == () and value.dtype == jnp.float32 for value in metrics.values())
        assert (state.recent_costs != ()) == (level > 0.0)
        width = jax.tree.leaves(state.params.cost_values)[-1].shape[-1]
        assert width == (2 * NUM_QUANTILES if level else 2)


def cvar_of_gamble(action, level=0.9):
    """CVaR of the cost of an episode of `Gamble` at one action: 10 times a binomial number."""
    p, left, total = (action + 1.0) / 20.0, 1.0 - level, 0.0
    for n in range(20, -1, -1):
        chance = min(math.comb(20, n) * p**n * (1.0 - p) ** (20 - n), left)
        left, total = left - chance, total + chance * 10.0 * n
    return total / (1.0 - level)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ABLE if name != CIRCLES])
def test_constrained_optimum(name):
    """A limit on the CVaR of `Gamble` that action 0 meets, at a mean cost of 10, a third of it.

    The estimate lags by 128 episodes. Adam's steps do not shrink near the limit, so a fast one would circle around it.
    So it starts near the multiplier it ends at, 0.9, and takes small steps.
    """
    limit = cvar_of_gamble(0.0)
    assert 29.0 < limit < 30.0
    slow = {"multiplier_learning_rate": 0.001, "multiplier_init": 0.8} if name == "ppo-lag-adam" else {}
    num_iterations = 1000 if name in ("ppo-lag-adam", "trpo-pid") else 600
    venv = vectorize(probe_envs.Gamble(), 64, stagger=True)
    metrics, action = trained(venv, learner(name, limit, 0.9, **slow), num_iterations)
    half = num_iterations // 2
    assert_allclose(np.mean(10.0 * (np.asarray(action, np.float64)[half:] + 1.0)), 10.0, rtol=0.1)
    assert_allclose(np.mean(metrics["cost_cvar"][half:]), limit, rtol=0.05)
    assert_allclose(np.mean(metrics["episode_cost"][half:]), 10.0, rtol=0.1)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["ppo-lag", pytest.param("trpo-lag", marks=pytest.mark.slow)])
def test_the_worst_share_and_not_the_mean_is_lowered(name):
    """Under a limit of nothing. A bet costs 0.8 on average, and 8 in its worst tenth; no bet always costs 1."""
    venv = vectorize(probe_envs.Bet(episode_length=1), 64, stagger=True)
    _, by_mean = trained(venv, learner(name, 0.0), 200)
    _, by_cvar = trained(venv, learner(name, 0.0, 0.9), 200)
    assert np.mean(by_mean[-20:]) > 0.7
    assert np.mean(by_cvar[-20:]) < -0.9
