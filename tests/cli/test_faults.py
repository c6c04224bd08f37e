"""Faults of machines and users: a run is whole or refused, in one sentence, and nothing is overwritten."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents import probe_envs
from flax import struct

import mjx_safety
from mjx_safety.agents import checkpoint, optimize
from mjx_safety.cli import common, evaluate, train, waiting
from mjx_safety.core import files
from mjx_safety.runs import blow_ups, environments, lock, run_folder

FLAGS = ["--num-envs", "8", "--unroll-length", "8", "--num-minibatches", "2", "--num-passes", "1"]
FLAGS += ["--hidden-sizes", "8", "--no-compilation-cache", "--physics", "mujoco"]
BATCH = 64  # steps per iteration under FLAGS


class Slow(probe_envs.Random):
    """A world whose program takes as long to build as a test says."""

    released = threading.Event()
    reached = threading.Event()

    def step(self, state, action):
        Slow.reached.set()
        Slow.released.wait(20.0)
        return super().step(state, action)


@pytest.fixture(autouse=True)
def probe(monkeypatch):
    """Every command gets a toy world, and leaves JAX's settings alone."""
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: probe_envs.Random())
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three iterations. Tests copy it."""
    path = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "build_env", lambda env_id, physics, **_: probe_envs.Random())
        patch.setattr(common, "set_up_jax", lambda compilation_cache: None)
        assert train.main([*FLAGS, "--total-steps", str(3 * BATCH), "--save-every", "0", "--out", str(path)]) == 0
    return path


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def said_wrong(capsys):
    return " ".join(capsys.readouterr().err.split())


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def env_steps(path):
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["env_steps"] for line in lines]


def go_on(run, steps=4):
    return train.main(["--resume", str(run), "--total-steps", str(steps * BATCH)])


@pytest.mark.parametrize(
    ("part", "damage"),
    [("agent", "cut short"), ("agent", "missing"), ("agent", "one bit"), ("world", "cut short"), ("world", "one bit")],
)
def test_a_damaged_checkpoint_is_refused_and_the_older_one_named(run, capsys, part, damage):
    newest = run / "checkpoints" / "00000003"
    victim = newest / f"{part}.npz"
    whole = victim.read_bytes()
    victim.unlink()
    if damage == "cut short":
        victim.write_bytes(whole[: len(whole) // 2])
    elif damage == "one bit":
        first = whole.rindex(b"\x93NUMPY") + 128  # in the numbers of the last array
        victim.write_bytes(whole[:first] + bytes([whole[first] ^ 1]) + whole[first + 1 :])
    before = content(run)
    assert go_on(run) == 2
    said = said_wrong(capsys)
    assert (
        f"the file {victim} is damaged: it is missing, cut short or changed; delete 00000003 to continue from" in said
    )
    assert content(run) == before
    if part == "agent":
        assert evaluate.main([str(run), "--episodes", "2"]) == 2
        with pytest.raises(ValueError, match="is damaged"):
            mjx_safety.load_policy(run)
    shutil.rmtree(newest)
    assert go_on(run) == 0
    assert env_steps(run) == [BATCH, 2 * BATCH, 3 * BATCH, 4 * BATCH]


def test_a_checkpoint_of_another_format_is_refused(run, capsys):
    file = run / "checkpoints" / "00000003" / "world.npz"
    arrays = dict(np.load(file))
    np.savez(file, **arrays | {"format": 99})
    before = content(run)
    assert go_on(run) == 2
    assert "has format 99; this version of mjx_safety reads 1" in said_wrong(capsys)
    assert content(run) == before


def test_a_checkpoint_runs_no_code(run, capsys):
    """An array of objects would be a pickle, which may call anything."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(run / "evil"),)

    file = run / "checkpoints" / "00000003" / "agent.npz"
    arrays = dict(np.load(file))
    name = sorted(arrays)[0]
    np.savez(file, **arrays | {name: np.array([Evil()], dtype=object)}, allow_pickle=True)
    assert go_on(run) == 2
    assert "is damaged" in said_wrong(capsys) and not (run / "evil").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda config: config["algorithm"].update(hidden_sizes=[4]), "does not fit this training"),
        (lambda config: config["algorithm"].update(hidden_sizes="wide"), "hidden_sizes is 'wide'"),
        (lambda config: config["run"].update(num_envs=True), "num_envs is True"),
        (lambda config: config["run"].update(algo="none"), "--algo none is unknown"),
        (lambda config: config["train"].update(new_setting=1), "new_setting"),
        (lambda config: config.pop("constraint"), "it lacks 'constraint'"),
        (lambda config: config.update(train=[1]), "not a mapping"),
    ],
)
def test_a_folder_of_another_configuration_is_refused(run, capsys, change, sentence):
    config = run_folder.read_config(run)
    change(config)
    (run / "config.json").write_text(json.dumps(config))
    before = content(run)
    assert go_on(run) == 2
    assert sentence in said_wrong(capsys)
    assert content(run) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x01"])
