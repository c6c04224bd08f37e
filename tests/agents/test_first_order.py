"""What CUP, FOCOPS, IPO and P3O promise of one update."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from mjx_safety.agents.catalogue import ALGORITHMS
from mjx_safety.agents.first_order import UpdatedPolicy
from mjx_safety.agents.ipo import slope
from mjx_safety.agents.on_policy import CostStatus
from mjx_safety.agents.types import Batch, Gaussian

from .updates import ManySamples, Updates, assert_close, update_of, updates


def test_cup_first_improves_as_ppo_does_and_then_takes_cost_back():
    """Its first stage is PPO's in half the ball, and so are its critics; the second gives up cost that it raised."""
    held, parent = updates("cup"), updates("ppo", target_kl=0.01, entropy_coef=0.01)
    (params, metrics), (expected, of_ppo) = held(multiplier=5.0), parent()
    for name in ("kl", "num_passes", "clipped_share"):
        assert_allclose(metrics[name], of_ppo[name], rtol=1e-4)
    assert_close(params.value, expected.value)
    cost = held.batch.cost_advantages[:, 0]
    assert held.gain(params, cost) < 0.7 * held.gain(expected, cost)
    assert metrics["num_passes_2"] > 0.0 and metrics["kl_2"] > 0.0


def test_cup_without_a_multiplier_stays_where_ppo_went():
    """Nothing but the distance to that policy is left to minimise."""
    (params, _), (expected, _) = updates("cup")(), updates("ppo", target_kl=0.01, entropy_coef=0.01)()
    assert_allclose(updates("cup").kl(params), updates("ppo").kl(expected), rtol=0.05)


def test_cup_goes_less_far_for_the_reward_the_larger_the_multiplier():
    """1 / (1 + multiplier) of the way, so KL divergences fall with its square. Without cost nothing is taken back."""
    held = updates("cup")
    nothing = jnp.zeros_like(held.batch.cost_advantages)
    kls = [held.kl(held(multiplier=m, cost_advantages=nothing)[0]) for m in (0.0, 1.0, 3.0)]
    assert_allclose(kls, kls[0] / jnp.array([1.0, 4.0, 16.0]), rtol=0.1)


def test_focops_counts_only_observations_that_stayed_close():
    """A reach of nothing leaves nothing to learn from after the first step; a wide one, everything."""
    _, near = updates("focops")()
    held, (_, update) = updates("focops"), update_of("focops", max_state_kl=1e-9)
    status = CostStatus(jnp.zeros(1), jnp.zeros(1), jnp.float32(3.97))
    _, far = jax.jit(update)(held.state, held.batch, status, jax.random.key(2))
    assert near["counted_share"] > 0.5 and far["counted_share"] < 0.1 and far["kl"] < near["kl"]


def test_ipo_weighs_cost_the_more_the_less_room_there_is():
    """By the barrier's slope, which goes on where there is no room. The steps are small: room is what it was told."""
    assert_allclose(slope(jnp.array([2.0, 0.5, 0.1, 0.05, 0.0, -1.0]), 10.0, 0.1), [0.05, 0.2, 1, 1, 1, 1], rtol=1e-6)
    held = updates("ipo", learning_rate=1e-4)
    cost = held.batch.cost_advantages[:, 0]
    found = [held(violation=v) for v in (-0.5, -0.05, -0.02, -0.005, 0.02)]
    weights, gains = [metrics["weight"] for _, metrics in found], [held.gain(params, cost) for params, _ in found]
    assert_allclose(weights, [0.02, 0.2, 0.5, 2.0, 10.0], rtol=0.2)
    assert gains[0] > 0.0 > gains[3] > gains[4]


def test_p3o_below_its_limit_is_ppo_and_above_it_ppo_with_a_multiplier():
    """At -0.02 no minibatch is mistaken for a broken limit, although its mean advantage is off by 0.12."""
    held, free, pressed = (ManySamples(name, num_minibatches=16) for name in ("p3o", "ppo", "ppo-lag"))
    size = held.batch.cost_advantages.reshape(16, -1).mean(axis=1).std()
    assert 0.08 < size < 0.2
    below, above = held(violation=-0.02)[0], held(violation=0.5)[0]
    assert_close(below.policy, free()[0].policy)
    assert_close(above.policy, pressed(multiplier=5.0)[0].policy)
    assert held.kl(below) > 0.005


@pytest.mark.parametrize(
    ("name", "told"),
    [(name, {"multiplier": m}) for name in ("ppo-lag", "focops", "cup") for m in (0.3, 1.0, 3.0)]
    + [(name, {"violation": v}) for name in ("p3o", "ipo") for v in (-0.02, 0.02)],
)
def test_no_stage_leaves_the_ball(name, told):
    """Although the first pass alone would: steps are taken back. CUP: two stages share the ball."""
    held = ball(name)
    params, metrics = held(**told, cost_advantages=held.batch.cost_advantages)
    last = "kl_2" if name == "cup" else "kl"
    assert_allclose(held.kl(params), metrics[last], rtol=1e-3)
    assert 0.003 < metrics[last] <= 0.015 * 1.1
    if name == "cup":
        assert 0.003 < metrics["kl"] <= 0.5 * 0.015 * 1.1
    assert metrics["num_passes"] < 1.0


