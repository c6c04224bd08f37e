"""Policies of run folders as functions."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety.cli import common, train
from mjx_safety.cli.evaluate import Evaluator

FLAGS = ["--env", "SafetyPointGoal0-v0", "--num-envs", "4", "--unroll-length", "8", "--total-steps", "64"]
FLAGS += ["--physics", "mujoco", "--no-compilation-cache"]
ALGOS = {"ppo-lag": ["--num-minibatches", "2"], "sac-lag": ["--batch-size", "8", "--random-steps", "16"]}


@pytest.fixture(scope="module", params=ALGOS)
def run(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("policy") / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "set_up_jax", lambda compilation_cache: None)
        assert train.main([*FLAGS, "--algo", request.param, *ALGOS[request.param], "--out", str(path)]) == 0
    return path


def test_it_acts_as_the_evaluation_does(run):
    policy = mjx_safety.load_policy(run)
    trained = Evaluator(1, 0).load(run, "mujoco")
    obs = jax.random.normal(jax.random.key(0), (5, policy.obs_size))
    algorithm = trained.options.build()
    from mjx_safety.agents import running_stats

    expected = algorithm.act(trained.params, running_stats.normalise(trained.normaliser, obs), None)
    np.testing.assert_allclose(policy(obs), expected, atol=1e-6)
    assert policy.env_id == "SafetyPointGoal0-v0" and policy(obs).shape == (5, policy.action_size)


def test_one_observation_a_batch_numpy_and_jax(run):
    policy = mjx_safety.load_policy(str(run))
    obs = np.random.default_rng(0).normal(size=(3, policy.obs_size))
    actions = policy(obs)
    assert isinstance(actions, np.ndarray) and isinstance(policy(jnp.asarray(obs)), jax.Array)
    np.testing.assert_allclose(policy(obs[1]), actions[1], atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(policy))(jnp.asarray(obs)), actions, atol=1e-6)


def test_samples_need_a_key(run):
    policy, key = mjx_safety.load_policy(run), jax.random.key(3)
    obs = jnp.zeros(policy.obs_size)
    assert not np.array_equal(policy(obs, key), policy(obs))
    np.testing.assert_array_equal(policy(obs, key), policy(obs, key))
    np.testing.assert_array_equal(policy(obs, key, deterministic=True), policy(obs))
    with pytest.raises(ValueError, match="deterministic=False needs a key"):
        policy(obs, deterministic=False)


def test_it_steps_the_environment_of_its_training(run):
    policy = mjx_safety.load_policy(run)
    env = mjx_safety.make(policy.env_id, physics="mujoco")
    assert policy.obs_slices == env.obs_slices
    state = env.reset(jax.random.key(0))
    assert np.isfinite(env.step(state, policy(state.obs)).obs).all()


def test_wrong_sizes_and_folders_are_told(run, tmp_path):
    policy = mjx_safety.load_policy(run)
    with pytest.raises(
        ValueError, match=r"obs has shape \(3,\); the policy of SafetyPointGoal0-v0 takes \[\.\.\., \d+\]"
    ):
        policy(jnp.zeros(3))
    with pytest.raises(ValueError, match="is not a run folder"):
        mjx_safety.load_policy(tmp_path)
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"run": {"unknown": 1}}))
    with pytest.raises(ValueError, match="does not fit this version"):
        mjx_safety.load_policy(copied)
    shutil.rmtree(copied / "checkpoints")
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        mjx_safety.load_policy(copied)