def test_a_config_that_is_no_mapping_is_refused(run, capsys, text):
    (run / "config.json").write_text(text)
    before = content(run)
    for command in (go_on, lambda run: evaluate.main([str(run)])):
        assert command(run) == 2
        assert "config.json cannot be read" in said_wrong(capsys)
    assert content(run) == before


def test_resume_or_start(tmp_path, capsys):
    path = tmp_path / "job"
    command = [*FLAGS, "--resume-or-start", str(path), "--total-steps"]
    assert train.main([*command, str(2 * BATCH)]) == 0
    assert train.main([*command, str(4 * BATCH)]) == 0, said_wrong(capsys)
    assert env_steps(path) == [BATCH, 2 * BATCH, 3 * BATCH, 4 * BATCH]
    before = content(path)
    capsys.readouterr()
    for steps in (2, 4):
        assert train.main([*command, str(steps * BATCH)]) == 0
        assert f"{path} is finished, with {4 * BATCH} of --total-steps {steps * BATCH}" in capsys.readouterr().out
    assert train.main([*command, str(6 * BATCH), "--cost-limit", "7"]) == 2
    assert f"{path} holds a run with other settings: --cost-limit 25.0, not 7.0" in said_wrong(capsys)
    assert train.main([*command, str(6 * BATCH), "--out", str(path)]) == 2
    assert "has no use beside --resume-or-start" in said_wrong(capsys)
    assert content(path) == before

    shutil.rmtree(path / "checkpoints")  # as if it was killed before the first
    assert train.main(["--resume", str(path)]) == 2
    assert "has no checkpoint to continue from" in said_wrong(capsys)
    assert train.main([*command, str(3 * BATCH)]) == 0
    assert env_steps(path) == [BATCH, 2 * BATCH, 3 * BATCH]


