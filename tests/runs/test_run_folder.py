"""What a run folder says of the machine and the code behind its numbers."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mjx_safety.runs import run_folder


def test_the_commit_is_that_of_this_package_only(tmp_path, monkeypatch):
    """A package that is installed inside another repository does not take that repository's commit."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "Theirs"], check=True)
    installed = tmp_path / "installed" / "run_folder.py"
    installed.parent.mkdir()
    shutil.copy(run_folder.__file__, installed)
    monkeypatch.setattr(run_folder, "__file__", str(installed))
    assert run_folder.describe_machine()["git_commit"] is None
    subprocess.run([*git, "add", str(installed)], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert run_folder.describe_machine()["git_commit"] == head
    assert Path(run_folder.__file__) == installed


@pytest.mark.parametrize(("env_id", "flag"), [("SafetyPointGoal1-v0", ""), ("my_package.envs:walled_goal", " --trust")])
def test_commands_about_code_of_ones_own_need_trust(env_id, flag):
    assert run_folder.trust_flag(env_id) == flag


def test_a_diverged_member_keeps_its_last_rows_when_its_group_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "RunFolder", lambda path, config, rows, steps: rows)  # opens no loggers
    rows = "".join(json.dumps({"num_rollouts": number, "env_steps": 64 * number}) + "\n" for number in range(1, 7))
    for folder, config in ((tmp_path / "a", {"diverged": "episode_return is nan"}), (tmp_path / "b", {})):
        folder.mkdir()
        (folder / run_folder.METRICS).write_text(rows)
        run_folder.write_config(folder, config)
        kept = run_folder.reopen(folder, config, 64, num_rollouts=3)
        assert len(kept) == len(run_folder.read_rows(folder)) == (6 if config else 3)
