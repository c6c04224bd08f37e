"""What each algorithm promises of one update.

The updates work on one batch with known advantages and a given distance from the limits, so that what must rise, fall
or stay is known. They are looked at through `Algorithm.iterate`, a partial of (networks, constraint, update).
"""

from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents import CPOConfig, PCPOConfig, TRPOConfig
from mjx_safety.agents.catalogue import ALGORITHMS
from mjx_safety.agents.constraints import hard_limit
from mjx_safety.agents.critics import ActorCriticConfig
from mjx_safety.agents.networks import make_networks
from mjx_safety.agents.on_policy import CostStatus, on_policy
from mjx_safety.agents.second_order import LineSearchConfig
from mjx_safety.agents.train import init, iterate
from mjx_safety.agents.types import TrainConfig
from mjx_safety.env.vector import vectorize

from . import probe_envs
from .updates import NUM_SAMPLES, Updates, assert_close, build, updates

ON_POLICY = {name: choice for name, choice in ALGORITHMS.items() if issubclass(choice.config, ActorCriticConfig)}


@pytest.mark.parametrize("completed", [False, True])
def test_what_an_update_is_told(completed):
    """Violations per step of an episode, margin included, of the limited sources in the limits' own order."""
    limits = {"seldom": 1.0, "often": 10.0}
    constraint = hard_limit(limits, margin_learning_rate=0.1)
    networks = make_networks((4,), num_costs=2)

    def update(state, batch, status, key):
        told = {f"told_{name}": status.violations[i] for i, name in enumerate(limits)}
        return state, told | {"cost_horizon": status.cost_horizon}

    algorithm = on_policy(networks, constraint, lambda params: (), update)
    venv = vectorize(probe_envs.TwoCosts(), 16, stagger=True)
    config = TrainConfig(unroll_length=20, use_completed_episodes=completed)
    step = jax.jit(partial(iterate, venv, algorithm, config))
    state = init(venv, algorithm, jax.random.key(0))
    for _ in range(3):
        state, metrics = step(state)
    estimate = state.episode_cost.completed_costs if completed else state.episode_cost.rate_costs
    assert np.all(state.episode_cost.completed_costs.sources != state.episode_cost.rate_costs.sources)
    violations = estimate.sources[::-1] - jnp.array([1.0, 10.0]) + state.constraint
    assert np.any(state.constraint > 0.0)
    assert_allclose([metrics["told_seldom"], metrics["told_often"]], violations / 20.0, rtol=1e-5)
    assert_allclose(metrics["cost_horizon"], (1.0 - 0.99 * 0.97) / (1.0 - 0.99), rtol=1e-3)


def test_no_limit_acts_before_the_worlds_stand_for_whole_episodes():
    """Episodes of 20 steps, 4 a rollout: from the third rollout on. Until then nothing moves the multiplier."""
    venv = vectorize(probe_envs.CostlyTarget(), 16, stagger=True)

    def update(state, batch, status, key):
        return state, {"told": status.violations[0]}

    algorithm = on_policy(make_networks((4,)), hard_limit(5.0, margin_learning_rate=0.1), lambda params: (), update)
    step = jax.jit(partial(iterate, venv, algorithm, TrainConfig(unroll_length=4)))
    state = init(venv, algorithm, jax.random.key(0))
    seen = []
    for _ in range(5):
        state, metrics = step(state)
        seen.append((metrics["limit_acts"], metrics["margin"] > 0.0, jnp.isfinite(metrics["told"])))
    assert_array_equal(seen[1:], [[0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]])


@pytest.mark.parametrize("name", ["ppo-lag", "cpo", "pcpo", "ipo"])
def test_every_metric_is_finite_before_a_limit_acts(name):
    """Violations are minus infinity there. A metric that is not finite would end a training as diverged."""
    venv = vectorize(probe_envs.CostlyTarget(), 16, stagger=True)
    algorithm = build(name, 5.0)
    step = jax.jit(partial(iterate, venv, algorithm, TrainConfig(unroll_length=4)))
    state = init(venv, algorithm, jax.random.key(0))
    for _ in range(3):
        state, metrics = step(state)
        assert {column for column, value in metrics.items() if not np.isfinite(value)} == set()
        assert metrics["limit_acts"] == (metrics["num_rollouts"] >= 3)


PARENTS = {name: "ppo" for name in ("ppo-lag", "ppo-pid", "p3o", "ipo")}
PARENTS |= {name: "trpo" for name in ("trpo-lag", "trpo-pid", "cpo", "pcpo", "crpo")}


@pytest.mark.thorough
@pytest.mark.parametrize("name", PARENTS)
def test_without_a_limit_costs_change_nothing(name):
    """A multiplier of 0 and endless room: the update of PPO or TRPO, whatever the cost advantages."""
    params, _ = updates(name)()
    expected, _ = updates(PARENTS[name])()
    assert_close((params.policy, params.value), (expected.policy, expected.value))
    assert np.linalg.norm(updates(name).gain(params, updates(name).batch.advantage)) > 0.01, "it learned nothing"