def test_two_trainings_cannot_have_one_folder(run, capsys):
    before = content(run)
    with lock.hold([run]):
        assert go_on(run) == 2
    assert "is in use: another process trains into it" in said_wrong(capsys)
    assert content(run) == before
    hold = (
        "import sys, time; from filelock import FileLock\nwith FileLock(sys.argv[1]): print(flush=True), time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(run / lock.FILE)], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert go_on(run) == 2
        other.kill()
        other.wait()
    assert go_on(run) == 0  # a killed process keeps no lock


@pytest.mark.parametrize("place", ["below a file", "read-only"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, capsys, place):
    if place == "below a file":
        (tmp_path / "file").write_text("")
        folder = tmp_path / "file" / "run"
    else:
        folder = Path("/proc/self/run")  # nobody can write there, also not root
        if not folder.parent.exists():
            pytest.skip("/proc is a folder of Linux")
    assert train.main([*FLAGS, "--total-steps", str(2 * BATCH), "--out", str(folder)]) == 2
    assert f"{folder} cannot be written: " in said_wrong(capsys)


@pytest.fixture
def disk(request, tmp_path):
    """A folder on a disk that becomes full, and a function that gives it room again."""
    if request.param == "tmpfs":
        mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(tmp_path)]
        done = subprocess.run(mount, capture_output=True, text=True) if shutil.which("mount") else None
        if done is None or done.returncode:
            pytest.skip("mounting a file system is not permitted here")
        yield tmp_path, lambda: subprocess.run(["mount", "-o", "remount,size=9m", str(tmp_path)], check=True)
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        yield tmp_path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.thorough
@pytest.mark.parametrize("disk", ["tmpfs", "file size limit"], indirect=True)
def test_a_full_disk_ends_the_run_with_whole_files(disk, capsys):
    folder, give_room = disk
    path = folder / "run"
    assert train.main([*FLAGS, "--total-steps", "1e6", "--save-every", "0", "--out", str(path)]) == 1
    said = said_wrong(capsys)
    assert "training ended: " in said and "is saved in" in said
    written = env_steps(path)
    assert written == [BATCH * (i + 1) for i in range(len(written))] and len(written) > 3
    newest = checkpoint.latest(path / "checkpoints")
    assert f"iteration {int(newest.name)} is saved" in said
    give_room()
    assert go_on(path, int(newest.name) + 1) == 0
    assert env_steps(path)[-1] == (int(newest.name) + 1) * BATCH


def test_an_append_that_fails_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "file"
    files.append(file, "whole\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=str(file)):
            files.append(file, "x" * 20_000)
        with pytest.raises(OSError, match=str(file)):
            files.write(file, "x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_text() == "whole\n" and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_first_iteration_is_saved_at_once(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda folder, state: saved.append(int(state.num_rollouts)))
    assert train.main([*FLAGS, "--total-steps", str(9 * BATCH), "--out", str(tmp_path / "run")]) == 0
    assert saved[0] == 1 and saved[-1] == 9


def test_a_bug_keeps_its_traceback_and_tells_what_is_saved(tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("a bug")

    monkeypatch.setattr(run_folder.RunFolder, "record", fail)
    with pytest.raises(RuntimeError, match="a bug") as caught:
        train.main([*FLAGS, "--total-steps", str(9 * BATCH), "--out", str(tmp_path / "run")])
    assert caught.value.__notes__ == ["Training ended; nothing was saved yet."]


@pytest.fixture
def slow(monkeypatch):
    """The signal comes while the program is traced. The test does not wait for its end."""
    Slow.released.clear()
    Slow.reached.clear()
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: Slow())
    monkeypatch.setattr(waiting, "PATIENCE", 0.3)

    def interrupt():
        Slow.reached.wait(20.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    yield
    Slow.released.set()
    for thread in threading.enumerate():
        if thread.name == waiting.NAME:
            thread.join()


def test_sigterm_while_compiling_saves_and_ends(slow, tmp_path, capsys, monkeypatch):
    path, begun = tmp_path / "run", time.monotonic()
    assert train.main([*FLAGS, "--total-steps", str(9 * BATCH), "--out", str(path)]) == 0
    assert time.monotonic() - begun < 10.0
    assert f"Stopped before the end; iteration 0 is saved. Continue: python -m mjx_safety.train --resume {path}" in (
        capsys.readouterr().out
    )
    with pytest.raises(SystemExit) as left, monkeypatch.context() as patch:
        patch.setattr(os, "_exit", lambda status: sys.exit(f"at once, {status}"))
        waiting.leave(0)
    assert left.value.code == "at once, 0"  # the compilation goes on, so the process must not wait for it
    Slow.released.set()
    assert go_on(path, 2) == 0
    assert env_steps(path) == [BATCH, 2 * BATCH]


@struct.dataclass
class Flagged(probe_envs.ProbeState):
    blew_up: jax.Array


class BlowsUp(probe_envs.Random):
    """Its physics ends in 3 % of the steps. The step that does so follows from the state and the action."""

    def step(self, state, action):
        stepped = super().step(state, action)
        return Flagged(**vars(stepped), blew_up=stepped.terminated & (stepped.step_count > 0))

    def reset(self, key):
        return Flagged(**vars(super().reset(key)), blew_up=jnp.bool_(False))


def test_worlds_that_blow_up_are_counted_and_the_step_can_be_repeated(tmp_path, capsys, monkeypatch):
    env = BlowsUp()
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: env)
    path = tmp_path / "run"
    assert train.main([*FLAGS, "--total-steps", str(6 * BATCH), "--keep-blow-ups", "--out", str(path)]) == 0
    assert "blow_ups in the metrics" in capsys.readouterr().out
    rows = run_folder.read_rows(path)
    counted = [int(file.stem) for file in sorted((path / "blow_ups").iterdir())]
    assert counted[-1] == sum(row["blow_ups"] for row in rows) > 3
    assert all(row["placement_failures"] == 0.0 for row in rows)
    for file in (path / "blow_ups").iterdir():
        state, action = blow_ups.load(file, env)
        again = env.step(state, action)
        assert again.blew_up and again.step_count == state.step_count + 1
    with pytest.raises(ValueError, match="does not fit"):
        blow_ups.load(file, probe_envs.TwoCosts())


def test_a_run_that_learns_nothing_ends_with_its_last_good_checkpoint(tmp_path, capsys, monkeypatch):
    """No step is ever taken, as if no gradient was finite."""

    def poisoned(descent, params, opt_state, *args):
        _, auxiliary = jax.grad(descent.loss_fn, has_aux=True)(params, *args)
        return params, opt_state, jnp.bool_(False), auxiliary

    monkeypatch.setattr(optimize, "step", poisoned)
    path = tmp_path / "run"
    status = train.main([*FLAGS, "--total-steps", "1e6", "--save-every", "0", "--out", str(path)])
    said = said_wrong(capsys)
    assert status == 1
    assert "training diverged: skipped_share is 1 in 10 iterations in a row, up to 11; try a smaller" in said
    assert f"iteration 1 is saved in {path / 'checkpoints' / '00000001'}" in said
    assert [path.name for path in checkpoint.found(path / "checkpoints")] == ["00000001"]
    assert env_steps(path)[:11] == [BATCH * i for i in range(1, 12)]


@pytest.mark.slow
@pytest.mark.parametrize("physics", ["mujoco", "mjx"])
def test_sigterm_ends_a_real_compilation_within_ten_seconds(physics, tmp_path):
    """The compiler runs outside of Python, where no handler of a signal can run."""
    path = tmp_path / "run"
    command = [sys.executable, "-m", "mjx_safety.train", "--physics", physics, "--no-compilation-cache"]
    command += ["--out", str(path), "--total-steps", "1e6"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "XLA_FLAGS": ""}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert "compiling the first iteration" in process.stdout.readline()
        time.sleep(3.0)
        begun = time.monotonic()
        process.terminate()
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 0, said
    assert time.monotonic() - begun < 10.0
    assert "Stopped before the end; iteration" in said
    assert checkpoint.latest(path / "checkpoints") is not None
