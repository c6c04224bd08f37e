"""The campaign judges whole trainings only."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import campaign


@pytest.mark.parametrize(("last", "is_whole"), [(96, True), (64, False)])
def test_a_stopped_training_is_not_judged(last, is_whole, tmp_path):
    """Iterations of 32 steps, 100 steps asked for."""
    rows = [json.dumps({"env_steps": steps}) + "\n" for steps in range(32, last + 1, 32)]
    (tmp_path / "metrics.jsonl").write_text("".join(rows))
    if is_whole:
        campaign.refuse_stopped(tmp_path, 100)
        return
    with pytest.raises(SystemExit, match="stopped at 64 steps; the same command goes on with it"):
        campaign.refuse_stopped(tmp_path, 100)