@pytest.mark.parametrize("name", sorted(set(PARENTS) - {"ipo"}))
def test_without_costs_a_limit_changes_nothing(name):
    """No cost at all, and the limit's whole room below it, as the constraint itself tells after its own update."""
    held = updates(name)
    constraint = held.constraint
    state = constraint.update(constraint.init(), jnp.zeros(1))
    told = {
        "multiplier": constraint.weights(state).multipliers[0],
        "violation": constraint.weights(state).margins[0] - 25.0 / 20.0,
    }
    params, metrics = held(**told, cost_advantages=jnp.zeros((NUM_SAMPLES, 1)))
    expected, _ = updates(PARENTS[name])(cost_advantages=jnp.zeros((NUM_SAMPLES, 1)))
    assert told["multiplier"] == 0.0
    assert_close((params.policy, params.value), (expected.policy, expected.value))
    if name == "cpo":
        assert metrics["case_4"] == 1.0


@pytest.mark.parametrize("name", ["ppo-lag", "trpo-lag", "focops", "rcpo"])
def test_a_multiplier_lowers_the_cost(name):
    """From a rise at 0 to a fall at 5, as reward and cost want opposite things of the first action."""
    held = updates(name)
    cost = held.batch.cost_advantages[:, 0]
    free, pressed = held(multiplier=0.0)[0], held(multiplier=5.0)[0]
    assert held.gain(free, cost) > 0.003
    assert held.gain(pressed, cost) < -0.003
    assert held.gain(free, held.batch.advantage) > held.gain(pressed, held.batch.advantage)


@pytest.mark.parametrize("name", ["p3o", "ipo", "cpo", "pcpo", "crpo"])
def test_a_broken_limit_lowers_the_cost(name):
    """From a rise far below the limit to a fall above it."""
    held = updates(name)
    cost = held.batch.cost_advantages[:, 0]
    free, pressed = held(violation=-1.0)[0], held(violation=1.0)[0]
    assert held.gain(free, cost) > 0.003
    assert held.gain(pressed, cost) < -0.003
    assert held.gain(free, held.batch.advantage) > held.gain(pressed, held.batch.advantage)


SECOND_ORDER = ("trpo-lag", "cpo", "pcpo", "crpo")


@pytest.mark.parametrize("violation", [-1.0, -0.01, 0.01, 1.0])
@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order_steps_stay_in_the_ball(name, violation):
    """Under each relation to the limit, and most of the ball is used."""
    held = updates(name)
    params, metrics = held(violation=violation, multiplier=0.0 if violation < 0.0 else 2.0)
    kl = held.kl(params)
    assert 0.2 * LineSearchConfig().max_kl < kl <= LineSearchConfig().max_kl * (1.0 + 1e-3)
    assert_allclose(metrics["kl"], kl, rtol=1e-3)
    assert metrics["step_share"] > 0.0


@pytest.mark.parametrize("name", SECOND_ORDER)
@pytest.mark.parametrize("broken", ["advantage", "cost_advantages"])
def test_a_rejected_step_leaves_the_policy_alone(name, broken):
    """No step can be judged by an advantage that is not finite: not a bit of the policy changes, and critics learn."""
    held = updates(name)
    spoilt = getattr(held.batch, broken).at[0].set(jnp.nan)
    multiplier = 1.0 if name == "trpo-lag" else 0.0
    params, metrics = held(multiplier=multiplier, violation=0.01, **{broken: spoilt})
    jax.tree.map(assert_array_equal, params.policy, held.state.params.policy)
    assert metrics["step_share"] == metrics["kl"] == 0.0
    assert np.all([np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params)])
    assert np.any(jax.tree.leaves(params.value)[0] != jax.tree.leaves(held.state.params.value)[0])


@pytest.mark.parametrize(("violation", "case"), [(-1.0, 3), (-0.005, 2), (0.005, 1), (1.0, 0)])
def test_cpo_meets_its_limit_or_recovers(violation, case):
    """The cost ends at the limit where the ball reaches it; far above, it falls as far as in the other direction."""
    held = updates("cpo")
    cost = held.batch.cost_advantages[:, 0]
    params, metrics = held(violation=violation)
    assert metrics[f"case_{case}"] == 1.0 and sum(metrics[f"case_{i}"] for i in range(5)) == 1.0
    assert held.gain(params, cost) <= max(-violation, 0.0) + 1e-6
    if case in (1, 2):
        assert_allclose(metrics["predicted_cost"], 0.0, atol=1e-5)
        assert_allclose(held.gain(params, cost), -violation, atol=0.3 * abs(violation))
    if case == 0:
        rise = held.gain(held(violation=-1.0, advantage=cost / cost.std())[0], cost)  # as if cost were the reward
        assert_allclose(held.gain(params, cost), -rise, rtol=0.15)
        assert held.gain(params, held.batch.advantage) < 0.0  # which recovery may


def test_pcpo_meets_its_limit():
    held = updates("pcpo")
    for violation in (-0.005, 0.005):
        params, metrics = held(violation=violation)
        assert_allclose(metrics["predicted_cost"], 0.0, atol=1e-5)
        assert held.gain(params, held.batch.cost_advantages[:, 0]) <= max(-violation, 0.0) + 1e-6


