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


def test_a_whole_training_without_a_result_is_judged_and_not_trained_again(tmp_path, monkeypatch):
    """A kill during the evaluation leaves such a folder. `train --resume` would refuse it.

    A kill before the last checkpoint leaves whole metrics. Then `train --resume` repeats the end.
    """
    calls = []
    run = campaign.Run("PointGoal1", "ppo-lag", 0)
    folder = tmp_path / run.name
    newest = folder / "checkpoints" / "00000002"
    newest.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"env_steps": steps}) + "\n" for steps in (32, 64, 96)))
    monkeypatch.setattr(campaign, "WORK", tmp_path)
    monkeypatch.setattr(campaign.programs, "call", lambda *words: calls.append(words))
    monkeypatch.setattr(campaign.leaderboard, "draw", lambda env: None)
    kept = {"evaluation": {"policies": {"mean": {"episode_return_mean": 1.0}}}}
    monkeypatch.setattr(campaign.learning, "keep", lambda *_: kept)
    campaign.train(run, 100)
    assert [words[:2] for words in calls] == [("train", "--resume"), ("evaluate", str(folder))]
    newest.rename(newest.with_name("00000003"))
    assert campaign.train(run, 100) == {"episode_return_mean": 1.0}
    assert calls[2:] == [("evaluate", str(folder))]
    with pytest.raises(SystemExit):  # nothing was trained here
        campaign.train(run, 200)
    assert calls[3][:2] == ("train", "--resume")
