"""What `evaluate`, `record` and the others tell: no number is lost, and names are shown as they are."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from agents import probe_envs

from mjx_safety import registry
from mjx_safety.agents.types import Actor
from mjx_safety.cli import common, evaluate, plot, progress, record, train
from mjx_safety.core import files
from mjx_safety.runs import environments, policy_files, run_folder, scores
from mjx_safety.runs.policy import Policy

ENV = "SafetyPointGoal1-v0"
FLAGS = ["--num-envs", "8", "--unroll-length", "8", "--num-minibatches", "2", "--num-passes", "1"]
FLAGS += ["--hidden-sizes", "8", "--no-compilation-cache", "--physics", "mujoco", "--total-steps", "192"]
SEEDS = (4294967294, 4294967295)  # the largest there are


@pytest.fixture(autouse=True)
def probe(monkeypatch, tmp_path):
    """Every command gets a toy world, leaves JAX's settings alone, and works in a folder of its own."""
    toy(monkeypatch)
    monkeypatch.chdir(tmp_path)


def toy(patch):
    patch.setattr(environments, "build_env", lambda env_id, physics, **_: probe_envs.Random())
    patch.setattr(common, "set_up_jax", lambda compilation_cache: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A group of two seeds."""
    path = tmp_path_factory.mktemp("trained") / "exp"
    with pytest.MonkeyPatch.context() as patch:
        toy(patch)
        flags = ["--seed", str(SEEDS[0]), "--num-seeds", "2", "--out", str(path)]
        assert train.main([*FLAGS, *flags]) == 0
    return path


@pytest.fixture
def exp(trained, tmp_path):
    """A copy of the group, whose first member has diverged."""
    path = shutil.copytree(trained, tmp_path / "exp")
    first = path / f"seed{SEEDS[0]}"
    run_folder.write_config(first, run_folder.read_config(first) | {"diverged": "nan in iteration 3"})
    return path


def write_policy(name, **run):
    """A linear policy as a file. run: flags of its training."""
    agent = Actor(np.zeros(3), np.ones(3), (np.full((3, 1), 0.1, np.float32),), (np.zeros(1),), np.zeros(1))
    run = {"env": ENV, "algo": "ppo", "seed": 3, "cost_limit": 7.0, "cost_limits": [], "physics": "mujoco"} | run
    origin = {"config": {"run": run}, "env_steps": 640, "versions": {}}
    policy_files.write_npz(Policy(ENV, 3, 1, {}, (), agent, origin), Path(name))


def judge(capsys, *words):
    assert evaluate.main([*map(str, words), "--episodes", "4"]) == 0
    said = capsys.readouterr()
    return said.out, " ".join(said.err.split())


@pytest.mark.thorough
def test_a_diverged_member_is_in_no_mean(exp, tmp_path, capsys):
    names = [f"exp/seed{seed}" for seed in SEEDS]
    out, err = judge(capsys, "exp", "--json")
    result = json.loads(out)
    (group,) = result["groups"]
    assert (group["num_seeds"], group["seeds"], group["runs"]) == (1, [SEEDS[1]], names[1:])
    assert group["diverged"] == names[:1]
    assert [run["diverged"] for run in result["runs"]] == ["nan in iteration 3", None]
    kept = result["runs"][1]["policies"]["mean"]["episode_return_mean"]
    assert group["statistics"]["policies"]["mean"]["episode_return_mean"] == {"mean": kept, "std": None}
    out, err = judge(capsys, "exp")
    assert f"seed {SEEDS[0]}, diverged" in out and "2 seeds" not in out
    assert f"{names[0]} has diverged (nan in iteration 3): this is its last checkpoint, and it is in no mean" in out
    assert f"{names[0]} has diverged (nan in iteration 3): this is its last checkpoint." in judge(capsys, names[0])[0]

    shutil.rmtree(exp / f"seed{SEEDS[0]}" / "checkpoints")
    out, err = judge(capsys, "exp", "--json")
    assert f"{names[0]} is left out: it has diverged (nan in iteration 3) before its first checkpoint" in err
    assert json.loads(out)["seed"] == SEEDS[1]

    assert plot.main(["exp", "--out", "curves.png"]) == 0
    said = capsys.readouterr()
    assert "ppo-lag: 1 seed, last tenth" in said.out
    assert f"{names[0]} has diverged (nan in iteration 3); it is left out" in " ".join(said.err.split())
    assert plot.main([names[0], "--out", "curves.png"]) == 0, "alone it may be looked at"


def test_groups_whose_members_all_diverged_have_no_statistics():
    row = {"env": ENV, "algo": "ppo", "cost_limit": 25.0, "seed": 0, "run": "a", "diverged": "nan", "normalised": None}
    (group,) = scores.group_results([('{"run": {"algo": "ppo", "env": "a"}}', row)])
    assert (group["num_seeds"], group["diverged"], group["statistics"]) == (0, ["a"], None)
    assert scores.subset_scores([group], [row], "mean") == {}


def test_results_that_cannot_be_stored_are_shown(exp, capsys, monkeypatch):
    def refuse(path, text):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(files, "write", refuse)
    out, err = judge(capsys, "exp")
    assert f"seed {SEEDS[1]}" in out and "cost" in out
    for seed in SEEDS:
        file = f"exp/seed{seed}/evaluation.json"
        assert f"the results are not stored: {file} cannot be written: Read-only file system" in err


def test_damaged_metrics_are_told(exp, capsys):
    file = exp / f"seed{SEEDS[1]}" / "metrics.jsonl"
    first, second, third = file.read_text().splitlines()
    file.write_text(f"{first}\n{second[:9]}\n{third}\n")
    out, err = judge(capsys, file.parent, "--json")
    assert f"{file} is damaged in line 2; the numbers are without that" in err
    assert json.loads(out)["training"]["env_steps"] == 192.0


@pytest.mark.parametrize("run", [{"cost_limit": math.inf}, {"cost_limits": ["probe=inf"], "cost_limit": math.inf}])
def test_an_infinite_limit_is_no_limit(run, capsys):
    write_policy("free.npz", **run)
    write_policy("other.npz", **run, seed=4)
    out, _ = judge(capsys, "free.npz")
    assert "episodes over the limit" in out and "no limit" in out
    assert ("probe: over the limit" in out) == ("cost_limits" in run)
    assert "2 seeds" in judge(capsys, "free.npz", "other.npz")[0]
    assert "no limit" in judge(capsys, "free.npz", "--cost-limit", "inf")[0]
    assert record.main(["free.npz", "--episodes", "2", "--num-envs", "2"]) == 0
    assert "within no limit" in capsys.readouterr().out
    row = {"env_steps": 1.0, "steps_per_second": 1.0}
    assert progress.describe(row, 2, math.inf)["cost"].endswith("(no limit)")


def test_a_limit_that_is_no_number_is_refused(capsys):
    write_policy("strange.npz", cost_limit=math.nan)
    assert evaluate.main(["strange.npz"]) == 2
    assert "strange.npz has the cost limit nan; say one of at least 0 with --cost-limit" in capsys.readouterr().err
    assert "episodes over 5" in judge(capsys, "strange.npz", "--cost-limit", "5")[0]


def test_runs_that_differ_in_many_settings_leave_room_for_numbers(capsys):
    for number in (1, 2):
        write_policy(f"{number}.npz", seed=number, **{f"setting_{i}": f"value {number} of it" for i in range(12)})
    out, _ = judge(capsys, "1.npz", "2.npz")
    result = json.loads(judge(capsys, "1.npz", "2.npz", "--json")[0])
    numbers = [f"{run['policies']['mean']['episode_return_mean']:.2f}" for run in result["runs"]]
    assert all(number in out for number in numbers) and "setting_3" not in out and "..." in out
    assert "setting_11 value 2 of it" in result["groups"][1]["differs_in"]


def test_a_run_of_an_engine_that_this_machine_lacks(capsys, monkeypatch):
    there = registry.resolve_physics

    def resolve(name):
        if name == "warp":
            raise ValueError("warp needs an NVIDIA GPU")
        return there(name)

    monkeypatch.setattr(registry, "resolve_physics", resolve)
    write_policy("far.npz", physics="warp")
    engine = there("auto")
    assert f"Trained with warp, evaluated with {engine}" in judge(capsys, "far.npz")[0]
    out, err = judge(capsys, "far.npz", "--physics", "mujoco")
    assert "Trained with warp, evaluated with mujoco" in out
    assert "far.npz is not compared with warp, the engine of its training: warp needs an NVIDIA GPU" in err
    assert evaluate.main(["far.npz", "--physics", "warp"]) == 2


def test_names_are_shown_as_they_are(capsys):
    name = "a[bold]b[/x]:cat:.npz"
    write_policy(name, algo="my[red]algo")
    write_policy("other.npz", algo="my[red]algo", seed=4)
    out, err = judge(capsys, name)
    assert name in err and "my[red]algo on" in out
    assert "my[red]algo on" in judge(capsys, name, "other.npz")[0]
    assert record.main([name, "--episodes", "2", "--num-envs", "2"]) == 0
    assert name in capsys.readouterr().out
    assert record.main(["absent:cat:[b]", "--out", "b.hdf5"]) == 2
    assert "absent:cat:[b] is no run folder" in " ".join(capsys.readouterr().err.split())
    shown = progress.Progress("my[red]algo", 10, 5.0)
    with shown:
        shown.warn("a [b] c")
    assert "my[red]algo: compiling" in (out := capsys.readouterr().out) and "warning: a [b] c" in out
