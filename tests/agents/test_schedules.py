"""What changes with the length of a training: limits, exploration, and the pace of multipliers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_safety.agents import PPOConfig, ppo
from mjx_safety.agents.constraints import hard_limit, lagrangian, projected_ascent
from mjx_safety.agents.first_order import FirstOrderConfig, bonus_limit
from mjx_safety.agents.networks import make_networks
from mjx_safety.agents.on_policy import leniency, on_policy
from mjx_safety.agents.train import init, iterate, train
from mjx_safety.agents.types import TrainConfig
from mjx_safety.cli.common import parse
from mjx_safety.env.vector import vectorize
from mjx_safety.runs import training_options
from mjx_safety.runs.training_options import default_options

from . import probe_envs
from .updates import updates


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 5.0), (0.25, 3.0), (0.5, 1.0), (1.0, 1.0)])
def test_limits_fall_to_their_values(progress, factor):
    config = TrainConfig(num_iterations=100.0, limit_start=5.0, limit_fall=0.5)
    num_rollouts = jnp.int32(100 * progress)
    assert leniency(config, num_rollouts) == pytest.approx(factor)
    assert leniency(config.replace(num_iterations=float("inf")), num_rollouts) == 1.0
    assert leniency(config.replace(limit_start=1.0), num_rollouts) == 1.0
    assert leniency(TrainConfig(), num_rollouts) == 1.0
    assert np.isfinite(leniency(config.replace(limit_fall=0.0), num_rollouts))


def test_a_multiplier_waits_while_the_limit_is_high():
    """Episodes of 20 steps that cost about 10, limit 5: from a third of the training on, the limit is below 10."""
    venv = vectorize(probe_envs.CostlyTarget(), 32, stagger=True)
    algorithm = ppo(PPOConfig(hidden_sizes=(4,), learning_rate=0.0), lagrangian(5.0, projected_ascent(0.0, 0.01)))
    multipliers = {}
    for start in (1.0, 1000.0):
        config = TrainConfig(unroll_length=10, num_iterations=30.0, limit_start=start, limit_fall=0.5)
        step, state = jax.jit(partial(iterate, venv, algorithm, config)), init(venv, algorithm, jax.random.key(0))
        rows = []
        for _ in range(20):
            state, metrics = step(state)
            rows.append(float(metrics["multiplier"]))
            assert metrics["cost_estimate"] > 5.0 or not metrics["limit_acts"]
        multipliers[start] = rows
    assert multipliers[1.0][10] > 0.0 and multipliers[1000.0][13] == 0.0
    assert multipliers[1000.0][19] > multipliers[1000.0][15], "the limit never acts"


def test_train_knows_over_which_length_the_limits_fall():
    """The same rows without `num_iterations` as with that of the training; another one stays as it is."""
    venv = vectorize(probe_envs.CostlyTarget(), 4, stagger=True)
    algorithm = ppo(PPOConfig(hidden_sizes=(4,), num_minibatches=2, num_passes=1), lagrangian(1.0))

    def multipliers(**settings):
        config = TrainConfig(unroll_length=10, limit_start=20.0, **settings)
        chunks = train(venv, algorithm, config, init(venv, algorithm, jax.random.key(0)), total_steps=12 * 40)
        return [row["multiplier"] for chunk in chunks for row in chunk.rows]

    told, known, other = multipliers(num_iterations=12.0), multipliers(), multipliers(num_iterations=1e6)
    assert known == told and known[-1] > 0.0
    assert other[-1] == 0.0


def test_violations_are_those_of_the_raised_limit():
    """Episodes of 20 steps, limit 5, twice as high at first: their cost less 10, per step."""
    venv = vectorize(probe_envs.CostlyTarget(), 32, stagger=True)

    def update(state, batch, status, key):
        return state, {"told": status.violations[0]}

    algorithm = on_policy(make_networks((4,)), hard_limit(5.0), lambda params: (), update)
    config = TrainConfig(unroll_length=10, num_iterations=1e6, limit_start=2.0)
    step, state = jax.jit(partial(iterate, venv, algorithm, config)), init(venv, algorithm, jax.random.key(0))
    for _ in range(4):
        state, metrics = step(state)
    assert metrics["told"] == pytest.approx((float(metrics["cost_estimate"]) - 10.0) / 20.0, rel=1e-3)


@pytest.mark.parametrize(("total_steps", "pace"), [(100_000_000, 0.1), (10_000_000, 1.0), (1_000_000, 1.0)])
def test_the_defaults_follow_the_length_of_the_training(total_steps, pace):
    usual, options = default_options("ppo-lag", 256), default_options("ppo-lag", 256, total_steps)
    assert options.train.num_iterations == total_steps // (256 * options.train.unroll_length)
    rate = options.constraint.multiplier_learning_rate / usual.constraint.multiplier_learning_rate
    assert rate == pytest.approx(pace, rel=0.01)


@pytest.mark.parametrize(
    ("num_envs", "total_steps", "unroll_length"),
    [
        (256, 10_000_000, 64),
        (256, 1_000_000_000, 64),
        (4096, 10_000_000, 4),
        (4096, 100_000_000, 40),
        (4096, 1_000_000_000, 64),
        (65_536, 1_000_000_000, 25),
    ],
)
def test_many_worlds_take_longer_unrolls_where_the_training_is_long(num_envs, total_steps, unroll_length):
    options = default_options("ppo-lag", num_envs, total_steps)
    assert options.train.unroll_length == unroll_length
    assert options.train.num_iterations >= 600.0


@pytest.mark.parametrize(
    ("total_steps", "num_envs", "unroll_length"),
    [(100_000, 256, 64), (1_000_000, 256, 64), (10_000_000, 1024, 16), (100_000_000, 4096, 40)],
)
def test_an_accelerator_gets_as_many_worlds_as_the_training_is_long(monkeypatch, total_steps, num_envs, unroll_length):
    monkeypatch.setattr(training_options, "on_accelerator", lambda: True)
    options = training_options.default_options("ppo-lag", total_steps=total_steps)
    assert (options.run.num_envs, options.train.unroll_length) == (num_envs, unroll_length)
    assert training_options.default_options("sac-lag").run.num_envs == 256


def test_off_policy_algorithms_have_no_schedule():
    assert not hasattr(default_options("sac-lag").train, "num_iterations")


def test_the_entropy_bonus_ends_at_a_deviation_that_falls():
    """From that of the first policy to the last one, geometrically. Without a last one, it never ends."""
    config = FirstOrderConfig(init_log_std=-0.5, final_std=0.1)
    bounds = [np.exp(bonus_limit(config, progress)) for progress in (0.0, 0.5, 1.0)]
    assert bounds == pytest.approx([np.exp(-0.5), np.sqrt(0.1 * np.exp(-0.5)), 0.1], rel=1e-5)
    assert bonus_limit(config.replace(final_std=float("inf")), 0.0) == np.inf


def test_no_bonus_is_paid_above_that_deviation():
    """Half way, 0.25 lies below the first policy's 0.61 and 0.78 above it. The bonus alone moves the policy here."""
    rises = []
    for settings in ({"final_std": 0.1}, {"final_std": 1.0}, {}):
        held = updates("ppo", entropy_coef=1.0, **settings)
        params, _ = held(advantage=jnp.zeros_like(held.batch.advantage), progress=0.5)
        rises.append(np.asarray(params.policy["log_std"] - held.state.params.policy["log_std"]))
    assert (rises[0] == 0.0).all() and (rises[1] > 0.0).all()
    assert rises[1] == pytest.approx(rises[2])


