"""What a run folder says of the machine and the code behind its numbers."""

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
