"""The policy of a training in Python: a function, and a file that the command line reads."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety.agents import PPOConfig, TrainConfig, init, iterate, lagrangian, ppo, running_stats, unconstrained
from mjx_safety.agents.saute import BudgetWorlds
from mjx_safety.cli import common, evaluate

ENV = "SafetyPointGoal1-v0"
ALGORITHM = ppo(PPOConfig(hidden_sizes=(8,), num_minibatches=2), lagrangian({"hazards": 3.0}))


@pytest.fixture(scope="module")
def venv():
    return mjx_safety.vectorize(mjx_safety.make(ENV, physics="mujoco"), 4)


@pytest.fixture(scope="module")
def learn(venv):
    config = TrainConfig(unroll_length=4)
    return jax.jit(lambda state: iterate(venv, ALGORITHM, config, state)[0], donate_argnums=0)


@pytest.fixture(scope="module")
def trained(venv, learn):
    return learn(init(venv, ALGORITHM, jax.random.key(0)))


def test_it_acts_as_the_algorithm_and_outlives_the_state(venv, learn, trained):
    state = jax.tree.map(jnp.copy, trained)
    policy = mjx_safety.make_policy(venv, ALGORITHM, state, env_id=ENV)
    obs = venv.reset(jax.random.key(1)).obs
    expected = ALGORITHM.act(state.params, running_stats.normalise(state.normaliser, obs), None)
    learn(state)
    np.testing.assert_allclose(policy(obs), expected, atol=1e-6)
    assert policy.obs_slices == venv.env.obs_slices and policy.action_names == ("forward", "turn")
    assert policy.origin["env_steps"] == 16
    with pytest.raises(ValueError, match=r"used up by a later call.*chunk\.state"):
        mjx_safety.make_policy(venv, ALGORITHM, state, env_id=ENV)


def test_a_file_of_it_acts_the_same_and_can_be_evaluated(venv, trained, tmp_path, monkeypatch, capsys):
    policy = mjx_safety.make_policy(venv, ALGORITHM, trained, env_id=ENV, algo="ppo-lag", seed=7)
    mjx_safety.save_policy(policy, tmp_path / "new" / "mine.npz")
    again = mjx_safety.load_policy(tmp_path / "new" / "mine.npz")
    obs = venv.reset(jax.random.key(1)).obs
    np.testing.assert_array_equal(again(obs), policy(obs))
    assert repr(again) == f"Policy({ENV}, by ppo-lag, seed 7, 16 steps, [60] -> [2])"
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)
    words = [str(tmp_path / "new" / "mine.npz"), "--episodes", "2", "--action", "mean", "--physics", "mujoco", "--json"]
    assert evaluate.main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["algo"] == "ppo-lag" and result["env_steps"] == 16


def test_worlds_under_a_cost_budget_keep_what_is_known_of_the_environment(venv):
    algorithm, budget = ppo(PPOConfig(hidden_sizes=(8,), num_minibatches=2), unconstrained()), BudgetWorlds(venv, 25.0)
    policy = mjx_safety.make_policy(budget, algorithm, init(budget, algorithm, jax.random.key(0)), env_id=ENV)
    assert policy.obs_size == 61 and policy.obs_slices == venv.env.obs_slices
    assert policy.action_names == ("forward", "turn")
    assert policy.origin["config"]["run"]["physics"] == "mujoco"


def test_what_is_no_state_of_one_training_is_refused(venv, trained):
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), trained)
    with pytest.raises(ValueError, match="the state holds 2 trainings; choose one"):
        mjx_safety.make_policy(venv, ALGORITHM, several, env_id=ENV)
    with pytest.raises(ValueError, match=r"got a VecState as its state; it takes a TrainState"):
        mjx_safety.make_policy(venv, ALGORITHM, trained.env_state, env_id=ENV)
    with pytest.raises(ValueError, match="env_id is ''"):
        mjx_safety.make_policy(venv, ALGORITHM, trained, env_id="")


def test_a_file_of_an_unknown_kind_is_refused(venv, trained, tmp_path):
    policy = mjx_safety.make_policy(venv, ALGORITHM, trained, env_id=ENV)
    with pytest.raises(ValueError, match=r"mine\.pt is of no known kind; it must end in: \.npz, \.onnx"):
        mjx_safety.save_policy(policy, tmp_path / "mine.pt")
