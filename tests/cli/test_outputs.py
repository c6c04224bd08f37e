"""Outputs: what cannot be written is refused before anything is computed, and a terminal may go away."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from agents import probe_envs

from mjx_safety.cli import benchmark, clone, common, export, plot, record, render, train
from mjx_safety.runs import environments, run_folder
from mjx_safety.runs.errors import UsageError

FLAGS = ["--num-envs", "8", "--unroll-length", "8", "--num-minibatches", "2", "--num-passes", "1"]
FLAGS += ["--hidden-sizes", "8", "--no-compilation-cache", "--physics", "mujoco", "--total-steps", "6400"]
POLICY = "SafetyPointGoal1-v0/ppo-lag"
COMMANDS = {  # the module, and what it asks for beside --out
    ".html": (render, [POLICY]),
    ".npz": (export, [POLICY]),
    ".png": (plot, ["missing"]),
    ".json": (benchmark, []),
    ".hdf5": (record, [POLICY]),
}


@pytest.mark.parametrize("suffix", COMMANDS)
def test_files_that_cannot_be_written_are_refused_at_once(suffix, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: pytest.fail("it went on"))
    module, words = COMMANDS[suffix]
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file/a", "dangling/a", "x" * 300):
        path = tmp_path / f"{name}{suffix}"
        before = sorted(tmp_path.rglob("*"))
        assert module.main([*words, "--out", str(path)]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"--out {path} cannot be written: " in said or "File name too long" in said
        assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_no_file_to_write(tmp_path):
    common.check_outputs(tmp_path / "new" / "a.npz", tmp_path / "b.npz")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=f"--out {tmp_path} cannot be written: it is a folder; choose another name"):
        common.check_outputs(tmp_path)
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        clone._check(clone.Flags("data.hdf5", tmp_path / "a.npz"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_ask_to_stop_unless_they_are_ignored(number):
    with common.GracefulStop() as stop:
        os.kill(os.getpid(), number)
    assert stop.requested
    before = signal.signal(number, signal.SIG_IGN)  # nohup, or a shell's background
    try:
        with common.GracefulStop() as stop:
            os.kill(os.getpid(), number)
        assert not stop.requested and signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_training_whose_output_is_closed_ends_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: probe_envs.Random())
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)

    def closes(self, row):
        self.is_unheard = True

    monkeypatch.setattr(train.Progress, "update", closes)
    path = tmp_path / "run"
    assert train.main([*FLAGS, "--out", str(path)]) == 1
    rows = run_folder.read_rows(path)
    said = " ".join(capsys.readouterr().err.split())
    number = int(rows[-1]["num_rollouts"])
    assert f"its output cannot be written any more; iteration {number} is saved in {path / 'checkpoints'}" in said


def test_commands_to_copy_are_quoted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: probe_envs.Random())
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)
    path = tmp_path / "my run"
    assert train.main([*FLAGS, "--total-steps", "128", "--out", str(path)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Evaluate:"))
    assert shlex.split(line)[-1] == str(path)


def test_text_that_the_terminal_cannot_show_ends_nothing(tmp_path):
    code = "import sys; from mjx_safety.cli import common; common.run_command(lambda _: print('1 \\xb1 2'), [])"
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1 \\xb1 2\n"), done.stderr
