"""Recorded steps of safety-gymnasium's Velocity-v1 (tests/data/velocity). benchmarks/velocity_parity.py compares."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
parity = importlib.import_module("velocity_parity")  # a script next to others

CASES = [
    *((name, "mujoco") for name in parity.NAMES),
    *(pytest.param(name, "mjx", marks=pytest.mark.slow) for name in parity.NAMES),
]


@pytest.mark.parametrize("name, engine", CASES)
def test_all_bars_are_kept(name, engine):
    result = parity.compare(parity.DATA / f"{name}.npz", engine)
    assert parity.missed(result, name, engine) == []
    if engine == "mujoco" and name not in ("Ant", "Humanoid"):  # no lag there, so the rest agrees as well
        assert result["reward"][2] < 1e-5 and result["obs qpos"][2] < 1e-5 and result["obs qvel"][2] < 1e-4


@pytest.mark.parametrize("name", parity.NAMES)
def test_the_recordings_hold_what_matters(name):
    record = parity.load(parity.DATA / f"{name}.npz")
    assert len(record["reward"]) >= 60 and 0 < record["cost"].mean() < 1
    assert record["terminated"].any() == (name not in ("HalfCheetah", "Swimmer"))


def test_a_bar_that_is_not_kept_is_missed():
    kept = {"next_qpos": [0.0, 1e-5, 1.0], "cost": 1.0, "cost_v0": 1.0, "terminated": 1.0}
    assert parity.missed(kept, "Hopper", "mujoco") == []
    broken = {"next_qpos": [0.0, np.nan, 1.0], "cost": 0.99, "cost_v0": 1.0, "terminated": 0.5}
    assert [miss.split(":")[0] for miss in parity.missed(broken, "Hopper", "mujoco")] == [
        "next_qpos",
        "cost",
        "terminated",
    ]
    assert len(parity.missed(broken, "Ant", "mujoco")) == 2
