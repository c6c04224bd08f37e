"""Recordings of safety-gymnasium 1.0.0 (tests/data) against both engines. benchmarks/parity.py compares."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
parity = importlib.import_module("parity")  # a script next to others

NAMES = sorted(path.stem for path in parity.DATA.glob("*.npz"))
KNOWN = json.loads((parity.DATA / "cannot_reproduce.json").read_text())
CASES = [
    *(
        pytest.param((name, "mujoco"), id=f"{name}-mujoco", marks=() if name[-1] == "1" else pytest.mark.thorough)
        for name in NAMES
    ),
    *(
        pytest.param((name, "mjx"), id=f"{name}-mjx", marks=() if name == "PointGoal1" else pytest.mark.slow)
        for name in NAMES
    ),
]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """One recording on one engine: its names, and the numbers of the parts "posed", "after" and "steps"."""
    name, engine = request.param
    return name, engine, parity.compare(parity.DATA / f"{name}.npz", (engine,))[engine]


@pytest.fixture(scope="module")
def records():
    return {name: parity.load(parity.DATA / f"{name}.npz") for name in NAMES}


def test_all_bars_are_kept(case):
    _, engine, result = case
    assert parity.missed(result, engine) == []


def test_no_more_worlds_than_known_cannot_reproduce(case):
    name, engine, result = case
    for part, row in result.items():
        known = KNOWN[name][engine].get(part, {})
        grown = {kind: count for kind, count in row["listed"].items() if count > known.get(kind, 0)}
        assert not grown, (part, known)


def test_the_bars_are_about_many_worlds(case):
    name, _, result = case
    assert (result["posed"]["worlds"], result["after"]["worlds"], result["steps"]["steps"]) == (48, 120, 120)
    assert result["after"]["strict"] >= 90
    assert result["steps"]["strict"] >= 75
    if not name.startswith("Car"):  # all Cars are posed with their wheels just on the floor
        assert result["posed"]["strict"] >= 25


def test_a_bar_that_is_not_kept_is_missed():
    row = {"lidars": 0.0, "motion": float("nan"), "signs": {"hazards": 0.5}}
    assert parity.missed({"posed": row}, "mujoco") == [
        "posed motion: nan > 0.0001",
        "posed signs hazards: 0.500 < 0.99",
    ]


def test_all_environments_of_the_benchmark_were_recorded(records):
    assert sorted(record["env"] for record in records.values()) == sorted(parity.mjx_safety.BENCHMARK_IDS)


def test_the_recordings_hold_what_the_bars_are_about(records):
    """Otherwise they would pass on nothing."""
    least = {"contact": 10, "velocity": 30, "pillars": 9, "buttons": 4, "gremlins": 30, "hazards": 20}
    for source, number in least.items():
        keys = [(record, key) for record in records.values() for key in record if "transition/info_cost_" in key]
        assert sum((record[key] > 0).sum() for record, key in keys if key.endswith(source)) >= number, source
    assert sum((record["transition/goal_met"] > 0).sum() for record in records.values()) >= 10
