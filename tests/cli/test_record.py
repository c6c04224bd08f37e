"""Data sets: what is recorded is what happened, in the formats of DSRL and Minari, and a policy can learn from it."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from agents import probe_envs

import mjx_safety
from mjx_safety.agents import actor, evaluate
from mjx_safety.agents.types import Actor
from mjx_safety.cli import clone, common, record
from mjx_safety.cli import evaluate as evaluating
from mjx_safety.env.vector import vectorize
from mjx_safety.runs import datasets, environments, policy_files
from mjx_safety.runs.policy import Policy
from mjx_safety.runs.recording import Episode, Recorder

h5py = pytest.importorskip("h5py")
ENV = "SafetyPointGoal1-v0"
RUN = {"env": ENV, "algo": "ppo", "seed": 3, "cost_limit": 7.0, "cost_limits": [], "physics": "mujoco"}


class Ending(probe_envs.Target):
    """Episodes of many lengths; a cost where the first action is negative."""

    def outcome(self, state, action, key):
        return super().outcome(state, action, key)[0], (action[0] < 0).astype("float32")

    def ends(self, key):
        return jax.random.uniform(key) < 0.05


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: Ending())
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)
    monkeypatch.setattr(record, "evaluation_key", jax.random.key)
    monkeypatch.chdir(tmp_path)
    for name, gain in (("good", 0.5), ("bad", -0.5)):
        policy_files.write_npz(linear(gain), tmp_path / f"{name}.npz")


def linear(gain, obs_size=3, env_id=ENV, **changed):
    weights = (np.eye(obs_size, 1, dtype=np.float32) * gain,)
    agent = Actor(np.zeros(obs_size), np.ones(obs_size), weights, (np.zeros(1),), np.full(1, -3.0))
    run = {**RUN, **changed}
    return Policy(env_id, obs_size, 1, {}, (), agent, {"config": {"run": run}, "env_steps": 640, "versions": {}})


@pytest.mark.parametrize(
    ("outcomes", "shown"),
    [([(1.0, 2.0), (3.0, 6.0)], ("2.00 ± 1.41", "4.0 ± 2.8")), ([(1.0, 2.0)], ("1.00 ± 0.00", "2.0 ± 0.0"))],
)
def test_the_table_shows_sample_standard_deviations(outcomes, shown, capsys):
    record._report(["good"], [outcomes], [7.0])
    said = capsys.readouterr().out
    assert all(words in said for words in shown)


def test_an_episode_is_what_happened():
    """Replaying the recorded actions in the same worlds gives the recorded observations, rewards and costs."""
    venv, key = vectorize(Ending(), 6), jax.random.key(4)
    (episodes,) = Recorder(venv).record(linear(0.5).actor, key, 5, 0, sampled=False)
    assert len(episodes) == 5 and len({len(episode.reward) for episode in episodes}) > 1
    totals = evaluate(venv, fixed(linear(0.5).actor), None, identity(), jax.random.fold_in(key, 0), sampled=False)
    for i, episode in enumerate(episodes):
        assert len(episode.obs) == len(episode.reward) + 1 == totals.episode_length[i] + 1
        np.testing.assert_allclose(episode.action, actor.act(linear(0.5).actor, episode.obs[:-1]), atol=1e-6)
        assert episode.episode_return == pytest.approx(float(totals.episode_return[i]), rel=1e-5)
        assert episode.episode_cost == float(totals.episode_cost[i]) == (episode.action[:, 0] < 0).sum()
        assert episode.terminated == (len(episode.reward) < 20) or len(episode.reward) == 20


def fixed(agent):
    return type("Fixed", (), {"act": staticmethod(lambda params, obs, noise: actor.act(agent, obs, noise))})


def identity():
    from mjx_safety.agents import running_stats

    return running_stats.init(3)


def test_an_episode_keeps_its_first_and_last_observation():
    venv = vectorize(Ending(), 3)
    (episodes,) = Recorder(venv).record(linear(0.5).actor, jax.random.key(0), 3, 0, sampled=True)
    states = venv.reset(jax.random.split(jax.random.fold_in(jax.random.key(0), 0))[0])
    for step in range(3):
        alive = [i for i, episode in enumerate(episodes) if step < len(episode.reward)]
        np.testing.assert_allclose(np.asarray(states.obs)[alive], [episodes[i].obs[step] for i in alive], atol=1e-6)
        actions = np.stack([e.action[step] if step < len(e.reward) else np.zeros(1) for e in episodes])
        states = venv.step(states, actions.astype(np.float32))
        np.testing.assert_allclose(
            np.asarray(states.final_obs)[alive], [episodes[i].obs[step + 1] for i in alive], atol=1e-6
        )


def test_a_mixture_in_the_format_of_dsrl(tmp_path, capsys):
    assert record.main(["good.npz", "bad.npz", "--episodes", "21", "--num-envs", "4", "--out", "new/data.hdf5"]) == 0
    said = capsys.readouterr().out
    assert "Wrote new/data.hdf5: 21 episodes" in said and "within 7" in said
    assert (tmp_path / "new" / "data.png").stat().st_size > 1000
    with h5py.File(tmp_path / "new" / "data.hdf5") as file:
        assert set(file) == set(datasets.KEYS)
        num = len(file["rewards"])
        shapes = {name: file[name].shape for name in file}
        assert file["observations"].dtype == np.float32 and file["terminals"].dtype == bool
        about = json.loads(file.attrs["about"])
        assert np.bincount(file.attrs["episode_policies"]).tolist() == [11, 10]
    assert shapes == {name: (num, 3) if "obs" in name else (num, 1) if name == "actions" else (num,) for name in shapes}
    assert about["env"] == ENV and about["policies"] == ["good.npz", "bad.npz"] and "command" not in about["machine"]
    arrays, _ = datasets.read("new/data.hdf5")
    bounds = datasets.episode_bounds(arrays)
    assert len(bounds) == 22 and bounds[-1] == num
    for start, end in itertools.pairwise(bounds):
        np.testing.assert_array_equal(
            arrays["observations"][start + 1 : end], arrays["next_observations"][start : end - 1]
        )
        assert not (arrays["terminals"] | arrays["timeouts"])[start : end - 1].any()
        assert arrays["timeouts"][end - 1] == (not arrays["terminals"][end - 1])
    assert np.abs(arrays["actions"]).max() <= 1.0
    gains = datasets.episode_sums(arrays, "rewards") / np.diff(bounds)
    assert gains[:11].mean() > gains[11:].mean() + 0.3  # the good policy first


def test_worlds_are_those_of_the_trainings_unless_the_user_says_others(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(
        environments, "build_env", lambda env_id, physics, randomize=(): made.append(randomize) or Ending()
    )
    policy_files.write_npz(linear(0.5, randomize=["mass=0.8,1.2"]), tmp_path / "robust.npz")
    flags = ["--episodes", "4", "--num-envs", "2", "--out"]
    assert record.main(["robust.npz", *flags, "robust.hdf5"]) == 0
    assert datasets.read("robust.hdf5")[1]["randomize"] == ["mass=0.8,1.2"]
    assert record.main(["good.npz", "robust.npz", *flags, "mixed.hdf5"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    both = "good.npz was trained with no --randomize and robust.npz with --randomize mass=0.8,1.2"
    assert f"{both}; name the dynamics of the worlds with --randomize" in said
    assert record.main(["good.npz", "robust.npz", "--randomize", "gain=0.9,1.1", *flags, "mixed.hdf5"]) == 0
    assert made == [("mass=0.8,1.2",), ("gain=0.9,1.1",)]
    assert clone.main(["mixed.hdf5", "--cost-limit", "inf", "--num-updates", "2", "--hidden-sizes", "4"]) == 0
    assert made[2:] == [("gain=0.9,1.1",)]
    origin = mjx_safety.load_policy("cloned.npz").origin
    assert origin["config"]["run"]["randomize"] == ["gain=0.9,1.1"]


def test_another_environment_has_the_dynamics_of_the_training_too(monkeypatch, capsys):
    made = []
    monkeypatch.setattr(
        environments, "build_env", lambda env_id, physics, randomize=(): made.append(randomize) or Ending()
    )
    policy_files.write_npz(linear(0.5, randomize=["mass=0.8,1.2"]), Path("robust.npz"))
    flags = ["--episodes", "4", "--num-envs", "2", "--env", "SafetyPointGoal2-v0", "--out"]
    assert record.main(["robust.npz", *flags, "a.hdf5"]) == 0
    assert record.main(["good.npz", "robust.npz", *flags, "b.hdf5"]) == 2
    assert "name the dynamics of the worlds with --randomize" in " ".join(capsys.readouterr().err.split())
    assert record.main(["good.npz", "robust.npz", "--randomize", "none", *flags, "b.hdf5"]) == 0
    assert made == [("mass=0.8,1.2",), ("none",)]
    policy_files.write_npz(linear(0.5, randomize=["mass=0.8,1.2", "observed"]), Path("seeing.npz"))
    assert record.main(["seeing.npz", "--randomize", "none", *flags, "c.hdf5"]) == 0
    assert made[-1] == ("observed", "none")  # the size of its observation


def test_a_picture_that_is_there_is_not_replaced(tmp_path, capsys):
    (tmp_path / "data.png").write_text("mine")
    assert record.main(["good.npz", "--episodes", "2", "--num-envs", "2", "--out", "data.hdf5"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--out data.hdf5 would replace data.png by its picture; choose another name" in said
    assert (tmp_path / "data.png").read_text() == "mine" and not (tmp_path / "data.hdf5").exists()


def test_each_policy_is_judged_by_its_own_limit(tmp_path, capsys):
    policy_files.write_npz(linear(0.5, cost_limit=1000.0), tmp_path / "loose.npz")
    policy_files.write_npz(linear(0.5, cost_limit=-1.0), tmp_path / "tight.npz")
    assert record.main(["loose.npz", "tight.npz", "--episodes", "4", "--num-envs", "2"]) == 0
    said = capsys.readouterr().out
    assert "within its limit" in said and "100 % (1000)" in said and "0 % (-1)" in said


def test_a_file_that_cannot_be_written_is_told_in_one_sentence(monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise OSError(13, "Unable to create file (unable to open file: error message = 'Permission denied')")

    monkeypatch.setattr(h5py, "File", refuse)
    assert record.main(["good.npz", "--episodes", "2", "--num-envs", "2", "--out", "a.hdf5"]) == 2
    assert "a.hdf5.partial cannot be used: Permission denied" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(OSError, match="No space left") as caught, datasets.naming("data.hdf5"):
        raise RuntimeError("No space left")
    assert caught.value.filename == "data.hdf5"


def test_minari_reads_the_same_with_costs(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    flags = ["good.npz", "--episodes", "5", "--num-envs", "3"]
    assert record.main([*flags, "--out", "data.hdf5"]) == 0
    spec = {"gymnasium.registry": {}}  # the toy world is not registered
    monkeypatch.setattr("gymnasium.registry", spec["gymnasium.registry"])
    assert record.main([*flags, "--out", "minari:safety/toy-v0"]) == 0
    data = minari.load_dataset("safety/toy-v0")
    assert data.total_episodes == 5
    assert all(len(episode.infos["cost"]) == len(episode.observations) for episode in data)
    ours, theirs = datasets.read("data.hdf5"), datasets.read("minari:safety/toy-v0")
    for name in datasets.KEYS:
        np.testing.assert_array_equal(ours[0][name], theirs[0][name])
    assert theirs[1]["policies"] == ["good.npz"]
    assert record.main([*flags, "--out", "minari:safety/toy-v0"]) == 2


def test_minari_makes_the_recorded_worlds_again(tmp_path, monkeypatch):
    """The spec in the data set has the dynamics, as what `gymnasium.make` takes."""
    minari = pytest.importorskip("minari")
    worlds = mjx_safety.make(ENV, physics="mujoco", randomize=mjx_safety.Randomize(mass=(0.8, 1.2)))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setattr(environments, "build_env", lambda *_, **__: worlds)
    about = {"env": ENV, "randomize": ["mass=0.8,1.2"], "policies": ["a"], "physics": "mujoco", "machine": {}}
    writer = record._open(record.Flags(("a",), out="minari:safety/light-v0"), vectorize(worlds, 1), ENV, about)
    steps = {"reward": np.zeros(2, np.float32), "cost": np.zeros(2, np.float32)}
    seen, acted = np.zeros((3, worlds.obs_size), np.float32), np.zeros((2, worlds.action_size), np.float32)
    writer.add([Episode(obs=seen, action=acted, **steps, terminated=False, policy=0)])
    writer.close()
    again = minari.load_dataset("safety/light-v0").recover_environment()
    assert again.unwrapped.world.config == worlds.config


def test_a_policy_learns_from_the_safe_episodes_alone(capsys):
    assert record.main(["good.npz", "bad.npz", "--episodes", "40", "--out", "data.hdf5", "--action", "mean"]) == 0
    flags = [
        "--cost-limit",
        "12",
        "--num-updates",
        "1000",
        "--learning-rate",
        "3e-3",
        "--hidden-sizes",
        "16",
        "--out",
        "cloned.npz",
    ]
    assert clone.main(["data.hdf5", *flags, "--best", "0.3"]) == 0
    said = capsys.readouterr().out
    assert "of 40 episodes: return" in said and "python -m mjx_safety.evaluate cloned.npz" in said
    policy = mjx_safety.load_policy("cloned.npz")
    assert policy.origin["config"]["run"]["algo"] == "clone" and policy.env_id == ENV
    obs = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    assert np.abs(policy(obs) - 0.5 * obs[:, :1]).mean() < 0.15  # like the good one, and not the mixture, which is 0
    capsys.readouterr()
    assert evaluating.main(["cloned.npz", "--episodes", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cost_limit"] == 12.0


def test_choice_of_episodes():
    arrays = {
        "rewards": np.array([1.0, 1.0, 5.0, 2.0, 2.0, 9.0]),
        "costs": np.array([0.0, 1.0, 9.0, 0.0, 0.0, 0.0]),
        "terminals": np.array([0, 1, 1, 0, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 0, 1, 0], bool),
    }
    assert datasets.episode_sums(arrays, "costs").tolist() == [1.0, 9.0, 0.0]
    choose = clone.choose(arrays, clone.Flags("d", cost_limit=2.0))
    assert choose.tolist() == [True, True, False, True, True, False]  # the last step belongs to no whole episode
    best = clone.choose(arrays, clone.Flags("d", cost_limit=2.0, best=0.5))
    assert best.tolist() == [False, False, False, True, True, False]
    with pytest.raises(clone.UsageError, match="costs at most --cost-limit -1; the least costly of 3 has 0"):
        clone.choose(arrays, clone.Flags("d", cost_limit=-1.0))


@pytest.mark.parametrize(
    ("command", "flags", "sentence"),
    [
        (record, [], "no policy is given"),
        (record, ["good.npz", "--episodes", "0"], "--episodes is 0; it must be at least 1"),
        (record, ["good.npz", "bad.npz", "--episodes", "1"], "--episodes is 1; it must be at least the 2 policies"),
        (record, ["good.npz", "--out", "data.csv"], "--out data.csv is of no known kind; it must end in .hdf5, or be"),
        (record, ["good.npz", "--out", "there.hdf5"], "--out there.hdf5 is there already"),
        (
            record,
            ["good.npz", "--out", "there.hdf5/a.hdf5"],
            "--out there.hdf5/a.hdf5 cannot be written: Not a directory",
        ),
        (record, ["good.npz", "--out", "minari:mine"], "--out minari:mine is no name of a data set; it must be like"),
        (record, ["good.npz", "--out", "minari:../a/b-v0"], "is no name of a data set; it must be like minari:safety/"),
        (record, ["good.npz", "--randomize"], "--randomize has no value; name one or more, or leave it out"),
        (record, ["silent.npz"], "silent.npz does not say with which cost limit it was trained; export it again"),
        (record, ["absent"], "absent is no run folder, no .npz file and no shipped policy"),
        (record, ["good.npz", "other.npz"], "is of SafetyPointGoal1-v0 and other.npz of SafetyPointGoal2-v0; name one"),
        (
            record,
            ["wide.npz"],
            "wide.npz takes observations [4] and gives actions [1], and SafetyPointGoal1-v0 has [3]",
        ),
        (clone, ["absent.hdf5"], "absent.hdf5 does not exist"),
        (clone, ["there.hdf5"], "there.hdf5 is no HDF5 file"),
        (clone, ["some.hdf5"], "some.hdf5 lacks next_observations, actions"),
        (clone, ["good.npz", "--out", "a.pt"], "--out a.pt must end in .npz"),
        (clone, ["huge.hdf5"], "huge.hdf5 does not fit into the memory"),
        (clone, ["good.npz", "--out", "there.hdf5/a.npz"], "--out there.hdf5/a.npz cannot be written: Not a directory"),
        (clone, ["good.npz", "--hidden-sizes", "4294967296"], "--hidden-sizes is 4294967296; it must be at most"),
        (clone, ["good.npz", "--best", "0"], "--best is 0.0; it must be above 0 and at most 1"),
    ],
)
def test_wrong_input(command, flags, sentence, tmp_path, capsys):
    policy_files.write_npz(linear(0.5, env_id="SafetyPointGoal2-v0"), tmp_path / "other.npz")
    policy_files.write_npz(linear(0.5, obs_size=4), tmp_path / "wide.npz")
    policy_files.write_npz(linear(0.5, cost_limit=None), tmp_path / "silent.npz")
    (tmp_path / "there.hdf5").write_text("no data")
    with h5py.File(tmp_path / "some.hdf5", "w") as file:
        file["observations"] = np.zeros((2, 3))
    with h5py.File(tmp_path / "huge.hdf5", "w") as file:  # it takes no room on the disk
        for name in datasets.KEYS:
            file.create_dataset(name, (2**60,), np.float32, chunks=(4096,))
    assert command.main(flags) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


DSRL = """
import sys, gymnasium, numpy as np
from dsrl.offline_env import OfflineEnv