@functools.cache
def ball(name):
    """One whose first pass would leave the ball, and with costs that a policy can lower."""
    held = ManySamples(name, num_minibatches=16, learning_rate=1e-2, target_kl=0.015)
    costs = jnp.tile(Updates.batch.func(held).cost_advantages, (64, 1))
    held.batch = held.batch.replace(cost_advantages=3.0 * costs)
    return held


def sample_of_a_moved_policy(seed):
    """NumPy arrays of 60 samples of two actions and two costs, and the policy before and after a small move."""
    rng = np.random.default_rng(seed)
    mean, log_std = rng.normal(size=(60, 2)), 0.2 * rng.normal(size=(60, 2))
    new_mean = mean + 0.1 * rng.random((60, 1)) * rng.normal(size=(60, 2))
    new_log_std = log_std + 0.05 * rng.normal(size=(60, 2))
    action = mean + np.exp(log_std) * rng.normal(size=(60, 2))
    advantage, costs = rng.normal(size=60), 0.1 * rng.normal(size=(60, 2))
    return (mean, log_std), (new_mean, new_log_std), action, advantage, costs - costs.mean(axis=0)


def log_density(policy, action):
    mean, log_std = policy
    return np.sum(-0.5 * ((action - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2.0 * np.pi), axis=1)


def divergence(first, second):
    """KL(first || second) of each sample."""
    var, other = np.exp(2.0 * first[1]), np.exp(2.0 * second[1])
    return np.sum(second[1] - first[1] + (var + (first[0] - second[0]) ** 2) / (2.0 * other) - 0.5, axis=1)


@pytest.mark.parametrize("seed", [0, 1])
def test_losses_are_the_formulas_of_the_papers(seed):
    """Computed once more in NumPy, from the densities on."""
    old, new, action, advantage, costs = sample_of_a_moved_policy(seed)
    ratio = np.exp(log_density(new, action) - log_density(old, action))
    multipliers, violations, changes, bonus = (
        np.array([0.3, 0.7]),
        np.array([0.01, -0.02]),
        np.array([2e-3, 3e-3]),
        0.05,
    )
    status = CostStatus(jnp.array(multipliers), jnp.array(violations), jnp.float32(3.97))
    start, dist = (Gaussian(jnp.array(mean), jnp.array(log_std)) for mean, log_std in (old, new))
    policy = UpdatedPolicy(dist, jnp.array(ratio), start, jnp.float32(bonus), jnp.array(changes))
    of_old = jnp.array(log_density(old, action))
    batch = Batch(
        jnp.zeros((60, 1)), jnp.array(action), of_old, start.mean, start.log_std, jnp.array(advantage),
        jnp.array(costs), jnp.zeros(60), jnp.zeros((60, 2)),
    )  # fmt: skip

    def loss(name, stage="_loss"):
        settings = () if stage == "_project" else (ALGORITHMS[name].config(),)
        return getattr(importlib.import_module(f"mjx_safety.agents.{name}"), stage)(*settings, status, policy, batch)[0]

    kl, clipped = divergence(new, old), np.clip(ratio, 0.8, 1.2)
    gain = np.mean(np.minimum(ratio * advantage, clipped * advantage) - advantage) + bonus
    lost = np.mean(np.maximum(ratio[:, None] * costs, clipped[:, None] * costs) - costs, axis=0)

    def weighed(weights):
        return -(gain - weights @ lost) / (1.0 + weights.sum())

    mixed = (advantage - costs @ multipliers) / (1.0 + multipliers.sum())
    focops_loss = np.mean((kl <= 0.02) * (kl - ratio * mixed / 1.5)) - bonus / (1.0 + multipliers.sum())
    assert 0.0 < np.mean(kl <= 0.02) < 1.0
    assert_allclose(loss("focops"), focops_loss, rtol=1e-4)
    assert_allclose(loss("cup", "_project"), kl.mean() + 3.97 * multipliers @ ((ratio - 1.0) @ costs / 60.0), rtol=1e-4)
    assert_allclose(loss("cup", "_improve"), -gain, rtol=1e-4)
    assert_allclose(loss("ppo"), weighed(multipliers), rtol=1e-4)
    assert_allclose(loss("p3o"), weighed(5.0 * (violations + changes > 0.0)), rtol=1e-4)
    assert_allclose(loss("ipo"), weighed(0.01 / np.maximum(-violations - changes, 1e-3)), rtol=1e-4)
