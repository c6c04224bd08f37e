"""Multipliers, margins and limits: known answers, several limits at once, wrong limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mjx_safety.agents import constraints, episode_cost
from mjx_safety.agents.cpo import CPOConfig, cpo
from mjx_safety.agents.pcpo import PCPOConfig, pcpo
from mjx_safety.agents.types import Costs

pytestmark = pytest.mark.usefixtures("strict_ranks")

COSTS = (60.0, 40.0, 20.0, 20.0, 26.0)
GAINS = constraints.PIDGains(proportional_gain=2.5, integral_gain=0.25, derivative_gain=0.25)  # for a limit of 25


def multipliers(constraint, costs):
    """The final state, and the multiplier after each of the estimated episode costs."""
    state, values = constraint.init(), []
    for cost in costs:
        state = constraint.update(state, jnp.float32(cost)[None])
        values.append(float(constraint.weights(state).multipliers[0]))
    return state, np.array(values)


def test_softplus_adam():
    constraint = constraints.lagrangian(25.0, constraints.softplus_adam())
    state, raw = constraint.init(), []
    assert_allclose(state.raw, [0.541325], atol=1e-6)
    for cost in COSTS:
        state = constraint.update(state, jnp.array([cost]))
        raw.append(float(state.raw[0]))
    assert_allclose(raw, [0.591325, 0.636779, 0.667454, 0.688613, 0.707197], atol=2e-6)
    _, values = multipliers(constraint, COSTS)
    assert_allclose(values, [1.031895, 1.061389, 1.081557, 1.095592, 1.108001], atol=2e-6)


@pytest.mark.parametrize("init", [1e-4, 1.0, 100.0])
def test_softplus_starts_where_it_is_told(init):
    constraint = constraints.lagrangian(25.0, constraints.softplus_adam(init))
    assert_allclose(jax.nn.softplus(constraint.init().raw), init, rtol=1e-3)
    _, values = multipliers(constraint, [200.0] * 20)
    assert np.all(np.diff(values) > 0.0) and np.all(np.isfinite(values))


@pytest.mark.parametrize("rule", [constraints.clamped_adam, constraints.softplus_adam, constraints.projected_ascent])
def test_without_a_limit_a_multiplier_falls(rule):
    _, values = multipliers(constraints.lagrangian(jnp.inf, rule(1.0)), [200.0] * 5)
    assert np.all(np.diff(values) < 0.0) and np.all(np.isfinite(values))


def test_clamped_adam():
    _, values = multipliers(constraints.lagrangian(25.0, constraints.clamped_adam()), COSTS)
    assert_allclose(values, [0.036, 0.067818, 0.089290, 0.104102, 0.117111], atol=2e-6)


def test_clamped_adam_stays_between_zero_and_its_maximum():
    rule = constraints.clamped_adam(init=0.1, learning_rate=0.05, maximum=0.12)
    _, values = multipliers(constraints.lagrangian(25.0, rule), (60.0, 60.0, *[0.0] * 20))
    assert_allclose([values[1], values[-1]], [0.12, 0.0], atol=1e-6)
    assert np.all((values >= 0.0) & (values <= 0.12))


def test_violations_are_relative_to_the_limit_and_at_most_one():
    found = constraints.relative(
        jnp.array([5.0, 100.0, -25.0, 0.3, -jnp.inf]), jnp.array([25.0, 25.0, 25.0, 0.0, jnp.inf])
    )
    assert_allclose(found, [0.2, 1.0, -1.0, 0.3, -1.0])


def test_projected_ascent():
    rule = constraints.projected_ascent(init=0.0, learning_rate=0.25, maximum=0.4)
    _, values = multipliers(constraints.lagrangian(25.0, rule), (60.0, 60.0, 25.0, 20.0, 0.0, 0.0))
    assert_allclose(values, [0.25, 0.4, 0.4, 0.35, 0.1, 0.0], atol=1e-6)


def test_pid():
    """By hand, in steps of cost: proportional part of 0.05 x the violation, integral of 0.01, derivative of 0.01."""
    expected, integral, smoothed, cost = [], 0.001, 0.0, 0.0
    costs = (45.0, 40.0, 35.0, 30.0, 20.0)
    for value in costs:
        integral += 0.01 * (value - 25.0)
        smoothed = 0.95 * smoothed + 0.05 * (value - 25.0)
        cost = 0.95 * cost + 0.05 * value
        expected.append(0.1 * smoothed + integral + 0.01 * cost)  # the delay is longer: the rise is all of it
    _, values = multipliers(constraints.pid_lagrangian(25.0, GAINS), costs)
    assert_allclose(values, expected, atol=2e-6)


def test_pid_sees_the_rise_over_its_delay_only():
    """Derivative alone, unsmoothed, over 2 iterations: costs 10, 20, 40, 40, 40 rise by 10, 20, 30, 20, 0."""
    gains = GAINS.replace(proportional_gain=0.0, integral_gain=0.0, derivative_gain=2.5, multiplier_init=0.0)
    constraint = constraints.pid_lagrangian(25.0, gains.replace(smoothing=0.0, derivative_delay=2))
    _, values = multipliers(constraint, (10.0, 20.0, 40.0, 40.0, 40.0, 20.0))
    assert_allclose(values, [1.0, 2.0, 3.0, 2.0, 0.0, 0.0], atol=1e-6)


def test_pid_does_not_wind_up():
    """However long the limit was broken, the integral leaves its cap at once, and below the limit it ends at 0."""
    gains = GAINS.replace(proportional_gain=0.0, derivative_gain=0.0, multiplier_max=2.0)
    state, values = multipliers(constraints.pid_lagrangian(25.0, gains), [125.0] * 50 + [0.0] * 20)
    assert_allclose(values[49:52], [2.0, 1.75, 1.5], atol=1e-5)
    assert values[-1] == 0.0 and state.integral == 0.0


RULES = {
    "projected": lambda limit: constraints.lagrangian(limit, constraints.projected_ascent(0.5, 0.01)),
    "clamped": lambda limit: constraints.lagrangian(limit, constraints.clamped_adam(0.5)),
    "softplus": lambda limit: constraints.lagrangian(limit, constraints.softplus_adam()),
    "pid": lambda limit: constraints.pid_lagrangian(limit, GAINS),
    "margin": lambda limit: constraints.hard_limit(limit, margin_learning_rate=0.05),
}


@pytest.mark.parametrize("rule", RULES)
def test_several_limits_move_each_by_its_own_cost(rule):
    """Two limits at once do what each of them does alone."""
    both = RULES[rule]({"hazards": 20.0, "vases": 5.0})
    assert both.sources == ("hazards", "vases") and both.num_costs == 2
    assert_allclose(both.limits, [20.0, 5.0])
    costs = np.array([[30.0, 1.0], [25.0, 9.0], [10.0, 7.0], [22.0, 0.0]])
    together, alone = both.init(), [RULES[rule](20.0), RULES[rule](5.0)]
    states = [constraint.init() for constraint in alone]
    for cost in costs:
        together = both.update(together, jnp.asarray(cost, jnp.float32))
        states = [c.update(s, jnp.float32(x)[None]) for c, s, x in zip(alone, states, cost, strict=True)]
        for held in ("multipliers", "margins"):
            apart = [getattr(c.weights(s), held)[0] for c, s in zip(alone, states, strict=True)]
            assert_allclose(getattr(both.weights(together), held), apart, rtol=1e-6)
    moving = both.weights(together).margins if rule == "margin" else both.weights(together).multipliers
    assert moving[0] != moving[1]


def test_penalise_weighs_every_limit():
    """(2 - 0.5 * 4 - 1.5 * 6) / (1 + 0.5 + 1.5) = -3; the same for advantages, sample by sample."""
    weights = jnp.array([0.5, 1.5])
    assert_allclose(constraints.penalise(weights, jnp.float32(2.0), jnp.array([4.0, 6.0])), -3.0)
    advantages = constraints.penalise(
        weights, jnp.array([2.0, 0.0, 3.0]), jnp.array([[4.0, 6.0], [2.0, 0.0], [0.0, 2.0]])
    )
    assert_allclose(advantages, [-3.0, -1.0 / 3.0, 0.0], atol=1e-6)
    assert_array_equal(constraints.penalise(jnp.zeros(2), jnp.float32(2.0), jnp.array([4.0, 6.0])), 2.0)


def test_a_hard_limit_has_no_multipliers_and_no_margin():
    constraint = constraints.hard_limit({"hazards": 20.0, "vases": 5.0})
    state = constraint.update(constraint.init(), jnp.array([100.0, 100.0]))
    assert_array_equal(constraint.weights(state).multipliers, [0.0, 0.0])
    assert_array_equal(constraint.weights(state).margins, [0.0, 0.0])


def test_a_margin_takes_up_violations_and_never_loosens_the_limit():
    constraint, margins = constraints.hard_limit(25.0, margin_learning_rate=0.1), []
    state = constraint.init()
    for cost in (35.0, 45.0, 25.0, 5.0, 5.0, 0.0):
        state = constraint.update(state, jnp.array([cost]))
        margins.append(float(constraint.weights(state).margins[0]))
    assert_allclose(margins, [1.0, 3.0, 3.0, 1.0, 0.0, 0.0], atol=1e-6)
    assert_array_equal(constraint.weights(state).multipliers, [0.0])


def test_a_margin_stays_below_its_cap():
    """Whatever the cost: a violation counts for at most the limit, and the margin ends at half the limit."""
    constraint, margins = constraints.hard_limit({"a": 25.0, "b": 0.0}, margin_learning_rate=0.1, margin_max=0.5), []
    state = constraint.init()
    for _ in range(20):
        state = constraint.update(state, jnp.array([1000.0, 1000.0]))
        margins.append(constraint.weights(state).margins)
    assert_allclose(margins[0], [2.5, 0.1], rtol=1e-6)
    assert_allclose(margins[-1], [12.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_no_limit_leaves_no_nan(rate):
    constraint = constraints.hard_limit(jnp.inf, margin_learning_rate=rate)
    state = constraint.update(constraint.init(), jnp.array([100.0]))
    assert_array_equal(constraint.weights(state).margins, [0.0])
    assert_array_equal(constraints.unconstrained().weights(constraints.unconstrained().init()).multipliers, [0.0])


@pytest.mark.parametrize("make", [constraints.hard_limit, constraints.lagrangian, constraints.pid_lagrangian])
def test_a_limit_for_nothing_is_refused(make):
    with pytest.raises(ValueError, match="must be a number, or name at least one source of cost"):
        make({})


def test_limits_can_be_traced():
    """So that one program trains under many limits."""

    def weights(limit):
        constraint = constraints.lagrangian({"a": limit, "b": 2.0 * limit})
        return constraint.weights(constraint.update(constraint.init(), jnp.array([30.0, 30.0]))).multipliers

    expected = [[0.0125, 0.0125 * 0.5], [0.0125 * 0.5, 0.0]]
    assert_allclose(jax.vmap(weights)(jnp.array([10.0, 20.0])), expected, atol=1e-7)


def test_sources_are_found_by_name():
    names = ("hazards", "vases", "gremlins")
    costs = Costs(total=jnp.array([7.0, 8.0]), sources=jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert_array_equal(episode_cost.limited(costs, (), names), [[7.0], [8.0]])
    assert_array_equal(episode_cost.limited(costs, ("gremlins", "hazards"), names), [[3.0, 1.0], [6.0, 4.0]])


@pytest.mark.parametrize(
    ("names", "allowed"),
    [(("hazards", "vases"), "hazards, vases"), ((), "none, as this environment has no costs")],
)
def test_an_unknown_source_is_refused_in_one_sentence(names, allowed):
    with pytest.raises(ValueError) as error:
        episode_cost.limited(Costs(jnp.zeros(()), jnp.zeros(len(names))), (*names[:1], "walls"), names)
    assert str(error.value) == f"cost limit for walls: there is no such source of cost; it must be one of: {allowed}"


@pytest.mark.parametrize(("make", "config"), [(cpo, CPOConfig()), (pcpo, PCPOConfig())])
def test_algorithms_of_one_limit_refuse_two(make, config):
    make(config, constraints.hard_limit({"hazards": 20.0}))
    with pytest.raises(ValueError, match=r"holds one limit, not 2 \(hazards, vases\)"):
        make(config, constraints.hard_limit({"hazards": 20.0, "vases": 5.0}))