env = OfflineEnv(max_episode_reward=30.0, min_episode_reward=0.0)
env.observation_space, env.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,)), gymnasium.spaces.Box(-1, 1, (1,))
env.set_target_cost(5)
data = env.get_dataset(sys.argv[1])
data = env.pre_process_data(data)
print("read", data["observations"].shape[1], sorted(data))
"""


@pytest.mark.slow
def test_dsrl_reads_it(tmp_path):
    """DSRL itself is installed into a folder of its own, without its simulators."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", tmp_path / "lib", "--no-deps"]
    done = subprocess.run([*install, "dsrl", "tqdm"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"dsrl cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    assert record.main(["good.npz", "bad.npz", "--episodes", "30", "--out", "data.hdf5"]) == 0
    paths = os.pathsep.join([*sys.path, str(tmp_path / "lib")])
    names = os.environ | {"PYTHONPATH": paths, "DSRL_DATASET_DIR": str(tmp_path / "dsrl"), "MPLBACKEND": "Agg"}
    command = [sys.executable, "-c", DSRL, str(tmp_path / "data.hdf5")]
    done = subprocess.run(command, env=names, capture_output=True, text=True, cwd=tmp_path)
    assert f"read 3 {sorted(datasets.KEYS)}" in done.stdout, done.stderr[-2000:]
