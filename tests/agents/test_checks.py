"""What no algorithm can learn from is refused in one sentence, before anything compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mjx_safety.agents import (
    CPOConfig,
    FOCOPSConfig,
    OffPolicyTrainConfig,
    PIDGains,
    PPOConfig,
    SACConfig,
    TrainConfig,
    clamped_adam,
    cpo,
    evaluate,
    focops,
    hard_limit,
    init,
    iterate,
    lagrangian,
    pid_lagrangian,
    ppo,
    projected_ascent,
    sac,
    softplus_adam,
    train,
    unconstrained,
)
from mjx_safety.agents.saute import BudgetWorlds
from mjx_safety.agents.sharding import make_mesh, shardings
from mjx_safety.agents.simmer import SimmerSettings, SimmerWorlds
from mjx_safety.env.vector import vectorize

from . import probe_envs

SMALL = {"hidden_sizes": (4,), "num_minibatches": 2, "num_passes": 1, "num_critic_passes": 1}


def start(venv, algorithm):
    """The shapes of a first state: nothing is compiled."""
    return jax.eval_shape(lambda key: init(venv, algorithm, key), jax.random.key(0))


def refuses(sentence):
    return pytest.raises(ValueError, match=sentence)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"num_minibatches": 0}, "num_minibatches is 0; it must be a whole number of at least 1"),
        ({"num_passes": 2.0}, "num_passes is 2.0; it must be a whole number"),
        ({"learning_rate": -1e-3}, "learning_rate is -0.001; it must be at least 0"),
        ({"clip_eps": np.nan}, "clip_eps is nan; it must be a finite number"),
        (
            {"learning_rate": jnp.array([1e-3, 1e-4])},
            r"learning_rate is an array of shape \(2,\)",
        ),
        ({"learning_rate": "3e-4"}, "learning_rate is '3e-4'; it must be one number"),
        ({"hidden_sizes": 64}, "hidden_sizes is 64; it must be whole numbers of units"),
        ({"hidden_sizes": (64, 0)}, "hidden_sizes is"),
    ],
)
def test_a_setting_out_of_its_range(changes, sentence):
    with refuses(sentence):
        ppo(PPOConfig(**changes))


def test_learning_rates_may_be_schedules():
    schedule = optax.linear_schedule(1e-3, 0.0, 100)
    venv, algorithm = vectorize(probe_envs.Random(), 4), ppo(PPOConfig(**SMALL, learning_rate=schedule))
    jax.eval_shape(lambda state: iterate(venv, algorithm, TrainConfig(), state), start(venv, algorithm))


def test_what_is_no_setting_and_no_constraint():
    with refuses("ppo got a CPOConfig as its settings; it takes a PPOConfig"):
        ppo(CPOConfig())
    with refuses("ppo got the class PPOConfig as its settings"):
        ppo(PPOConfig)
    with refuses(r"ppo got a float as its constraint; it takes one, such as lagrangian\(25.0\)"):
        ppo(PPOConfig(), 25.0)


def test_limits_that_nobody_would_hold():
    with refuses("focops holds a limit by multipliers only; hard_limit has none"):
        focops(FOCOPSConfig(), hard_limit(25.0))
    with refuses("cpo holds its limit without multipliers, so those do nothing"):
        cpo(CPOConfig(), lagrangian(25.0))
    with refuses("cpo holds its limit without multipliers"):
        cpo(CPOConfig(), pid_lagrangian(25.0))
    focops(FOCOPSConfig(), unconstrained())
    cpo(CPOConfig(), unconstrained())


@pytest.mark.parametrize("make", [hard_limit, lagrangian, pid_lagrangian])
@pytest.mark.parametrize(
    "limit, sentence",
    [
        (-1.0, "cost_limit is -1.0; it must be at least 0"),
        (np.nan, "cost_limit is nan; it must be at least 0"),
        ("25", "cost_limit is '25'; it must be one number"),
        (jnp.array([5.0]), r"cost_limit is an array of shape \(1,\)"),
        ({"hazards": 5.0, "vases": -2.0}, "the cost limit for vases is -2.0; it must be at least 0"),
    ],
)
def test_a_limit_that_is_no_cost(make, limit, sentence):
    with refuses(sentence):
        make(limit)


def test_rules_of_the_multiplier_that_cannot_work():
    with refuses("softplus_adam's init is 0.0; it must be above 0, or the multiplier stays at 0"):
        softplus_adam(0.0)
    with refuses("projected_ascent's learning_rate is -1.0; it must be at least 0"):
        projected_ascent(learning_rate=-1.0)
    with refuses("clamped_adam's maximum is nan"):
        clamped_adam(maximum=np.nan)
    with refuses("the rule is <function softplus_adam.*; it must be one such as"):
        lagrangian(25.0, softplus_adam)
    with refuses("derivative_delay is 0; it must be a whole number of at least 1"):
        pid_lagrangian(25.0, PIDGains(derivative_delay=0))
    with refuses("smoothing is 1.0; it must be at least 0 and below 1"):
        pid_lagrangian(25.0, PIDGains(smoothing=1.0))
    with refuses("the gains are a float; they must be PIDGains"):
        pid_lagrangian(25.0, 0.1)


def test_traced_settings_and_limits_pass():
    def build(value):
        algorithm = ppo(PPOConfig(learning_rate=value, clip_eps=value), lagrangian(value, projected_ascent(value)))
        cpo(CPOConfig(backtrack_factor=value), hard_limit({"a": value}, value))
        return algorithm.constraint.limits

    assert jax.vmap(build)(jnp.array([0.1, 0.2])).shape == (2, 1)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"unroll_length": 0}, "unroll_length is 0; it must be a whole number of at least 1"),
        ({"unroll_length": 8.0}, "unroll_length is 8.0"),
        ({"discount": 1.5}, "discount is 1.5; it must be at least 0 and at most 1"),
        ({"cost_smoothing": 1.0}, "cost_smoothing is 1.0; it must be at least 0 and below 1"),
        ({"limit_start": 0.5}, "limit_start is 0.5; it must be at least 1"),
    ],
)
def test_a_training_with_a_setting_out_of_its_range(changes, sentence):
    venv, algorithm = vectorize(probe_envs.Random(), 4), ppo(PPOConfig(**SMALL))
    state = start(venv, algorithm)
    with refuses(sentence):
        jax.eval_shape(lambda state: iterate(venv, algorithm, TrainConfig(**changes), state), state)


def test_settings_that_the_algorithm_has_no_use_for():
    venv = vectorize(probe_envs.Random(), 4)
    for algorithm, config, sentence in (
        (ppo(PPOConfig(**SMALL)), OffPolicyTrainConfig(), "an on-policy algorithm takes a TrainConfig"),
        (
            sac(SACConfig(hidden_sizes=(4,))),
            TrainConfig(limit_start=5.0),
            "limit_start is 5.0; an off-policy algorithm",
        ),
        (ppo(PPOConfig(**SMALL)), TrainConfig(limit_start=5.0), "limit_start is 5.0; this algorithm has no limit"),
        (sac(SACConfig(hidden_sizes=(4,))), PPOConfig(), "are of type PPOConfig; an off-policy algorithm takes a"),
    ):
        state = start(venv, algorithm)
        with refuses(sentence):
            jax.eval_shape(lambda state, a=algorithm, c=config: iterate(venv, a, c, state), state)


def test_more_minibatches_than_samples():
    """A minibatch of nothing has a loss of nan, whose steps are skipped: the training would learn nothing."""
    venv, algorithm = vectorize(probe_envs.Random(), 4), ppo(PPOConfig(hidden_sizes=(4,), num_minibatches=5))
    state = start(venv, algorithm)
    with refuses("num_minibatches is 5; it must be at most the 4 samples of one iteration"):
        jax.eval_shape(lambda state: iterate(venv, algorithm, TrainConfig(unroll_length=1), state), state)


@pytest.mark.parametrize("autoreset", ["next_step", "disabled"])
def test_worlds_whose_ended_episodes_go_on(autoreset):
    venv, algorithm = vectorize(probe_envs.Random(), 4, autoreset=autoreset), ppo(PPOConfig(**SMALL))
    state, sentence = start(venv, algorithm), f"autoreset='{autoreset}'; agents take those with autoreset='same_step'"
    with refuses(sentence):
        jax.eval_shape(lambda state: iterate(venv, algorithm, TrainConfig(), state), state)
    with refuses(sentence):
        BudgetWorlds(venv, 5.0)


def test_a_single_world():
    algorithm = ppo(PPOConfig(**SMALL))
    with refuses(r"the worlds are a Random; agents train on those of vectorize\(env, num_envs\)"):
        next(train(probe_envs.Random(), algorithm, TrainConfig(), None, 100))


def test_a_step_that_changes_the_types_of_the_state():
    class Whole(probe_envs.Random):
        def reset(self, key):
            return super().reset(key).replace(reward=jnp.int32(0))

    venv, algorithm = vectorize(Whole(), 4), ppo(PPOConfig(**SMALL))
    state = start(venv, algorithm)
    with refuses(r"reset gives reward as int32\[4\] and step as float32\[4\]; both must give the same type"):
        jax.eval_shape(lambda state: iterate(venv, algorithm, TrainConfig(), state), state)


def test_the_state_of_other_worlds():
    algorithm = ppo(PPOConfig(**SMALL))
    state, venv = start(vectorize(probe_envs.Random(), 4), algorithm), vectorize(probe_envs.Random(), 8)
    with refuses("the state has 4 worlds; it must have the 8 of its training"):
        jax.eval_shape(lambda state: iterate(venv, algorithm, TrainConfig(), state), state)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (ppo(PPOConfig(hidden_sizes=(8,)), lagrangian(25.0)), "params"),
        (ppo(PPOConfig(hidden_sizes=(4,))), "constraint"),
        (cpo(CPOConfig(hidden_sizes=(4,)), hard_limit(25.0)), "opt_state"),
    ],
)
def test_the_state_of_another_algorithm(other, name):
    algorithm = ppo(PPOConfig(hidden_sizes=(4,)), lagrangian(25.0))
    venv = vectorize(probe_envs.CostlyTarget(), 4)
    state = start(venv, other)
    with refuses(f"another algorithm, or the same with other settings, began the state: its {name} differs; begin"):
        iterate(venv, algorithm, TrainConfig(unroll_length=16), state)


def test_a_state_that_is_used_up():
    """Such as by a cell of a notebook that runs twice: a training donates its state."""
    venv, algorithm = vectorize(probe_envs.Random(), 4), ppo(PPOConfig(**SMALL))
    shapes = start(venv, algorithm)
    state = shapes.replace(num_rollouts=jnp.int32(0))
    state.num_rollouts.delete()
    with refuses("the state was used up by an earlier call; go on from `chunk.state`, or begin with `init` again"):
        next(train(venv, algorithm, TrainConfig(), state, 10_000))


def test_steps_that_are_no_iteration():
    venv, algorithm, config = vectorize(probe_envs.Random(), 4), ppo(PPOConfig(**SMALL)), TrainConfig(unroll_length=4)
    for steps, sentence in ((15, "it must be at least 16"), (16.5, "must be a whole number"), (np.inf, "whole number")):
        with refuses(f"total_steps is {steps}.*{sentence}"):
            next(train(venv, algorithm, config, None, steps))


def test_evaluation_in_episodes_that_are_cut_short():
    venv, algorithm = vectorize(probe_envs.Random(), 4, stagger=True), ppo(PPOConfig(**SMALL))
    with refuses("stagger=True, which cuts first episodes short; evaluate takes whole episodes"):
        evaluate(venv, algorithm, None, None, jax.random.key(0), False)


def test_budgets_that_cannot_be_shared_out():
    venv = vectorize(probe_envs.Random(), 4)
    with refuses("the budget's cost_limit is 0.0; it must be above 0"):
        BudgetWorlds(venv, 0.0)
    with refuses("budget_start is 0.0; it must be above 0 and at most 1"):
        SimmerWorlds(venv, 5.0, SimmerSettings(budget_start=0.0))


def test_devices_that_do_not_divide_the_worlds():
    with refuses("num_devices is 99; it must lie between 1 and the"):
        make_mesh(99)

    class Three:
        size = 3

    with refuses("num_envs is 4; it must be a multiple of the 3 devices"):
        shardings(Three(), None, 4)
