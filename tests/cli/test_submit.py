"""Sweeps as jobs: each member gets the flags that make it alone, and jobs go on where they stopped."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mjx_safety.cli import common, submit, train
from mjx_safety.runs import run_folder, sweeps

pytest.importorskip("submitit")
TESTS = Path(__file__).parent.parent
SMALL = ["--num-envs", "8", "--unroll-length", "8", "--num-minibatches", "4", "--hidden-sizes", "8"]
SMALL += ["--no-compilation-cache", "--physics", "mujoco", "--total-steps", "256"]
SWEEP = ["--algo", "ppo-lag", "--sweep", "cost-limit=2,8", "--num-seeds", "2", "--seed", "3"]


class Here:
    """An executor of submitit that runs jobs in this process."""

    def __init__(self, folder, cluster):
        self.cluster, self.parameters = cluster or "slurm", {}
        Here.last = self

    def update_parameters(self, **parameters):
        self.parameters = parameters

    def submit(self, job):
        paths = SimpleNamespace(stderr="the log")
        return SimpleNamespace(job_id="7_1", paths=paths, result=lambda: pickle.loads(pickle.dumps(job))())

    def submit_array(self, jobs):
        return [self.submit(job) for job in jobs]


@pytest.fixture
def trained(monkeypatch):
    """The command lines that `train` gets. Instead of training it leaves what a finished run leaves."""
    argvs = []

    def main(argv):
        argvs.append(argv)
        if "--resume" in argv:
            path = Path(argv[-1])
        else:
            options, path = common.parse(argv), Path(argv[argv.index("--out") + 1])
            assert not run_folder.holds_run(path)
            path.mkdir(parents=True, exist_ok=True)
            (path / "config.json").write_text(json.dumps(options.to_config(), default=str))
        (path / "checkpoints" / "00000004").mkdir(parents=True)
        return 0

    monkeypatch.setattr(train, "main", main)
    monkeypatch.setattr("submitit.AutoExecutor", Here)
    return argvs


def test_the_flags_of_a_job_make_its_member(tmp_path):
    flags = [*SMALL, "--sweep", "learning-rate=1e-4,0.0003", "cost-limit=2.5,8", "--num-seeds", "2"]
    _, jobs = submit.read(["--out", str(tmp_path), "--", *flags])
    members = sweeps.expand(common.parse(flags))
    assert [job.path.name for job in jobs] == [member.name for member in members] and len(jobs) == 8
    for job, member in zip(jobs, members, strict=True):
        assert common.parse(job.argv) == member.options
    assert sweeps.read(tmp_path) == common.parse(flags)
    assert pickle.loads(pickle.dumps(jobs[0])).argv == jobs[0].argv
    assert jobs[0].checkpoint().function.path == jobs[0].path  # what a requeue submits


def test_underscores_and_equal_signs_are_read_as_train_reads_them(tmp_path):
    for number, flags in enumerate((["--num_seeds", "2"], ["--num_seeds=2", "--seed=4"], ["--num-seeds", "2"])):
        flags = [*flags, "--sweep", "cost-limit=5,8", "--total_steps", "4096", *SMALL[:8]]
        _, jobs = submit.read(["--out", str(tmp_path / str(number)), "--", *flags])
        members = sweeps.expand(common.parse(flags))
        assert [common.parse(job.argv) for job in jobs] == [member.options for member in members] and len(jobs) == 4


def test_values_that_print_alike_are_jobs_of_their_own(tmp_path):
    flags = [*SMALL, "--sweep", "cost-limit=1000000,1000001"]
    _, jobs = submit.read(["--out", str(tmp_path), "--", *flags])
    assert [job.path.name for job in jobs] == ["cost-limit1000000.0-seed0", "cost-limit1000001.0-seed0"]
    assert [common.parse(job.argv).run.cost_limit for job in jobs] == [1e6, 1000001.0]


def test_jobs_start_from_another_run(tmp_path, trained):
    argv = ["--out", str(tmp_path / "group"), "--cluster", "local", "--", *SMALL, *SWEEP]
    argv += ["--init-from", str(tmp_path / "first")]
    assert submit.main(argv) == 0
    assert [common.parse(words).run.init_from for words in trained] == [tmp_path / "first"] * 4
    assert submit.main(argv) == 0, "the group is known again"
    assert submit.main([*argv[:-1], str(tmp_path / "second")]) == 2
    assert len(trained) == 4


def test_a_second_call_goes_on_where_jobs_stopped(tmp_path, trained, capsys):
    argv = ["--out", str(tmp_path / "group"), "--cluster", "local", "--at-once", "3", "--", *SMALL, *SWEEP]
    _, jobs = submit.read(argv)
    for job, checkpoints in ((jobs[1], ["00000002"]), (jobs[2], [])):  # half done; stopped before its first checkpoint
        for name in checkpoints:
            (job.path / "checkpoints" / name).mkdir(parents=True)
        job.path.mkdir(exist_ok=True)
        (job.path / "config.json").write_text(json.dumps(common.parse(job.argv).to_config(), default=str))
    assert submit.main(argv) == 0
    said = capsys.readouterr().out
    assert said.count(": done") == 4 and f"python -m mjx_safety.evaluate {tmp_path / 'group'}" in said
    new = [[*job.argv, "--out", str(job.path)] for job in jobs]
    assert trained == [new[0], ["--resume", str(jobs[1].path)], new[2], new[3]]
    assert submit.main(argv) == 0
    assert len(trained) == 4, "nothing is left to do"


def test_a_requeued_job_resumes_the_users_own_environment(tmp_path, monkeypatch):
    argvs, job = [], submit.Job(["--env", "mine:make_env", *SMALL], tmp_path / "mine")
    monkeypatch.setattr(train, "main", lambda argv: argvs.append(argv) or 0)
    (job.path / "checkpoints" / "00000002").mkdir(parents=True)
    (job.path / "config.json").write_text(json.dumps(common.parse(job.argv).to_config(), default=str))
    assert job() == 0
    assert argvs == [["--resume", str(job.path), "--trust"]]


def test_a_job_that_says_nothing_has_failed_too(tmp_path):
    handle = Here(tmp_path, "local").submit(None)
    handle.result = lambda: (_ for _ in ()).throw(RuntimeError())
    failed = submit._wait([(submit.Job([], tmp_path / "job"), handle)])
    assert len(failed) == 1 and "it said nothing" in failed[0]


def test_what_slurm_is_asked_for(tmp_path, trained, capsys):
    flags = ["--gpus", "1", "--memory-gb", "16", "--partition", "long", "--minutes", "90", "--at-once", "2"]
    assert submit.main(["--out", str(tmp_path / "limits"), *flags, "--", *SMALL]) == 0
    assert f"7_1: {tmp_path / 'limits' / 'seed0'}" in capsys.readouterr().out and not trained  # nobody waits
    asked = {"name": "limits", "timeout_min": 90, "cpus_per_task": 4, "gpus_per_node": 1, "tasks_per_node": 1}
    asked |= {"mem_gb": 16, "slurm_partition": "long", "slurm_array_parallelism": 2}
    assert Here.last.parameters == asked
    assert submit.main(["--out", str(tmp_path / "limits"), "--wait", "--", *SMALL]) == 0
    assert len(trained) == 1


def test_a_job_that_fails_is_named(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.setattr(train, "main", lambda argv: 2)
    assert submit.main(["--out", str(tmp_path), "--cluster", "local", "--", *SMALL]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"1 of 1 jobs failed: {tmp_path / 'seed0'} (2; see the log)" in said


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--cpus", "0", "--"], "--cpus is 0; it must be at least 1"),
        (["--", "--out", "a"], "--out is not for a job; submit chooses it"),
        (["--", "--resume=a"], "--resume is not for a job"),
        (["--", "--resume-or-start", "a"], "--resume-or-start is not for a job; submit chooses it"),
        (["--", "--resume_or_start=a"], "--resume-or-start is not for a job; submit chooses it"),
        (["--", "--process-id", "1"], "--process-id is not for a job, which is one process; leave it out"),
        (["--", "--num_processes", "2"], "--num-processes is not for a job, which is one process"),
        (["--", "--coordinator=auto"], "--coordinator is not for a job, which is one process"),
        ([], "no flags of train are given; at least one must come after --, such as -- --algo ppo-lag"),
        (["--"], "no flags of train are given; at least one must come after --"),
        (["--", "--sweep", "cost-limit=5,5"], "--sweep cost-limit=5,5 has 5.0 twice"),
        (["--", "--cost-limit", "-1"], "--cost-limit is -1.0; it must be at least 0"),
        (["--", "--sweep", "num-envs=1,2"], "--sweep num-envs cannot be swept"),
        (["--", "--seed", "9"], "holds a group with other flags; choose another folder"),
    ],
)
def test_wrong_input(argv, sentence, tmp_path, capsys):
    submit.read(["--out", str(tmp_path), "--", "--seed", "8"])
    before = sorted(tmp_path.rglob("*"))
    assert submit.main(["--out", str(tmp_path), "--cluster", "local", *argv]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert sorted(tmp_path.rglob("*")) == before


def test_help_says_that_train_needs_a_flag(capsys):
    with pytest.raises(SystemExit):
        submit.main(["--help"])
    assert "Flags of train, at least one, come after --" in " ".join(capsys.readouterr().out.replace("`", "").split())


@pytest.mark.parametrize("refuses", ["no SLURM", "sbatch"])
def test_slurm_that_is_not_there_or_refuses(refuses, tmp_path, monkeypatch, capsys):
    from submitit.core.utils import FailedJobError

    out, begun = tmp_path / "group", ["--out", str(tmp_path / "group"), "--cluster", "slurm", "--", *SMALL]
    monkeypatch.setenv("PATH", "")
    sentence = "--cluster slurm finds no such cluster here (Could not detect"
    if refuses == "sbatch":
        fails = {"submit_array": lambda self, jobs: (_ for _ in ()).throw(FailedJobError("sbatch: invalid partition"))}
        monkeypatch.setattr("submitit.AutoExecutor", type("Refusing", (Here,), fails))
        sentence = "SLURM refused the jobs: sbatch: invalid partition"
    assert submit.main(begun) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert out.exists() == (refuses == "sbatch")


def test_auto_is_what_the_cluster_says(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(common.jax.distributed, "initialize", lambda *args: asked.append(args))
    common.join_processes(["--coordinator", "auto"])
    common.join_processes(["--coordinator", "here:1", "--num-processes", "2", "--process-id", "1"])
    assert asked == [(), ("here:1", 2, 1)]

    def nothing(*args):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(common.jax.distributed, "initialize", nothing)
    assert train.main(["--coordinator", "auto"]) == 2
    assert "--coordinator auto finds no SLURM, Open MPI or Kubernetes here" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_local_processes(tmp_path):
    argv = ["--out", str(tmp_path / "group"), "--cluster", "local", "--at-once", "2", "--cpus", "1", "--minutes", "10"]
    names = os.environ | {"PYTHONPATH": str(TESTS.parent), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "mjx_safety.submit", *argv, "--", *SMALL, "--env", "SafetyPointGoal0-v0", *SWEEP]
    done = subprocess.run(command, env=names, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": done") == 4
    for path in tmp_path.glob("group/cost-limit*"):
        assert [row["env_steps"] for row in run_folder.read_rows(path)] == [64, 128, 192, 256]
