"""Judging policies: statistics with known answers, episodes on tiny worlds, and the command."""

import io
import json
import math
import shutil
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from rich.console import Console

from mjx_safety.agents import checkpoint, init, running_stats
from mjx_safety.agents.evaluate import Episodes, compare, cvar, evaluate, half_width, share, summarise
from mjx_safety.cli import common, report
from mjx_safety.cli import evaluate as command
from mjx_safety.env.vector import vectorize
from mjx_safety.runs import environments, run_folder
from mjx_safety.runs.evaluation import evaluation_key

from . import probe_envs

PATTERN = (1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0)  # cost of each step of an episode


class Patterned(probe_envs.ProbeEnv):
    """Cost by the step, reward by the action."""

    def outcome(self, state, action, key):
        return action[0], jnp.array(PATTERN)[state.step_count]


@dataclass(frozen=True)
class Engine(probe_envs.CostlyTarget):
    """On the engine mjx every step brings half a point more."""

    bonus: float = 0.0

    def outcome(self, state, action, key):
        reward, cost = super().outcome(state, action, key)
        return reward + self.bonus, cost


def episodes(returns, costs):
    costs = np.asarray(costs, np.float32)
    one = np.ones(len(costs), np.int32)
    per_source = np.stack([costs, 2.0 * costs], axis=1)
    return Episodes(np.asarray(returns, np.float32), costs, 0.5 * per_source, per_source, one, 100 * one, 3 * one)


def test_cvar():
    costs = np.arange(1.0, 21.0)
    assert cvar(costs, 0.1) == 19.5
    assert_allclose(cvar(costs, 0.125), (20 + 19 + 0.5 * 18) / 2.5)
    assert cvar(costs, 0.01) == 20.0  # a fifth of the worst one
    assert cvar(costs, 1.0) == costs.mean()


def test_intervals_of_means_and_shares_by_hand():
    assert_allclose(half_width(np.array([0.0, 2.0])), 1.96)
    assert math.isnan(half_width(np.zeros(1)))
    assert_allclose(share(np.array([True] * 5 + [False] * 5)), (0.5, 0.2366, 0.7634), atol=1e-4)
    mean, low, high = share(np.zeros(256, bool))
    assert (mean, low) == (0.0, 0.0) and 0.014 < high < 0.016


def test_summary():
    summary = summarise(episodes([1, 2, 3, 4], [0, 25, 26, 49]), 25.0, ("a", "b"), {"b": 51.0})
    assert summary["num_episodes"] == 4 and summary["cost_limit"] == 25.0
    assert summary["episode_return_mean"] == 2.5 and summary["episode_cost_mean"] == 25.0
    assert summary["episode_cost_q50"] == 25.5
    assert_allclose(summary["episode_cost_q90"], 42.1)  # 26 + 0.7 * 23
    assert summary["episode_cost_cvar90"] == summary["episode_cost_cvar99"] == 49.0
    assert summary["over_limit_share"] == 0.5 and summary["cost_free_share"] == 0.25
    assert summary["longest_cost_run_mean"] == 3.0 and summary["cost_rate"] == 0.25
    assert (summary["cost_a_mean"], summary["cost_steps_a_mean"]) == (12.5, 25.0)
    assert (summary["cost_b_mean"], summary["cost_steps_b_mean"]) == (25.0, 50.0)
    assert summary["over_limit_share_b"] == 0.5 and "over_limit_share_a" not in summary


def test_differences_are_paired():
    gap = compare(episodes([0, 10], [20, 30]), episodes([1, 11], [30, 30]), 25.0)
    assert gap["episode_return"] == {"mean": 1.0, "ci95": 0.0}  # though the returns spread
    assert gap["episode_cost"] == pytest.approx({"mean": 5.0, "ci95": 1.96 * 5.0})
    assert gap["over_limit_share"] == pytest.approx({"mean": 0.5, "ci95": 1.96 * 0.5})


def judge(env, sampled, key, num=6):
    """A policy with mean 0.5 and noise of 0.1."""

    def act(params, obs, noise):
        mean = jnp.full((*obs.shape[:-1], 1), params)
        return mean if noise is None else mean + 0.1 * noise

    venv = vectorize(env, num)
    normaliser = running_stats.init(env.obs_size)
    run = jax.jit(partial(evaluate, venv, SimpleNamespace(act=act)))
    return run(jnp.float32(0.5), normaliser, key, sampled)


