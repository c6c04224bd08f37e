"""Several processes train together: one run folder, and the same decisions although clocks and signals differ."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mjx_safety.agents import checkpoint
from mjx_safety.runs import run_folder

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parent.parent
SMALL = ["--num-envs", "8", "--unroll-length", "8", "--num-minibatches", "4", "--hidden-sizes", "8"]
SMALL += ["--physics", "mjx", "--num-devices", "0", "--coordinator", "auto"]
PROCESS = """
import os, sys, time
if os.environ["SLURM_PROCID"] == "1":  # its clocks run three times as fast
    fast = lambda clock, zero: lambda: zero + 3 * (clock() - zero)
    time.monotonic, time.perf_counter = (fast(c, c()) for c in (time.monotonic, time.perf_counter))
from agents import probe_envs
from mjx_safety.cli import common, train, waiting
from mjx_safety.runs import environments
environments.build_env = lambda env_id, physics, **_: probe_envs.Random()
common.set_up_jax = lambda compilation_cache: None
train.CHUNK = float(os.environ["CHUNK"])
status = train.main(sys.argv[1:])
import jax
print("processes", jax.process_count(), "of", jax.device_count(), "devices")
waiting.leave(status)
"""


def free_job() -> int:
    """Return the id of a job of Slurm whose port is free. JAX derives the port from the id."""
    job = 4096 + os.getpid() % 4096
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", job % 4096 + 65535 - 4096 + 1))
            return job
        job += 1


@contextlib.contextmanager
def two_processes(folders, *flags, chunk=3.0):
    """Start them as srun does, on loopback. folders: where each one looks for its run; chunk: s."""
    slurm = {"SLURM_JOB_ID": str(free_job()), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2"}
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    with contextlib.ExitStack() as stack:
        running = []
        for rank, folder in enumerate(folders):
            names = os.environ | slurm | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "CHUNK": str(chunk)}
            names |= {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
            names.pop("XLA_FLAGS", None)
            command = [sys.executable, "-c", PROCESS, *SMALL, *flags, str(folder)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = subprocess.Popen(command, env=names, text=True, cwd=TESTS.parent, **pipes)
            running.append(stack.enter_context(process))
            stack.callback(process.kill)
        yield running


def results(running):
    """Wait for the processes. Returns the status and the output of each."""
    said = [process.communicate(timeout=300) for process in running]
    return [(process.returncode, out + err) for process, (out, err) in zip(running, said, strict=True)]


def test_find_each_other_as_under_slurm(tmp_path):
    """The first process writes the run folder."""
    with two_processes([tmp_path / "run"] * 2, "--total-steps", "256", "--out") as running:
        for status, said in results(running):
            assert status == 0 and "processes 2 of 2 devices" in said, said[-3000:]
    assert [row["env_steps"] for row in run_folder.read_rows(tmp_path / "run")] == [64, 128, 192, 256]


def test_agree_on_calls_and_checkpoints_although_their_clocks_differ(tmp_path):
    """Calls of one process that hold more iterations, or a checkpoint of its own, would make the other one wait."""
    flags = ["--total-steps", str(64 * 80), "--save-every", "0.1", "--out"]
    with two_processes([tmp_path / "run"] * 2, *flags, chunk=0.02) as running:
        for status, said in results(running):
            assert status == 0, said[-3000:]
    assert len(run_folder.read_rows(tmp_path / "run")) == 80
    assert len(checkpoint.found(tmp_path / "run" / "checkpoints")) > 1


def test_stop_together_if_one_is_asked_to(tmp_path):
    with two_processes([tmp_path / "run"] * 2, "--total-steps", "1e9", "--out", chunk=0.1) as running:
        begun = time.monotonic()
        while not checkpoint.found(tmp_path / "run" / "checkpoints") and time.monotonic() - begun < 200:
            time.sleep(0.1)
        running[1].send_signal(signal.SIGTERM)
        ended = results(running)
    assert [status for status, _ in ended] == [0, 0], ended
    assert "Stopped before the end" in ended[0][1]
    newest = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert int(newest.name) == len(run_folder.read_rows(tmp_path / "run"))


def test_refuse_to_continue_on_disks_of_their_own(tmp_path):
    with two_processes([tmp_path / "run"] * 2, "--total-steps", "256", "--out") as running:
        results(running)
    folders = [tmp_path / "run", tmp_path / "other"]
    with two_processes(folders, "--total-steps", "512", "--resume-or-start") as running:
        for status, said in results(running):
            assert status != 0 and "it must be on a disk that all of them share" in said, said[-3000:]
