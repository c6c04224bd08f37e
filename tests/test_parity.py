"""Recordings of safety-gymnasium 1.0.0 (tests/data) against both engines. benchmarks/parity.py compares."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import parity

NAMES = sorted(path.stem for path in parity.DATA.glob("*.npz"))
KNOWN = json.loads((parity.DATA / "cannot_reproduce.json").read_text())
ENGINES = ("mujoco", "mjx")
CASES = [
    *((name, "mujoco") for name in NAMES),
    *(pytest.param((name, "mjx"), marks=() if name == "PointGoal1" else pytest.mark.slow) for name in NAMES),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def case(request):
    """One recording on one engine: its names, and the numbers of the parts "posed", "after" and "steps"."""
    name, engine = request.param
    return name, engine, parity.compare(parity.DATA / f"{name}.npz", (engine,))[engine]


def test_all_bars_are_kept(case):
    name, engine, result = case
    assert parity.missed(result, engine) == []
    assert {part: row["listed"] for part, row in result.items()} == {}


@pytest.fixture(scope="module")
def records():
    return {name: parity.load(parity.DATA / f"{name}.npz") for name in NAMES}