def test_whole_episodes(key):
    env = Patterned(episode_length=len(PATTERN))
    mean, sampled = (judge(env, sampled, key) for sampled in (False, True))
    for done in (mean, sampled):
        assert_array_equal(done.episode_length, len(PATTERN))
        assert_array_equal(done.episode_cost, sum(PATTERN))
        assert_array_equal(done.episode_cost_steps, np.full((6, 1), sum(PATTERN)))
        assert_array_equal(done.longest_cost_run, 3)
    assert_array_equal(mean.episode_return, 4.0)
    assert np.std(sampled.episode_return) > 0.0
    assert_allclose(sampled.episode_return, 4.0, atol=2.0)


def test_only_the_first_episode_of_a_world_counts(key):
    done = judge(probe_envs.Random(), True, key, num=64)
    assert len(set(done.episode_length.tolist())) > 3 and done.episode_length.max() <= 20
    assert (done.episode_cost <= done.episode_length).all()
    assert (done.longest_cost_run <= done.episode_cost).all()


def test_no_world_of_a_training_comes_again():
    """The same seed, the same number of worlds; earlier, evaluations began with the worlds of the training's start."""
    venv = vectorize(probe_envs.Target(), 16)
    trained = venv.reset(jax.random.split(jax.random.key(7))[0]).obs  # as `init` does
    again = evaluate_reset(venv, jax.random.key(7))
    assert_array_equal(trained, again)
    fresh = evaluate_reset(venv, evaluation_key(7))
    assert not np.isin(fresh, trained).any()


def evaluate_reset(venv, key):
    return venv.reset(jax.random.split(key)[0]).obs  # as `evaluate` does


# The command


@pytest.fixture
def build(monkeypatch):
    """Every command gets a toy world, better with mjx, and leaves JAX's settings alone. Returns what was built."""
    built = []

    def build_env(env_id, physics, **_):
        built.append((env_id, physics))
        return Engine(bonus=0.5 if physics == "mjx" else 0.0)

    monkeypatch.setattr(environments, "build_env", build_env)
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)
    monkeypatch.setattr(environments, "resolve_physics", lambda physics: "mujoco" if physics == "auto" else physics)
    monkeypatch.setattr(run_folder, "describe_machine", lambda: {"device": "toy"})
    return built


