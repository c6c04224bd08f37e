"""Files of policies and runs: metadata is JSON, and settings that no training can have are refused."""

import json
import math

import jax
import numpy as np
import pytest
from agents import probe_envs

import mjx_safety
from mjx_safety.agents.types import Actor
from mjx_safety.cli import common, submit
from mjx_safety.runs import policy_files, run_folder, training_checks
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.policy import Policy

INF = math.inf


def endless(log_std_range):
    """A policy whose training had no limit."""
    weights, biases = (np.zeros((3, 1), np.float32),), (np.zeros(1, np.float32),)
    agent = Actor(np.zeros(3), np.ones(3), weights, biases, np.zeros(1), log_std_range=log_std_range)
    run = {"env": "SafetyPointGoal1-v0", "algo": "ppo", "cost_limit": INF, "sweep": ("a",)}
    return Policy("SafetyPointGoal1-v0", 3, 1, {}, (), agent, {"config": {"run": run}, "env_steps": 1})


def no_json(word):
    raise AssertionError(f"{word} is no JSON")


def test_metadata_of_a_policy_is_json_and_comes_back(tmp_path):
    policy_files.write_npz(endless((-INF, 2.0)), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        about = json.loads(str(file["about"]), parse_constant=no_json)
    assert about["network"]["log_std_range"] == [None, 2.0]
    policy = mjx_safety.load_policy(tmp_path / "a.npz")
    assert policy.actor.log_std_range == (-INF, 2.0) and policy.origin["config"]["run"]["cost_limit"] == INF


def test_files_of_earlier_versions_still_load(tmp_path):
    policy_files.write_npz(endless((-5.0, 2.0)), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    about = json.loads(str(arrays.pop("about")))
    about["network"]["log_std_range"] = [-INF, INF]
    about["origin"]["config"]["run"]["cost_limit"] = INF
    np.savez(tmp_path / "old.npz", about=np.array(json.dumps(about)), **arrays)
    policy = mjx_safety.load_policy(tmp_path / "old.npz")
    assert policy.actor.log_std_range == (-INF, INF) and policy.origin["config"]["run"]["cost_limit"] == INF


@pytest.mark.parametrize("noise", ["0", "0.2", "1e30"])
def test_td3_exports_finite_bounds_that_cut_nothing(noise):
    algorithm = common.parse(["--algo", "td3-lag", "--hidden-sizes", "4", "--exploration-noise", noise]).build()
    state = algorithm.init(probe_envs.Target(), jax.random.key(0))
    actor = algorithm.actor(state.params, state.normaliser)
    assert np.isfinite(actor.log_std_range).all()
    spread = np.exp(np.clip(np.asarray(actor.log_std), *actor.log_std_range))
    np.testing.assert_allclose(spread, float(noise), rtol=1e-4, atol=1e-37)


@pytest.mark.parametrize(
    ("part", "name", "value", "sentence"),
    [
        ("algorithm", "hidden_sizes", [-8], r"--hidden-sizes is \(-8,\); it must be one or more numbers of units"),
        ("run", "cost_limit", math.nan, "--cost-limit is nan; it must be"),
        ("run", "cost_limit", -1.0, "--cost-limit is -1.0; it must be at least 0"),
        ("train", "discount", 1.5, "--discount is 1.5; it must be at least 0 and at most 1"),
    ],
)
def test_a_run_whose_settings_no_training_can_have_is_refused(tmp_path, part, name, value, sentence):
    config = json.loads(json.dumps(common.parse(["--hidden-sizes", "8"]).to_config()))
    config[part][name] = value
    (tmp_path / "checkpoints" / "00000001").mkdir(parents=True)
    (tmp_path / "config.json").write_text(json.dumps(config))
    where = f"{tmp_path}/config.json does not fit this version of mjx_safety: "
    with pytest.raises(ValueError, match=where + sentence):
        mjx_safety.load_policy(tmp_path)
    with pytest.raises(UsageError, match=where + sentence):
        run_folder.read_options(tmp_path / "config.json")


def test_the_largest_seed(tmp_path):
    training_checks.check(common.parse(["--seed", "4294967295"]))
    training_checks.check(common.parse(["--seed", "4294967294", "--num-seeds", "2"]))
    for seed in ("-1", "4294967296"):
        with pytest.raises(UsageError, match=f"--seed is {seed}; it must be at least 0 and below 2.32"):
            training_checks.check(common.parse(["--seed", seed]))
    flags = ["--seed", "4294967295", "--num-seeds", "2147483647"]
    with pytest.raises(UsageError, match="from --seed 4294967295 on, it must be at most 1, because seeds lie below"):
        submit.read(["--out", str(tmp_path), "--", *flags])  # and does not list two billion members before


def test_only_a_last_line_may_be_unreadable(tmp_path):
    lines = ['{"env_steps": 1}', '{"env_st', "", "3", '{"env_steps": 4}', '{"env']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert [row["env_steps"] for row in run_folder.read_rows(tmp_path)] == [1, 4]
    assert run_folder.damaged_lines(tmp_path) == [2, 4]
    (tmp_path / "metrics.jsonl").write_bytes(b'{"env_steps": 1}\n\xff\xfe\x00\n{"env_steps": 3}\n')
    assert [row["env_steps"] for row in run_folder.read_rows(tmp_path)] == [1, 3]
    assert run_folder.damaged_lines(tmp_path) == [2]
    (tmp_path / "metrics.jsonl").write_text('{"env_steps": 1}\n{"env_steps"')
    assert run_folder.damaged_lines(tmp_path) == []
