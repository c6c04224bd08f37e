"""`--init-from`: networks and normaliser of another run, everything else fresh."""

import shutil

import jax
import numpy as np
import pytest
from agents import probe_envs

from mjx_safety.agents import checkpoint
from mjx_safety.cli import common, init_from, train
from mjx_safety.runs import environments, run_folder, sweeps
from mjx_safety.runs.training_options import Options

FLAGS = ["--num-envs", "8", "--unroll-length", "8", "--hidden-sizes", "8", "--no-compilation-cache"]
FLAGS += ["--physics", "mujoco", "--total-steps", "256"]
PPO = [*FLAGS, "--algo", "ppo-lag", "--num-minibatches", "4", "--cost-limit", "2", "--multiplier-learning-rate", "0.5"]


@pytest.fixture(autouse=True)
def probe(monkeypatch):
    """Every environment is a toy world; Car's has larger observations."""
    worlds = {"SafetyCarGoal1-v0": probe_envs.Random(obs_size=5)}
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: worlds.get(env_id, probe_envs.Random()))
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "build_env", lambda env_id, physics, **_: probe_envs.Random())
        patch.setattr(common, "set_up_jax", lambda compilation_cache: None)
        assert train.main([*PPO, "--out", str(path)]) == 0
    return path


def newest(path):
    """The options and the agent of a run."""
    options = Options.from_config(run_folder.read_config(path))
    like = jax.eval_shape(lambda key: options.build().init(probe_envs.Random(), key), jax.random.key(0))
    return options, checkpoint.restore_agent(checkpoint.latest(path / "checkpoints"), like)


def test_networks_and_normaliser_go_on_and_multipliers_are_fresh(first):
    options, agent = newest(first)
    assert float(options.build().constraint.weights(agent.constraint).multipliers[0]) > 0.0
    training = options.training(probe_envs.Random())

    def fresh():
        return training.algorithm.init(training.venv, jax.random.key(7))

    state, new = init_from.begin(fresh, first, probe_envs.Random(), is_group=False)(), fresh()
    for part in ("params", "normaliser"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, part), getattr(agent, part))
    for part in ("opt_state", "constraint", "episode_cost", "num_rollouts"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, part), getattr(new, part))


def test_another_algorithm_a_stricter_limit_and_resuming(first, tmp_path):
    second = tmp_path / "second"
    first = shutil.copytree(first, tmp_path / "first")
    flags = ["--init-from", str(first), "--algo", "cpo", "--cost-limit", "1", "--seed", "5"]
    assert train.main([*FLAGS, *flags, "--out", str(second)]) == 0
    before, after = newest(first)[1], newest(second)[1]
    moved = jax.tree.map(lambda old, new: float(np.abs(old - new).max()), before.params.policy, after.params.policy)
    assert 0.0 < max(jax.tree.leaves(moved)) < 0.5  # near the first run, not at a new initialisation
    assert after.normaliser.count_low == 2 * before.normaliser.count_low
    assert run_folder.read_config(second)["run"]["init_from"] == str(first)
    first.rename(tmp_path / "elsewhere")
    assert train.main(["--resume", str(second), "--total-steps", "512"]) == 0


def test_every_member_of_a_group_starts_there(first):
    options = common.parse([*PPO, "--num-seeds", "3"])
    many = sweeps.ManyTrainings(sweeps.expand(options), probe_envs.Random())
    state = jax.jit(init_from.begin(many.init, first, probe_envs.Random(), is_group=True))()
    _, agent = newest(first)
    for member in range(3):
        params = jax.tree.map(lambda leaf, member=member: leaf[member], state.params)
        jax.tree.map(np.testing.assert_array_equal, params, agent.params)
    assert len({tuple(row) for row in np.asarray(jax.random.key_data(state.key)).tolist()}) == 3


@pytest.mark.thorough
def test_a_group_trains_on_from_there_and_resumes(first, tmp_path):
    """Steps of 0 leave every network as it starts."""
    first = shutil.copytree(first, tmp_path / "first")
    still = [*PPO, "--learning-rate", "0", "--critic-learning-rate", "0", "--init-from", str(first)]
    still += ["--sweep", "cost-limit=1,2", "--num-seeds", "2"]
    path = tmp_path / "group"
    assert train.main([*still, "--resume-or-start", str(path)]) == 0
    folders = [inner for inner in path.iterdir() if run_folder.holds_run(inner)]
    assert len(folders) == 4
    _, agent = newest(first)
    for folder in folders:
        options, mine = newest(folder)
        assert options.run.init_from == first
        jax.tree.map(np.testing.assert_array_equal, mine.params, agent.params)
        assert mine.normaliser.count_low == 2 * agent.normaliser.count_low
    first.rename(tmp_path / "elsewhere")
    assert train.main([*still, "--resume-or-start", str(path), "--total-steps", "512"]) == 0
    assert [len(run_folder.read_rows(folder)) for folder in folders] == [8] * 4


def test_policies_that_observe_their_budget_go_on_too(tmp_path):
    saute = [*FLAGS, "--algo", "ppo-saute", "--num-minibatches", "4", "--cost-limit", "2"]
    assert train.main([*saute, "--out", str(tmp_path / "first")]) == 0
    second = [*saute, "--init-from", str(tmp_path / "first"), "--out", str(tmp_path / "second")]
    assert train.main(second) == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--env", "SafetyCarGoal1-v0"], "has obs_size 3, and this environment has 5; they must be equal"),
        (["--hidden-sizes", "16"], "has shape (8,) there and (16,) here; take an --algo of the same kind"),
        (["--hidden-sizes", "8", "8"], "has the networks of ppo-lag, which do not fit this training"),
        (
            ["--algo", "sac-lag", "--random-steps", "64"],
            "has the networks of ppo-lag, which do not fit this training; take an --algo of",
        ),
        (["--init-from", "absent"], "--init-from absent is not a run folder: it has no config.json"),
        (["--init-from", "EMPTY"], "has no checkpoint"),
    ],
)
def test_runs_that_do_not_fit_are_refused(flags, sentence, first, tmp_path, capsys):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "EMPTY" / "config.json").write_text("{}")
    flags = [str(tmp_path / "EMPTY") if flag == "EMPTY" else flag for flag in flags]
    assert train.main([*FLAGS, "--init-from", str(first), "--out", str(tmp_path / "new"), *flags]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()