def make_run(path, *flags, costs=(30.0, 20.0, 10.0)):
    """An untrained policy in a run folder, with rows that pretend a training."""
    defaults = [
        "--num-envs",
        "8",
        "--unroll-length",
        "8",
        "--hidden-sizes",
        "8",
        "--physics",
        "mujoco",
        "--algo",
        "ppo",
    ]
    options = common.parse([*defaults, *flags])
    env = Engine()
    training = options.training(env)
    state = init(training.venv, training.algorithm, jax.random.key(options.run.seed))
    folder = run_folder.create(path, options.to_config(), 64)
    folder.close()
    checkpoint.save(folder.checkpoints, state.replace(num_rollouts=jnp.int32(len(costs))))
    lines = [
        {"env_steps": 64 * (i + 1), "seconds": i + 1.0, "cost_rate": 0.1, "cost_estimate": cost, "violation": cost}
        | {"episode_cost": cost, "episode_return": 1.0}
        for i, cost in enumerate(costs)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def lag(tmp_path_factory):
    """One run folder that several tests copy or read."""
    return make_run(tmp_path_factory.mktemp("runs") / "lag", "--cost-limit", "15")


def ask(capsys, *argv):
    """Run the command with --json and few episodes; returns what it printed."""
    assert command.main([*map(str, argv), "--episodes", "8", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_both_policies_beside_training_and_published_numbers(lag, build, capsys):
    result = ask(capsys, lag)
    assert json.loads((lag / "evaluation.json").read_text()) == result
    assert (result["algo"], result["env"], result["env_steps"]) == ("ppo", "SafetyPointGoal1-v0", 192)
    assert (result["trained_with"], result["physics"], result["layouts"]) == ("mujoco", "mujoco", "fresh")
    assert set(result["policies"]) == {"mean", "sampled"}
    mean, sampled = result["policies"]["mean"], result["policies"]["sampled"]
    assert mean["num_episodes"] == 8 and mean["episode_cost_mean"] != sampled["episode_cost_mean"]
    assert_allclose(mean["cost_probe_mean"], mean["episode_cost_mean"], rtol=1e-6)
    assert result["training"]["feasible_steps"] == 192 and result["training"]["worst_violation"] == 15.0
    assert_allclose(result["normalised"]["mean"]["return_ratio"], mean["episode_return_mean"] / 25.179)
    assert_allclose(result["normalised"]["sampled"]["cost_rate_ratio"], 0.1 / 0.063)
    assert result["references"]["safety_gym_ppo"]["cost_rate"] == 0.063
    assert result["references"]["omnisafe"]["name"] == "PPO" and "sim_to_sim" not in result
    assert build == [("SafetyPointGoal1-v0", "mujoco")]

    assert command.main([str(lag), "--episodes", "8"]) == 0
    said = capsys.readouterr().out
    for expected in ("mean action", "sampled action", "OmniSafe PPO", "Safety Gym PPO", "within the limit for good"):
        assert expected in said
    assert "from 192 steps on" in said and "episodes over 15" in said
    total = result["training"]["total_cost"]
    assert "cost of all steps" in said and f"{total:,.0f}" in said
    for width in (60, 80, 200):
        for table in report.run_tables(result, width):
            cells = [list(column.cells) for column in table.columns[1:]]
            assert all(any(row) for row in zip(*cells, strict=True)), "no row is empty"


def test_one_policy_and_the_seed(lag, build, capsys):
    first, again, other = (ask(capsys, lag, "--action", "mean", "--seed", seed) for seed in (1, 1, 2))
    assert set(first["policies"]) == {"mean"} and first["evaluation_seed"] == 1
    assert first == again
    assert first["policies"]["mean"]["episode_return_mean"] != other["policies"]["mean"]["episode_return_mean"]


def test_a_named_other_engine_is_compared(lag, build, capsys):
    result = ask(capsys, lag, "--physics", "mjx")
    assert json.loads((lag / "evaluation-mjx.json").read_text()) == result
    gap = result["sim_to_sim"]
    assert (gap["first"], gap["second"]) == ("mujoco", "mjx")
    for policy in ("mean", "sampled"):
        difference = gap["second_minus_first"][policy]
        assert difference["episode_return"]["mean"] == pytest.approx(10.0, rel=1e-5)  # 20 steps of 0.5
        assert difference["episode_return"]["ci95"] == pytest.approx(0.0, abs=1e-5)
        assert difference["episode_cost"] == {"mean": 0.0, "ci95": 0.0}
    assert command.main([str(lag), "--episodes", "8", "--physics", "mjx"]) == 0
    said = capsys.readouterr().out
    assert "+10.00 ± 0.00" in said and "Trained with mujoco, evaluated with mjx." in said


def test_another_engine_by_default_is_told_only(lag, build, capsys, monkeypatch):
    monkeypatch.setattr(environments, "resolve_physics", lambda physics: "mjx" if physics == "auto" else physics)
    assert command.main([str(lag), "--episodes", "8", "--policy", "mean"]) == 0
    assert "evaluated with mjx; --physics mjx tells what that changes" in capsys.readouterr().out
    assert "sim_to_sim" not in json.loads((lag / "evaluation-mjx.json").read_text())


def test_several_runs_and_groups(tmp_path, build, capsys):
    for seed in ("0", "1"):
        make_run(tmp_path / "group" / f"seed{seed}", "--seed", seed, "--cost-limit", "15")
    make_run(tmp_path / "early", "--algo", "ppo-early", costs=())
    found = ask(capsys, tmp_path / "group", tmp_path / "early", tmp_path / "group" / "seed1")
    assert [run["seed"] for run in found["runs"]] == [0, 1, 0]
    group, early = found["groups"]
    assert (group["num_seeds"], early["num_seeds"]) == (2, 1)
    gains = [run["policies"]["mean"]["episode_return_mean"] for run in found["runs"][:2]]
    assert group["statistics"]["policies"]["mean"]["episode_return_mean"] == pytest.approx(
        {"mean": np.mean(gains), "std": np.std(gains, ddof=1)}
    )
    assert early["statistics"]["training"] is None and found["runs"][2]["training"] is None
    assert found["runs"][2]["trained_in_episodes_that_end_at_the_limit"]
    assert found["runs"][2]["policies"]["mean"]["episode_length_mean"] == 20.0
    sg6 = found["subsets"]["mean"]["ppo, limit 15"]["SG6"]
    assert sg6["scores"] is None and "PointGoal2" in sg6["missing"] and "PointGoal1" not in sg6["missing"]
    for path in ("group/seed0", "group/seed1", "early"):
        assert (tmp_path / path / "evaluation.json").exists()

    assert command.main([str(tmp_path / "group"), str(tmp_path / "early"), "--episodes", "8"]) == 0
    said = capsys.readouterr().out
    for expected in ("2 seeds, ± std", "ppo-early on", "the evaluation runs whole episodes"):
        assert expected in said
    assert "lacks" not in said  # one task is no benchmark

    console = Console(width=80, record=True, file=io.StringIO())
    report.show_run(console, found["runs"][0])
    report.show_runs(console, found["groups"], found["runs"], "mean", found["subsets"]["mean"])
    narrow = console.export_text()
    assert max(map(len, narrow.splitlines())) <= 80 and "…" not in narrow  # in tables below each other, nothing is cut
    for expected in ("mean action", "sampled action", "50 / 90 / 99 % of episodes below", "worst 10 %", "goals"):
        assert expected in narrow


def test_episodes_that_end_at_the_limit(tmp_path, build, capsys):
    make_run(tmp_path / "early", "--algo", "ppo-early", "--cost-limit", "5", costs=())
    whole = ask(capsys, tmp_path / "early")["policies"]["mean"]
    found = ask(capsys, tmp_path / "early", "--end-at-limit")
    ended = found["policies"]["mean"]
    assert found["episodes_end_at_the_limit"]
    assert whole["episode_length_mean"] == 20.0 and whole["episode_cost_mean"] > 6.0
    assert ended["episode_length_mean"] < 20.0 and 5.0 <= ended["episode_cost_mean"] <= 6.0  # a step costs at most 1
    kept = json.loads((tmp_path / "early" / "evaluation-end-at-limit.json").read_text())
    assert kept["policies"]["mean"] == ended
    assert not json.loads((tmp_path / "early" / "evaluation.json").read_text())["episodes_end_at_the_limit"]

    assert command.main([str(tmp_path / "early"), "--end-at-limit", "--cost-limit", "0"]) == 2
    assert "--cost-limit 0 ends each episode at once" in capsys.readouterr().err


def test_flags_that_change_no_result_do_not_part_seeds(tmp_path, build, capsys):
    make_run(tmp_path / "seed0", "--keep-policies", "--keep-blow-ups", "--save-every", "5")
    make_run(tmp_path / "seed1", "--seed", "1")
    (group,) = ask(capsys, tmp_path / "seed0", tmp_path / "seed1")["groups"]
    assert group["num_seeds"] == 2


def test_limits_for_sources(tmp_path, build, capsys):
    flags = ["--algo", "ppo-lag", "--cost-limits", "probe=3", "--env", "Mine-v0"]
    make_run(tmp_path / "run", *flags, costs=(4.0, -1.0))
    result = ask(capsys, tmp_path / "run")
    assert result["cost_limits"] == {"probe": 3.0}
    assert result["policies"]["mean"]["over_limit_share_probe"] == 1.0
    assert result["training"]["worst_violation"] == 4.0 and result["training"]["feasible_steps"] == 128
    assert result["normalised"] is None and result["references"] == {"safety_gym_ppo": None, "omnisafe": None}
    assert command.main([str(tmp_path / "run"), "--episodes", "8"]) == 0
    assert "limits for sources of cost, in costly steps: probe 3" in capsys.readouterr().out


def test_what_is_not_finite_becomes_null(lag, build, capsys):
    assert command.main([str(lag), "--episodes", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert result["policies"]["mean"]["episode_cost_ci95"] is None
    assert command.main([str(lag), "--episodes", "1"]) == 0


def refuse(capsys, sentence, *argv):
    assert command.main([*map(str, argv)]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_wrong_input_ends_with_one_sentence(lag, tmp_path, build, capsys):
    refuse(capsys, "no run folder is given")
    refuse(capsys, f"{tmp_path} is not a run folder: it has no config.json", tmp_path)
    refuse(capsys, "--episodes is 0; it must be at least 1", lag, "--episodes", "0")
    refuse(capsys, "--seed is -1; it must be at least 0", lag, "--seed", "-1")
    broken = shutil.copytree(lag, tmp_path / "broken")
    shutil.rmtree(broken / "checkpoints")
    refuse(capsys, f"{broken} has no checkpoint to evaluate", lag, broken)
    (broken / "config.json").write_text("{")
    refuse(capsys, "config.json cannot be read", broken)
    (broken / "config.json").write_text(json.dumps({"run": {"algo": "nonsense"}}))
    refuse(capsys, "nonsense is unknown", broken)
    other = shutil.copytree(lag, tmp_path / "other")
    config = run_folder.read_config(other)
    config["algorithm"]["hidden_sizes"] = [9]
    (other / "config.json").write_text(json.dumps(config))
    refuse(capsys, "does not fit this training", other)
    refuse(
        capsys, "--policy best is none of both, mean, sampled; a function or a file is judged", lag, "--policy", "best"
    )
