"""Cloning refuses flags and data that cannot give a policy, and writes no policy that is not finite."""

import json

import jax
import numpy as np
import pytest
from agents import probe_envs

import mjx_safety
from mjx_safety.cli import clone, common
from mjx_safety.runs import datasets, environments

h5py = pytest.importorskip("h5py")
ENV = "SafetyPointGoal1-v0"
STEPS = 40
SMALL = ["data.hdf5", "--num-updates", "50", "--hidden-sizes", "8", "--batch-size", "16", "--out", "cloned.npz"]


@pytest.fixture(autouse=True)
def data(monkeypatch, tmp_path):
    """Two episodes in a toy world; the second costs 20."""
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: probe_envs.Random())
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)
    monkeypatch.chdir(tmp_path)
    write("data.hdf5")


def write(name, about='{"env": "SafetyPointGoal1-v0"}', **changed):
    chance = np.random.default_rng(0)
    arrays = {key: np.zeros(STEPS, np.float32) for key in datasets.KEYS}
    arrays["observations"] = arrays["next_observations"] = chance.normal(size=(STEPS, 3)).astype(np.float32)
    arrays["actions"] = 0.5 * arrays["observations"][:, :1]
    arrays["costs"][STEPS // 2 :] = 1.0
    arrays["timeouts"] = np.arange(STEPS) % (STEPS // 2) == STEPS // 2 - 1
    with h5py.File(name, "w") as file:
        for key, values in (arrays | changed).items():
            file[key] = values
        file.attrs["about"] = about


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--learning-rate", "nan"], "--learning-rate is nan; it must be above 0 and finite"),
        (["--learning-rate", "-1"], "--learning-rate is -1.0; it must be above 0 and finite"),
        (["--learning-rate", "0"], "--learning-rate is 0.0; it must be above 0 and finite"),
        (["--learning-rate", "1e999"], "--learning-rate is inf; it must be above 0 and finite"),
        (["--seed", "-1"], "--seed is -1; it must be at least 0 and below 2^32"),
        (["--seed", "99999999999999999999"], "--seed is 99999999999999999999; it must be at least 0"),
        (["--best", "nan"], "--best is nan; it must be above 0 and at most 1"),
        (["--cost-limit", "nan"], "--cost-limit is nan; it must be a number"),
        (["--cost-limit", "-1"], "no episode of data.hdf5 costs at most --cost-limit -1; the least costly of 2 has 0"),
        (["--hidden-sizes", "0"], "--hidden-sizes is (0,); it must be numbers of units, each at least 1"),
    ],
)
def test_wrong_flags_on_good_data(flags, sentence, tmp_path, capsys):
    assert clone.main([*SMALL, *flags]) == 2
    assert sentence in said(capsys) and not (tmp_path / "cloned.npz").exists()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"about": "[1]"}, "bad.hdf5 has a description 'about' of type list; it must be a mapping"),
        ({"about": "{oops"}, "bad.hdf5 has an attribute 'about' that is no JSON"),
        ({"about": "{}"}, "bad.hdf5 does not name its environment; say it with --env"),
        ({"about": '{"env": "os:system"}'}, "bad.hdf5 names the environment os:system, which is code"),
        ({"actions": np.full((STEPS, 1), np.nan)}, "bad.hdf5 has actions that are not finite numbers"),
        ({"actions": np.zeros((3, 1))}, "bad.hdf5 has arrays of different lengths"),
        ({"rewards": np.zeros(7)}, "bad.hdf5 has arrays of different lengths"),
        ({"timeouts": np.zeros(STEPS, bool)}, "no episode of bad.hdf5 costs at most --cost-limit 25; it has no whole"),
    ],
)
def test_data_that_do_not_fit_are_refused(changed, sentence, tmp_path, capsys):
    write("bad.hdf5", **changed)
    assert clone.main(["bad.hdf5", *SMALL[1:]]) == 2
    assert sentence in said(capsys) and not (tmp_path / "cloned.npz").exists()


@pytest.mark.parametrize("fault", ["rate", "numbers"])
def test_a_policy_that_is_not_finite_is_not_written(fault, tmp_path, capsys):
    flags = ["--learning-rate", "1e38"] if fault == "rate" else []
    if fault == "numbers":
        write("data.hdf5", actions=np.full((STEPS, 1), 3e38, np.float32))
    assert clone.main([*SMALL, *flags]) == 1
    assert "the policy is not finite, so it was not written" in said(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.hdf5"]


@pytest.mark.parametrize("limit", ["5", "inf"])
def test_the_largest_seed_and_any_limit(limit):
    assert clone.main([*SMALL, "--seed", str(2**32 - 1), "--cost-limit", limit]) == 0
    policy = mjx_safety.load_policy("cloned.npz")
    assert policy.env_id == ENV and policy.origin["env_steps"] == (STEPS if limit == "inf" else STEPS // 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(policy.actor))
    assert json.loads(json.dumps(policy.origin))["config"]["run"]["seed"] == 2**32 - 1
