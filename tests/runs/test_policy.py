"""A policy outlives its training: as a function, as files, by name, and without this package."""

import dataclasses
import json
import pickle
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety.agents import checkpoint, running_stats
from mjx_safety.cli import common, export, render, train
from mjx_safety.runs import loading, policy_files, run_folder
from mjx_safety.runs.evaluation import Evaluator
from mjx_safety.runs.training_options import Options

ENV = "SafetyPointGoal0-v0"
FLAGS = ["--env", ENV, "--num-envs", "4", "--unroll-length", "8", "--total-steps", "64"]
FLAGS += ["--physics", "mujoco", "--no-compilation-cache", "--keep-policies"]
ALGOS = {
    "ppo-lag": ["--num-minibatches", "2"],
    "sac-lag": ["--batch-size", "8", "--random-steps", "16", "--hidden-sizes", "64", "64"],
    "td3-lag": ["--batch-size", "8", "--random-steps", "16", "--hidden-sizes", "64", "64"],
}
DOCS = Path(__file__).parent.parent.parent / "docs" / "policies.md"


SLOW = pytest.param("td3-lag", marks=pytest.mark.slow)  # acts like SAC


@pytest.fixture(scope="module", params=["ppo-lag", "sac-lag", SLOW])
def run(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("policy") / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "set_up_jax", lambda compilation_cache: None)
        assert train.main([*FLAGS, "--algo", request.param, *ALGOS[request.param], "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    """The policy as files of `export`."""
    out = tmp_path_factory.mktemp("files")
    assert export.main([str(run), "--out", str(out / "new" / "policy.npz"), str(out / "policy.onnx")]) == 0
    return out / "new" / "policy.npz", out / "policy.onnx"


def observations(policy, *shape):
    """Raw observations, some far beyond what the normaliser has seen."""
    rng = np.random.default_rng(0)
    spread = rng.choice([0.1, 1.0, 30.0], size=(*shape, policy.obs_size))
    return (np.asarray(policy.actor.obs_mean) + spread * rng.normal(size=spread.shape)).astype(np.float32)


@pytest.mark.thorough
def test_it_acts_as_the_algorithm_does(run):
    policy = mjx_safety.load_policy(run)
    algorithm = Options.from_config(run_folder.read_config(run)).build()
    like = jax.eval_shape(lambda key: algorithm.init(mjx_safety.make(ENV, physics="mujoco"), key), jax.random.key(0))
    agent = checkpoint.restore_agent(checkpoint.latest(run / "checkpoints"), like)
    obs, key = jnp.asarray(observations(policy, 50)), jax.random.key(5)
    normalised = running_stats.normalise(agent.normaliser, obs)
    np.testing.assert_allclose(policy.normalise(obs), normalised, atol=1e-6)
    np.testing.assert_allclose(policy(obs), algorithm.act(agent.params, normalised, None), atol=1e-6)
    noise = jax.random.normal(key, (50, policy.action_size))
    np.testing.assert_allclose(policy(obs, key), algorithm.act(agent.params, normalised, noise), atol=1e-6)
    assert policy.env_id == ENV and policy.origin["env_steps"] == 64


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


@pytest.mark.thorough
def test_a_policy_that_observes_its_budget(tmp_path, monkeypatch, capsys):
    """Its observations have one more entry, evaluations count the true return, and a film is refused."""
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)
    path = tmp_path / "saute"
    flags = ["--algo", "ppo-saute", "--num-minibatches", "2", "--unsafe-reward", "-0.5", "--out", str(path)]
    assert train.main([*FLAGS, *flags]) == 0
    policy = mjx_safety.load_policy(path)
    env = mjx_safety.make(policy.env_id, physics="mujoco")
    assert policy.obs_size == env.obs_size + 1 and policy(jnp.zeros(policy.obs_size)).shape == (env.action_size,)
    evaluator = Evaluator(1, 0)
    trained = evaluator.load(path, "mujoco")
    assert trained.config["constraint"]["unsafe_reward"] == -0.5
    assert evaluator.worlds(trained.run_flags, "mujoco").obs_size == policy.obs_size
    assert render.main([str(path), "--out", str(tmp_path / "film.mp4")]) == 2
    assert "the policy of ppo-saute observes its cost budget" in " ".join(capsys.readouterr().err.split())


def test_it_steps_the_environment_of_its_training(run):
    policy = mjx_safety.load_policy(run)
    env = mjx_safety.make(policy.env_id, physics="mujoco")
    assert policy.obs_slices == env.obs_slices and policy.action_names == ("forward", "turn")
    state = env.reset(jax.random.key(0))
    assert np.isfinite(env.step(state, policy(state.obs)).obs).all()


def test_a_file_is_the_policy_of_its_run(run, files):
    first, second = mjx_safety.load_policy(run), mjx_safety.load_policy(files[0])
    obs, key = observations(first, 4), jax.random.key(1)
    np.testing.assert_array_equal(second(obs), first(obs))
    np.testing.assert_array_equal(second(obs, key), first(obs, key))
    for field in ("env_id", "obs_size", "action_size", "obs_slices", "action_names"):
        assert getattr(second, field) == getattr(first, field)
    assert second.origin["config"]["run"]["env"] == ENV and second.origin["versions"]["jax"]


def test_policies_are_kept_along_the_training(run):
    kept = sorted((run / "policies").iterdir())
    assert kept[-1].name == "000000000064.npz"
    obs = observations(mjx_safety.load_policy(run), 3)
    np.testing.assert_array_equal(mjx_safety.load_policy(kept[-1])(obs), mjx_safety.load_policy(run)(obs))


def test_onnx_agrees_to_six_digits(run, files):
    runtime = pytest.importorskip("onnxruntime")
    policy = mjx_safety.load_policy(run)
    session = runtime.InferenceSession(str(files[1]), providers=["CPUExecutionProvider"])
    assert [(node.name, node.shape) for node in session.get_inputs()] == [("obs", ["N", policy.obs_size])]
    for num in (1, 300):
        obs = observations(policy, num)
        (action,) = session.run(["action"], {"obs": obs})
        assert action.shape == (num, policy.action_size)
        np.testing.assert_allclose(action, policy(obs), atol=1e-6)
    about = json.loads(session.get_modelmeta().custom_metadata_map["about"])
    assert about["observation"]["slices"]["goal_lidar"] and about["action"]["names"] == ["forward", "turn"]


def test_the_loader_of_the_docs_needs_only_numpy(run, files):
    (text,) = [
        block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL) if "def load" in block
    ]
    assert set(re.findall(r"^import (\w+)", text, re.MULTILINE)) == {"json", "numpy"}
    names = {}
    exec(text, names)
    act, about = names["load"](files[0])
    policy = mjx_safety.load_policy(run)
    obs = observations(policy, 20)
    np.testing.assert_allclose(act(obs), policy(obs), atol=1e-6)
    assert about["env"] == ENV and about["origin"]["env_steps"] == 64


def test_names_of_a_folder_of_ones_own(run, files, tmp_path, monkeypatch):
    shutil.copytree(files[0].parent, tmp_path / "mine" / ENV)
    assert mjx_safety.load_policy(tmp_path / "mine" / ENV / "policy").env_id == ENV
    monkeypatch.setattr(loading, "SHIPPED", tmp_path / "mine")
    assert loading.shipped_policies() == (f"{ENV}/policy",)
    assert mjx_safety.load_policy(f"{ENV}/policy").env_id == ENV
    with pytest.raises(ValueError, match=f"no shipped policy .did you mean {ENV}/policy"):
        mjx_safety.load_policy(f"{ENV}/polcy")


@pytest.mark.parametrize("name", loading.shipped_policies())
def test_shipped_policies_fit_their_environments(name):
    policy = mjx_safety.load_policy(name)
    env_id, algo = name.split("/")
    assert (policy.env_id, policy.origin["config"]["run"]["algo"]) == (env_id, algo)
    env = mjx_safety.make(env_id, physics="mujoco")
    assert (policy.obs_size, policy.action_size, policy.obs_slices) == (env.obs_size, env.action_size, env.obs_slices)
    assert np.isfinite(policy(np.zeros(policy.obs_size))).all()
    assert loading.find_file(name).stat().st_size < 200_000


def test_it_prints_as_one_line():
    policy = mjx_safety.load_policy("SafetyPointGoal1-v0/ppo-lag")
    seed = policy.origin["config"]["run"]["seed"]  # the best one of the campaign so far
    assert repr(policy) == f"Policy(SafetyPointGoal1-v0, by ppo-lag, seed {seed}, 9,994,240 steps, [60] -> [2])"


def test_there_is_a_shipped_policy():
    assert f"{ENV.replace('0', '1', 1)}/ppo-lag" in loading.shipped_policies()


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


def test_wrong_files_are_told(files, tmp_path, capsys):
    for name, content in (("text.npz", b"no zip"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is no policy of mjx_safety.export"):
            mjx_safety.load_policy(tmp_path / name)
    newer = mjx_safety.load_policy(files[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_files, "FORMAT", 99)
        policy_files.write_npz(newer, tmp_path / "newer.npz")
    with pytest.raises(ValueError, match="it has format 99, and this version reads 1"):
        mjx_safety.load_policy(tmp_path / "newer.npz")
    for flags, sentence in (
        ([str(files[0]), "--out"], "--out has no value; name one or more, or leave it out"),
        ([str(files[0]), "--out", "policy.pt"], "--out policy.pt is of no known kind; it must end in: .npz, .onnx"),
        (["absent.npz"], "absent.npz is no run folder, no .npz file and no shipped policy"),
    ):
        assert export.main(flags) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())


def test_the_best_seed_is_the_one_that_is_shipped(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS.parent.parent / "benchmarks"))
    import policies as script

    def result(gain, cost, algo="cpo", ci95=0.5, seed=0):
        mean = {"episode_return_mean": gain, "episode_cost_mean": cost, "over_limit_share": 0.5, "num_episodes": 8.0}
        mean["episode_cost_ci95"] = ci95
        known = {"env": ENV, "algo": algo, "cost_limit": 25.0, "physics": "mujoco", "evaluation_seed": 1000}
        known["seed"] = seed
        return known | {"policies": {"mean": mean}}

    assert script.best([result(20, 24), result(22, 25), result(30, 26)]) == 1
    assert script.best([result(20, 24), result(22, 25), result(30, 26, ci95=1.5)]) == 2  # it may well keep the limit
    assert script.best([result(20, 44), result(22, 35), result(30, 36)]) == 1
    assert script.best([result(20, 44, "ppo"), result(22, 35, "ppo"), result(30, 60, "ppo")]) == 2
    for name, gain in (("a", 1.0), ("b", 2.0)):
        shutil.copytree(run, tmp_path / "runs" / name)
        (tmp_path / "runs" / name / "evaluation.json").write_text(json.dumps(result(gain, 10.0)))
    (tmp_path / "runs" / "not a run").mkdir()
    (file,) = script.write_best(sorted((tmp_path / "runs").iterdir()), tmp_path / "out")
    assert file == tmp_path / "out" / ENV / "cpo.npz"
    origin = mjx_safety.load_policy(file).origin
    assert origin["evaluation"]["episode_return_mean"] == 2.0 and origin["num_seeds"] == 2
    rows = [result(2.0, 10.0), result(1.5, 10.0, seed=3), result(3.0, 10.0, seed=4)]  # the last one is gone
    assert script.write_best([], tmp_path / "out", rows) == [file]
    kept = mjx_safety.load_policy(file).origin
    assert kept["num_seeds"] == 3 and kept["evaluation"] == origin["evaluation"]
    assert script.write_best([], tmp_path / "out", rows[1:]) == []


def test_settings_of_the_program_around_it_change_nothing():
    policy = mjx_safety.load_policy("SafetyPointGoal1-v0/ppo-lag")
    obs, key = observations(policy, 5), jax.random.key(0)
    expected = policy(obs, key)
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        same = mjx_safety.load_policy("SafetyPointGoal1-v0/ppo-lag")(jnp.asarray(obs, jnp.float64), key)
        assert policy.normalise(np.zeros(60)).dtype == jnp.float32
    assert same.dtype == jnp.float32
    np.testing.assert_allclose(same, expected, atol=1e-6)


def test_a_policy_is_a_value(run):
    policy = mjx_safety.load_policy(run)
    louder = dataclasses.replace(policy, actor=policy.actor.replace(obs_clip=0.0))
    assert not np.allclose(louder(observations(policy, 3)), policy(observations(policy, 3)))


@pytest.fixture
def shipped():
    return mjx_safety.load_policy("SafetyPointGoal1-v0/ppo-lag")


def test_a_policy_that_has_acted_can_be_pickled(shipped):
    obs = observations(shipped, 3)
    expected = shipped(obs)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shipped))(obs), expected)


def test_a_policy_may_be_a_static_argument(shipped):
    obs = jnp.asarray(observations(shipped, 3))
    actions = jax.jit(lambda policy, obs: policy(obs), static_argnums=0)(shipped, obs)
    np.testing.assert_allclose(actions, shipped(obs), atol=1e-6)
    np.testing.assert_allclose(jax.jit(shipped)(obs), shipped(obs), atol=1e-6)
    assert shipped != mjx_safety.load_policy("SafetyPointGoal1-v0/ppo-lag")


def test_numpy_observations_may_meet_traced_keys(shipped):
    obs, keys = observations(shipped, 2), jax.random.split(jax.random.key(0), 3)
    actions = jax.vmap(lambda key: shipped(obs, key))(keys)
    np.testing.assert_allclose(actions[1], shipped(obs, keys[1]), atol=1e-6)
    assert jax.jit(lambda: shipped(obs))().shape == (2, 2)


def test_wrong_keys_of_a_policy_are_told(shipped):
    obs = observations(shipped, 3)
    for wrong in (3, jax.random.split(jax.random.key(0), 3)):
        with pytest.raises(ValueError, match=r"policy got .* as its key; .*for a key each, use jax\.vmap"):
            shipped(obs, wrong)
    np.testing.assert_array_equal(shipped(obs, jax.random.PRNGKey(0)), shipped(obs, jax.random.key(0)))
    with pytest.raises(ValueError, match=r"obs has shape \(59,\); the policy of .* takes \[\.\.\., 60\]"):
        shipped.normalise(np.zeros(59))
