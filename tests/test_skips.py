"""In continuous integration a skipped test is a failed one, unless conftest.py names the reason."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_expected():
    pytest.skip("needs the extra 'launches'")

def test_unexpected():
    pytest.skip("no mood")
"""


@pytest.mark.parametrize(("refuse", "status"), [("", 0), ("1", 1)])
def test_an_unexpected_skip_fails_the_run(refuse, status, tmp_path):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    env = os.environ | {"REFUSE_SKIPS": refuse}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("Unexpected skip: test_some.py::test_unexpected: Skipped: no mood" in done.stdout) == bool(refuse)
    assert "test_expected:" not in done.stdout