def test_crpo_turns_to_the_limit_that_is_broken_most():
    held = Updates("crpo", {"first": 20.0, "second": 5.0})
    first = held.batch.cost_advantages[:, 0]
    costs = jnp.stack([first, -first], axis=1)  # what lowers one raises the other

    def gains(violations):
        status = CostStatus(jnp.zeros(2), jnp.array(violations), jnp.float32(3.97))
        state, metrics = held.update(held.state, held.batch.replace(cost_advantages=costs), status, jax.random.key(2))
        return held.gain(state.params, first), held.gain(state.params, held.batch.advantage), metrics["lowers_cost"]

    cost, _, lowers_cost = gains([0.2, 0.1])
    assert cost < -0.003 and lowers_cost == 1.0
    cost, _, lowers_cost = gains([0.1, 0.2])
    assert cost > 0.003 and lowers_cost == 1.0
    _, reward, lowers_cost = gains([-0.1, -0.2])
    assert reward > 0.05 and lowers_cost == 0.0


def test_rcpo_steps_to_the_edge_of_the_ball():
    """Without a multiplier it goes TRPO's way, a share of it, and no line search shortens it."""
    held = updates("rcpo")
    params, metrics = held()
    assert_allclose(metrics["kl"], held.kl(params), rtol=1e-3)
    assert 0.008 < metrics["kl"] < 0.013
    short, _ = updates("rcpo", step_share=0.5)()
    whole, half, start = (jax.flatten_util.ravel_pytree(p.policy)[0] for p in (params, short, held.state.params))
    assert_allclose(half - start, 0.5 * (whole - start), atol=1e-6)
    unchanged, metrics = held(advantage=held.batch.advantage.at[0].set(jnp.nan))
    assert_array_equal(jax.flatten_util.ravel_pytree(unchanged.policy)[0], start)
    assert metrics["skipped_share"] == 1.0 and metrics["kl"] == 0.0


@pytest.mark.parametrize("name", ["ppo-lag", "trpo-lag", "focops", "p3o"])
def test_what_is_not_finite_is_skipped_and_counted(name):
    """One target in four minibatches spoils a quarter of the critics' steps, one advantage that of the policy's."""
    held = updates(name)
    spoilt = {"value_target": held.batch.value_target.at[0].set(jnp.nan)}
    params, metrics = held(multiplier=1.0, **spoilt)
    assert metrics["skipped_share"] == 0.0 and metrics["skipped_critic_share"] == 0.25
    assert np.isfinite(metrics["value_loss"]) and metrics["value_loss"] > 0.0
    params_2, metrics = held(multiplier=1.0, advantage=held.batch.advantage.at[0].set(jnp.inf))
    assert metrics["skipped_share"] == (1.0 if name == "trpo-lag" else 0.25)
    for leaf in jax.tree.leaves((params, params_2)):
        assert np.all(np.isfinite(leaf))
    for new in (params, params_2):
        assert np.any(jax.tree.leaves(new.value)[0] != jax.tree.leaves(held.state.params.value)[0])


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in ON_POLICY if name not in ("cpo", "pcpo")])
def test_every_algorithm_takes_several_limits(name):
    """By shapes alone: two limits by source, two cost values, finite or not."""
    algorithm = build(name, {"often": 15.0, "seldom": 5.0})
    venv = vectorize(probe_envs.TwoCosts(), 4)
    state = jax.eval_shape(partial(init, venv, algorithm), jax.random.key(0))
    after, metrics = jax.eval_shape(partial(iterate, venv, algorithm, TrainConfig(unroll_length=4)), state)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert {"multiplier_often", "multiplier_seldom", "cost_estimate_often"} < set(metrics)
    assert all(value.shape == () and value.dtype == jnp.float32 for value in metrics.values())


def test_a_limit_on_an_unknown_source_is_refused_before_training():
    venv, algorithm = vectorize(probe_envs.TwoCosts(), 4), build("ppo-lag", {"walls": 5.0})
    sentence = "cost limit for walls: there is no such source of cost; it must be one of: often"
    with pytest.raises(ValueError, match=sentence):
        init(venv, algorithm, jax.random.key(0))
    allowed = build("ppo-lag", {"often": 5.0})
    state = jax.eval_shape(partial(init, venv, allowed), jax.random.key(0))
    with pytest.raises(ValueError, match=sentence):
        jax.eval_shape(partial(iterate, venv, algorithm, TrainConfig(unroll_length=4)), state)


@pytest.mark.parametrize("config", [TRPOConfig, CPOConfig, PCPOConfig])
def test_settings_without_own_fields_still_say_whose_they_are(config):
    assert repr(config()).startswith(f"{config.__name__}(")
    assert isinstance(config(), LineSearchConfig) and config() != LineSearchConfig()


def test_only_the_algorithms_that_say_so_end_at_the_limit():
    assert {name for name, choice in ALGORITHMS.items() if choice.ends_at_limit} == {"ppo-early", "trpo-early"}
    for name in ("ppo-early", "trpo-early"):
        assert_array_equal(build(name).constraint.weights(build(name).constraint.init()).multipliers, [0.0])
