"""Recordings of safety-gymnasium 1.0.0 (tests/data) against both engines. benchmarks/parity.py compares."""

import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import mjx_safety

ROOT = Path(__file__).resolve().parent.parent
LEVELS = ("PointGoal0", "PointGoal1", "PointGoal2")
FREE_POSITION = {"mujoco": 1e-4, "mjx": 1e-3}  # m, after one step
REACH = 0.15 + 0.1 * 3**0.5  # m, from the Point's centre to its nose plus from a vase's centre to its corner


def _load_benchmark():
    spec = importlib.util.spec_from_file_location("parity", ROOT / "benchmarks" / "parity.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["parity"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


parity = _load_benchmark()


class Comparison:
    """One recording on one engine."""

    def __init__(self, level, engine):
        self.engine = engine
        self.record = parity.load(parity.DATA / f"{level}.npz")
        self.env = mjx_safety.make(self.record["env"], physics=engine)
        self.static = parity.compare_static(self.env, self.record)
        self.steps = parity.compare_transitions(self.env, self.record)


CASES = [
    *(pytest.param((level, "mujoco"), id=f"{level}-mujoco") for level in LEVELS),
    pytest.param(("PointGoal1", "mjx"), id="PointGoal1-mjx"),
    *(
        pytest.param((level, "mjx"), id=f"{level}-mjx", marks=pytest.mark.slow)
        for level in LEVELS
        if level != "PointGoal1"
    ),
]


@pytest.fixture(scope="module", params=CASES)
def comparison(request):
    return Comparison(*request.param)


def test_the_recording_is_of_this_environment(comparison):
    assert comparison.env.obs_size == comparison.record["static/obs"].shape[1]
    assert comparison.static["worlds"] == 48 and comparison.steps["steps"] == 120
    slices = {name: [where.start, where.stop] for name, where in comparison.env.obs_slices.items()}
    assert slices == comparison.record["obs_keys"]


def test_observations_are_the_references(comparison):
    lidars = [name for name in comparison.env.obs_slices if name.endswith("_lidar")]
    for name in ("velocimeter", "gyro", "magnetometer", *lidars):
        assert comparison.static[name] <= 1e-4, name


def test_the_accelerometer_is_the_references_where_nothing_is_touched(comparison):
    record, env = comparison.record, comparison.env
    where = env.obs_slices["accelerometer"]
    clear = np.ones(len(record["static/obs"]), bool)
    if "static/vases_pos" in record:
        gap = np.linalg.norm(record["static/vases_pos"] - record["static/root_pos"][:, None], axis=-1)
        clear = gap.min(axis=-1) > REACH
    assert clear.sum() >= 10
    states = jax.jit(jax.vmap(env.restore))(parity.snapshots(record, "static/"))
    expected = record["static/obs"][clear, where]
    error = np.linalg.norm(states.obs[clear, where] - expected, axis=-1)
    assert np.all(error <= 1e-2 * np.linalg.norm(expected, axis=-1))


def test_costs_of_posed_worlds_are_the_references(comparison):
    for name in comparison.env.cost_names:
        if name == "hazards":
            assert comparison.static["cost_hazards"] <= 1e-5
        assert comparison.static[f"sign_{name}"] >= 0.99, name


def test_free_steps_are_the_references(comparison):
    steps = comparison.steps
    assert steps["steps"] - steps["touched"] - steps["flip"] >= 20
    assert steps["free_position"] <= FREE_POSITION[comparison.engine]
    assert steps["free_reward"] <= 1e-4


def test_goals_and_costs_of_steps_are_the_references(comparison):
    steps = comparison.steps
    assert steps["goal_met"] == 1.0
    assert steps["cost"] == 1.0
    for name in comparison.env.cost_names:
        assert steps[f"sign_{name}"] >= 0.99, name


def test_the_recordings_hold_what_the_bars_are_about():
    """Otherwise they would pass on nothing."""
    records = [parity.load(parity.DATA / f"{level}.npz") for level in LEVELS]
    assert (records[2]["static/raw_cost_hazards"] > 0).sum() >= 5
    for source in ("contact", "velocity"):
        assert (records[2][f"transition/info_cost_vases_{source}"] > 0).sum() >= 3, source
    assert sum((record["transition/goal_met"] > 0).sum() for record in records) >= 1
    assert parity.touched_steps(records[2]).sum() >= 10
