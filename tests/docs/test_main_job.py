"""The result of the main job in README belongs to the agents that README belongs to."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "campaign" / "PointGoal1-ppo-lag-seed0.json"


def git(*words):
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)


def test_the_main_job_ran_with_the_present_agents():
    """If not: delete the file, then python benchmarks/campaign.py --envs PointGoal1 --algos ppo-lag --seeds 0."""
    ran_with = json.loads(RESULT.read_text())["machine"]["git_commit"]
    if git("cat-file", "-e", f"{ran_with}^{{commit}}").returncode:
        pytest.skip("the history of this checkout does not hold the commit of the main job")
    last_change = git("log", "-1", "--format=%H", "--", "mjx_safety/agents").stdout.strip()
    assert git("merge-base", "--is-ancestor", last_change, ran_with).returncode == 0, (
        f"mjx_safety/agents changed in {last_change[:9]}, after the main job ran with {ran_with[:9]}"
    )
