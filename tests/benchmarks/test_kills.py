"""A training that is killed again and again: what it leaves is whole, and it ends as if nobody had killed it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import kills


@pytest.mark.slow
def test_twenty_kills_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    result = kills.test(kills.Args(num_kills=20), tmp_path)
    assert result["rows"] > 50 and result["rows_that_differ"] == 0
    assert any(kill["half_written"] for kill in result["kills"])
