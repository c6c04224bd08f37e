"""`evaluate --policy` judges functions and files of others as it judges our own policies."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest
from agents import probe_envs

from mjx_safety.agents import actor, evaluate, run_episodes_on_host
from mjx_safety.agents.types import Actor
from mjx_safety.cli import common, export
from mjx_safety.cli import evaluate as command
from mjx_safety.env.vector import vectorize
from mjx_safety.runs import environments, policy_files
from mjx_safety.runs.policy import Policy

ENV = "SafetyPointGoal1-v0"
MODULE = f'''
import numpy as np

def act(obs):
    return 0.5 * obs[:, :1]

act.env_id = "{ENV}"

def anonymous(obs):
    return act(obs)

def flat(obs):
    return obs[:, 0]

def broken(obs):
    return np.full((len(obs), 1), np.nan)

def pair(obs):
    return flat(obs), None

number = 3
'''


@pytest.fixture(autouse=True)
def probe(monkeypatch, tmp_path):
    """The environment is a toy world, and the folder has a module of the user's."""
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: probe_envs.Target())
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)
    (tmp_path / "users_policy.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("users_policy", None)


def linear(gain):
    """The policy `action = clip(gain * obs[0])`."""
    weights = (np.array([[gain], [0.0], [0.0]], np.float32),)
    agent = Actor(np.zeros(3, np.float32), np.ones(3, np.float32), weights, (np.zeros(1, np.float32),), np.zeros(1))
    run = {"env": ENV, "algo": "ppo", "seed": 3, "cost_limit": 7.0, "cost_limits": [], "physics": "mujoco"}
    origin = {"config": {"run": run}, "env_steps": 640, "versions": {}}
    return Policy(ENV, 3, 1, {}, (), agent, origin)


def ask(capsys, *argv):
    assert command.main([*argv, "--episodes", "16", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_function_a_file_and_onnx_get_the_same_statistics(tmp_path, capsys):
    policy_files.write_npz(linear(0.5), tmp_path / "linear.npz")
    assert export.main(["linear.npz", "--out", "linear.onnx"]) == 0
    capsys.readouterr()
    ours = ask(capsys, "linear.npz", "--action", "mean")
    older = ask(capsys, "linear.npz", "--policy", "mean")  # the name of the flag in earlier versions
    assert older["policies"] == ours["policies"]
    for source in ("users_policy:act", "linear.onnx", "linear.npz"):
        result = ask(capsys, "--policy", source, *(["--cost-limit", "7"] if source == "users_policy:act" else []))
        assert result["cost_limit"] == 7.0  # of the training, where it is known
        assert result["policies"]["function"] == pytest.approx(ours["policies"]["mean"], rel=1e-5)
        assert (result["algo"], result["env"], result["seed"]) == (source, ENV, None)
    assert 19.0 < ours["policies"]["mean"]["episode_return_mean"] <= 20.0  # nearly the best there is
    assert (ours["algo"], ours["seed"], ours["env_steps"], ours["cost_limit"]) == ("ppo", 3, 640, 7.0)
    assert not list(tmp_path.glob("evaluation*"))


@pytest.mark.parametrize("suffix", ["npz", "onnx"])
def test_a_file_has_the_dynamics_of_its_training_in_its_own_environment(suffix, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnx")
    made = []

    def build_env(env_id, physics, *, randomize=()):
        made.append((env_id, tuple(randomize)))
        return probe_envs.Target()

    monkeypatch.setattr(environments, "build_env", build_env)
    policy = linear(0.5)
    policy.origin["config"]["run"]["randomize"] = ["mass=0.5,1.5"]
    policy_files.write(policy, tmp_path / f"light.{suffix}")
    ask(capsys, "--policy", f"light.{suffix}")
    ask(capsys, "--policy", f"light.{suffix}", "--randomize", "none")
    ask(capsys, "--policy", f"light.{suffix}", "--env", "SafetyPointGoal2-v0")
    assert made == [(ENV, ("mass=0.5,1.5",)), (ENV, ("mass=0.5,1.5", "none")), ("SafetyPointGoal2-v0", ())]


def test_a_policy_that_does_not_observe_the_dynamics_cannot_be_shown_them(tmp_path, capsys, monkeypatch):
    def build_env(env_id, physics, *, randomize=()):
        return probe_envs.Target(obs_size=4 if "observed" in randomize else 3)

    monkeypatch.setattr(environments, "build_env", build_env)
    policy_files.write_npz(linear(0.5), tmp_path / "linear.npz")
    for words in (["linear.npz"], ["--policy", "linear.npz"]):
        assert command.main([*words, "--randomize", "observed"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "--randomize observed adds to the observations, and linear.npz was trained without it" in said


def test_tables_of_a_function(capsys):
    assert command.main(["--policy", "users_policy:act", "--episodes", "4"]) == 0
    said = capsys.readouterr().out
    assert f"users_policy:act on {ENV}: 4 episodes per policy" in said and "its action" in said
    assert "Trained with" not in said


def test_onnx_graphs_of_one_observation_work(tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    policy_files.write_onnx(linear(0.5), tmp_path / "one.onnx")
    model = onnx.load(tmp_path / "one.onnx")
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "one.onnx")
    result = ask(capsys, "--policy", "one.onnx", "--env", ENV)
    assert 19.0 < result["policies"]["function"]["episode_return_mean"] <= 20.0


def test_the_host_loop_is_the_compiled_one():
    venv, agent, key = vectorize(probe_envs.Random(), 32), linear(0.1).actor, jax.random.key(2)
    algorithm = type("Fixed", (), {"act": staticmethod(lambda params, obs, noise: actor.act(agent, obs, noise))})
    normaliser = probe_envs_normaliser()
    compiled = evaluate(venv, algorithm, None, normaliser, key, sampled=False)
    on_host = run_episodes_on_host(venv, lambda obs: np.asarray(actor.act(agent, obs)), key)
    for name in ("episode_return", "episode_cost", "episode_length", "longest_cost_run"):
        np.testing.assert_allclose(getattr(on_host, name), getattr(compiled, name), rtol=1e-5)
    assert np.asarray(on_host.episode_length).std() > 0.0  # episodes of many lengths


def probe_envs_normaliser():
    """Statistics with which normalising changes next to nothing."""
    from mjx_safety.agents import running_stats

    return running_stats.init(3)


@pytest.mark.parametrize("liar", [False, True])
def test_a_file_imports_what_it_names_only_if_it_is_trusted(liar, tmp_path, capsys):
    """Also a file that names an environment of the package, but a module as that of its training."""
    stranger = dataclasses.replace(linear(0.5), env_id=ENV if liar else "evil:make")
    stranger.origin["config"]["run"]["env"] = "evil:make"
    policy_files.write_npz(stranger, tmp_path / "stranger.npz")
    policy_files.write_onnx(stranger, tmp_path / "stranger.onnx")
    lines = (
        [["stranger.npz"]] if liar else [["stranger.npz"], ["--policy", "stranger.npz"], ["--policy", "stranger.onnx"]]
    )
    for words in lines:
        assert command.main([*words, "--episodes", "2"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert (
            f"{words[-1]} asks for the environment evil:make, which is code of a module; allow it with --trust" in said
        )
        assert ask(capsys, *words, "--trust")["num_episodes"] == 16
    assert ask(capsys, "--policy", "stranger.onnx", "--env", ENV)["env"] == ENV


def test_a_file_that_does_not_say_how_it_was_trained(tmp_path, capsys):
    policy_files.write_npz(dataclasses.replace(linear(0.5), origin={}), tmp_path / "plain.npz")
    assert command.main(["plain.npz"]) == 2
    assert "does not say how it was trained: it lacks 'config'" in " ".join(capsys.readouterr().err.split())
    assert ask(capsys, "--policy", "plain.npz")["env"] == ENV


def write_graphs(folder):
    """Graphs that do not fit: too wide, with nine actions, with other metadata, and a wide one of unknown width."""
    onnx = pytest.importorskip("onnx")
    agent = linear(0.5).actor
    kinds = {"wide": (4, 1), "nine": (3, 9), "list": (3, 1), "typed": (3, 1), "free": (4, 1)}
    for name, sizes in kinds.items():
        weights, biases = (np.zeros(sizes, np.float32),), (np.zeros(sizes[1], np.float32),)
        mean, std = np.zeros(sizes[0], np.float32), np.ones(sizes[0], np.float32)
        actor = agent.replace(obs_mean=mean, obs_std=std, weights=weights, biases=biases)
        policy = dataclasses.replace(linear(0.5), obs_size=sizes[0], action_size=sizes[1], actor=actor)
        policy_files.write_onnx(policy, folder / f"{name}.onnx")
    for name in ("list", "typed", "free"):
        model = onnx.load(folder / f"{name}.onnx")
        model.metadata_props[0].value = "[1]" if name == "list" else "{}"
        if name == "typed":
            about = {"env": ENV, "origin": {"config": {"run": {"randomize": "mass"}}}}
            model.metadata_props[0].value = json.dumps(about)
        if name == "free":
            model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "O"
        onnx.save(model, folder / f"{name}.onnx")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--policy", "users_policy:anonymous"], "users_policy:anonymous does not name its environment; say it with"),
        (["--policy", "users_policy:absent"], "module 'users_policy' has no 'absent', asked for by policy"),
        (["--policy", "users_policy:number"], "'users_policy:number' is not a function of observations"),
        (["--policy", "absent:act"], "cannot import 'absent' of policy 'absent:act'"),
        (
            ["--policy", "users_policy:flat", "--env", ENV],
            "returned actions of shape (4,); they must be [B, A] = (4, 1)",
        ),
        (["--policy", "users_policy:broken", "--env", ENV], "returned an action that is not finite"),
        (["--policy", "users_policy:pair", "--env", ENV], "returned a tuple; it must return an array of actions"),
        (["--policy", "absent.onnx"], "absent.onnx does not exist"),
        (["--policy", "wide.npz"], "wide.npz has obs_size 4, and SafetyPointGoal1-v0 has 3; they must be equal"),
        (["--policy", "wide.onnx"], "wide.onnx has obs_size 4, and SafetyPointGoal1-v0 has 3; they must be equal"),
        (["--policy", "nine.onnx"], "nine.onnx has action_size 9, and SafetyPointGoal1-v0 has 1; they must be equal"),
        (["--policy", "list.onnx"], "list.onnx has metadata 'about' that is no mapping in JSON"),
        (
            ["--policy", "typed.onnx"],
            "with wrong entries: its training has randomize 'mass'; it must be a list of texts",
        ),
        (["--policy", "free.onnx", "--env", ENV], "free.onnx cannot act on observations [4, 3]: "),
        (["linear.npz", "--randomize"], "--randomize has no value; name one or more, or leave it out"),
        (["--policy", "text.onnx"], "text.onnx is no ONNX model that onnxruntime can run"),
        (["--policy", "both"], "no run folder is given"),
        (["--policy", "maen"], "maen is no run folder, no .npz file and no shipped policy"),
        (["--policy", "users_policy:act", "--action", "mean"], "--action mean is for runs; a function or a file"),
        (["runs/a", "--policy", "users_policy:act"], "a function or a file is judged alone, without runs/a"),
        (["linear.npz", "--env", ENV], "is for --policy package.module:function; a run has its own environment"),
        (["linear.npz", "--cost-limit", "-1"], "--cost-limit is -1.0; it must be at least 0"),
        (["wide.npz"], "wide.npz has obs_size 4, and SafetyPointGoal1-v0 has 3; they must be equal"),
    ],
)
def test_wrong_input(flags, sentence, tmp_path, capsys):
    (tmp_path / "text.onnx").write_text("no graph")
    policy_files.write_npz(linear(0.5), tmp_path / "linear.npz")
    wide = linear(0.5)
    network = wide.actor.replace(obs_mean=np.zeros(4), obs_std=np.ones(4), weights=(np.zeros((4, 1)),))
    wide = dataclasses.replace(wide, obs_size=4, actor=network)
    policy_files.write_npz(wide, tmp_path / "wide.npz")
    write_graphs(tmp_path)
    assert command.main([*flags, "--episodes", "4"]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