def test_the_length_of_a_training_gives_its_progress():
    """Rollouts 2 and 10 of 20, the last of 4, and none known."""
    progress = [told_progress(length, rollouts) for length, rollouts in ((20.0, 2), (20.0, 10), (4.0, 6), (np.inf, 6))]
    assert progress == pytest.approx([0.1, 0.5, 1.0, 0.0])


def told_progress(num_iterations, num_rollouts):
    """What an update is told of the training's progress after some rollouts."""

    def update(state, batch, status, key):
        return state, {"told": status.progress}

    venv = vectorize(probe_envs.CostlyTarget(), 32, stagger=True)
    algorithm = on_policy(make_networks((4,)), hard_limit(5.0), lambda params: (), update)
    config = TrainConfig(unroll_length=10, num_iterations=num_iterations)
    step, state = jax.jit(partial(iterate, venv, algorithm, config)), init(venv, algorithm, jax.random.key(0))
    for _ in range(num_rollouts):
        state, metrics = step(state)
    return metrics["told"]


@pytest.mark.parametrize(
    ("algo", "env", "final_std"),
    [
        ("ppo-lag", "SafetyAntVelocity-v1", 0.1),
        ("cup", "SafetyHumanoidVelocity-v0", 0.1),
        ("ppo-lag", "SafetyPointGoal1-v0", np.inf),
        ("ppo-lag", "SafetyAntGoal1-v0", np.inf),
        ("ppo-lag", "SafetySwimmerVelocity-v1", np.inf),
    ],
)
def test_exploration_falls_on_robots_with_a_gait(algo, env, final_std):
    assert parse(["--algo", algo, "--env", env]).algorithm.final_std == final_std
    assert parse(["--algo", algo, f"--env={env}", "--final-std", "0.3"]).algorithm.final_std == 0.3
    assert default_options(algo, env=env).run.env == env


def test_algorithms_without_a_bonus_take_every_robot():
    assert not hasattr(parse(["--algo", "trpo-lag", "--env", "SafetyAntVelocity-v1"]).algorithm, "final_std")
