"""A job for each training of a sweep: `python -m mjx_safety.submit --out runs/limits -- --sweep cost-limit=5,25`.

The folder is that of a group (`runs.sweeps`): each member is a normal run folder, and `evaluate` and `plot` take all.
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

from mjx_safety.agents import checkpoint
from mjx_safety.cli import common
from mjx_safety.cli import plan as planning
from mjx_safety.runs import errors, run_folder, sweeps, training_checks
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.sweeps import Member
from mjx_safety.runs.training_options import Options

LOGS = "jobs"  # folder of submitit's files, in the group's folder
CHOSEN = ("out", "resume", "resume-or-start")  # flags of `train` that submit sets itself
OF_PROCESSES = ("coordinator", "num-processes", "process-id")  # flags of `train` for several processes


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train each member of a sweep in a job of its own. Flags of `train`, at least one, come after --.

    A job that is requeued goes on from its newest checkpoint. So does a second call with the same --out.
    """

    out: Path
    """Folder of the group, with one run folder per job."""
    cluster: Literal["auto", "slurm", "local"] = "auto"
    """slurm, or local: processes on this machine. auto takes slurm where there is one."""
    gpus: int = 0
    """GPUs of each job."""
    cpus: int = 4
    """CPU cores of each job."""
    memory_gb: int = 0
    """Memory of each job, in GB; 0: the cluster's default."""
    minutes: int = 24 * 60
    """Time limit of each job. SLURM requeues a job that reaches it."""
    partition: str = ""
    """Partition of SLURM."""
    at_once: int = 0
    """Largest number of jobs at once; 0: no limit."""
    wait: bool = False
    """Wait for the jobs of SLURM. Local jobs are always waited for."""


class Job:
    """One training, also after a requeue. submitit pickles it and calls it."""

    def __init__(self, argv: Sequence[str], path: Path):
        """argv: flags of `train` for a new run in `path`."""
        self.argv: list[str] = list(argv)
        self.path: Path = path

    def __call__(self) -> int:
        """Train. Returns the exit status of `train`."""
        from mjx_safety.cli import train

        if run_folder.holds_run(self.path):
            self._check(f"the folder of this job, {self.path},")
        newest = checkpoint.latest(self.path / "checkpoints")
        if newest and self._is_done(int(newest.name)):
            return 0
        if newest:
            named = ["--trust"] if ":" in self._options().run.env else []  # by the command that submitted this job
            return train.main(["--resume", str(self.path), *named])
        if run_folder.holds_run(self.path):  # it ended before its first checkpoint
            shutil.rmtree(self.path)
        return train.main([*self.argv, "--out", str(self.path)])

    def _check(self, where: str) -> None:
        """Refuse the run folder of another training."""
        check_member(self.path, common.parse(self.argv), common.given_settings(self.argv), where)

    def _options(self) -> Options:
        return run_folder.read_options(self.path / run_folder.CONFIG)

    def _is_done(self, num_rollouts: int) -> bool:
        options = self._options()
        return (num_rollouts + 1) * options.run.num_envs * options.train.unroll_length > options.run.total_steps

    def checkpoint(self) -> Any:
        """What to submit when SLURM preempts the job or its time is over: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    flags, rest = _split(argv)
    options, members = _check(flags, rest)
    executor = _executor(flags)
    jobs = _start(flags, rest, options, members)
    parameters: dict[str, Any] = {"name": flags.out.name, "timeout_min": flags.minutes, "cpus_per_task": flags.cpus}
    parameters |= {"gpus_per_node": flags.gpus, "tasks_per_node": 1}
    parameters |= {"mem_gb": flags.memory_gb} if flags.memory_gb else {}
    parameters |= {"slurm_partition": flags.partition} if flags.partition else {}
    parameters |= {"slurm_array_parallelism": flags.at_once} if flags.at_once else {}
    executor.update_parameters(**parameters)
    if executor.cluster == "slurm":
        running = list(zip(jobs, _submit_array(executor, jobs), strict=True))
        for job, handle in running:
            print(f"{handle.job_id}: {job.path}")
        failed = _wait(running) if flags.wait else []
    else:
        failed, most = [], flags.at_once or len(jobs)
        for start in range(0, len(jobs), most):
            part = jobs[start : start + most]
            failed += _wait([(job, executor.submit(job)) for job in part])
    if failed:
        raise UsageError(f"{len(failed)} of {len(jobs)} jobs failed: {'; '.join(failed)}")
    print(f"Group folder: {flags.out}, with the jobs' output in {flags.out / LOGS}")
    trust = run_folder.trust_flag(common.parse(rest).run.env)
    print(f"Evaluate:     python -m mjx_safety.evaluate {shlex.quote(str(flags.out))}{trust}")


def _executor(flags: Flags) -> Any:
    """Return what submits jobs, which makes a folder. Raises UsageError without the package or the cluster."""
    try:
        import submitit
    except ImportError as error:
        raise UsageError("submit needs the package submitit: pip install 'mjx-safety[cluster]'") from error
    try:
        return submitit.AutoExecutor(flags.out / LOGS, cluster=None if flags.cluster == "auto" else flags.cluster)
    except RuntimeError as error:
        raise UsageError(
            f"--cluster {flags.cluster} finds no such cluster here ({errors.last_line(str(error))}); "
            "start the command on a machine of the cluster, or take --cluster local"
        ) from error


def _submit_array(executor: Any, jobs: Sequence[Job]) -> list[Any]:
    """Hand the jobs to SLURM. Raises UsageError if it refuses them."""
    from submitit.core.utils import FailedJobError

    try:
        return executor.submit_array(jobs)
    except (FailedJobError, FileNotFoundError) as error:
        raise UsageError(f"SLURM refused the jobs: {errors.last_line(str(error))}") from error


def _wait(running: Sequence[tuple[Job, Any]]) -> list[str]:
    """Wait for jobs. Returns what failed."""
    failed = []
    for job, handle in running:
        try:
            status = handle.result()
        except Exception as error:  # whatever the job raised; submitit's own types share no base class
            status = errors.last_line(str(error))
        print(f"{job.path}: {'done' if status == 0 else 'failed'}")
        if status != 0:
            failed.append(f"{job.path} ({status}; see {handle.paths.stderr})")
    return failed


def read(argv: Sequence[str]) -> tuple[Flags, list[Job]]:
    """Read the command line: the flags, and a job for each member. Raises UsageError for wrong input."""
    flags, rest = _split(argv)
    return flags, _start(flags, rest, *_check(flags, rest))


def _split(argv: Sequence[str]) -> tuple[Flags, list[str]]:
    """Read the flags of submit. Returns also those of `train`."""
    words = list(argv)
    split = words.index("--") if "--" in words else len(words)
    return tyro.cli(Flags, prog="python -m mjx_safety.submit", args=words[:split]), words[split + 1 :]


def _check(flags: Flags, argv: Sequence[str]) -> tuple[Options, list[Member]]:
    """Read the members of the sweep, or refuse wrong input. Writes nothing. argv: flags of `train`."""
    errors.check_counts(flags, "cpus", "minutes")
    errors.check_counts(flags, "gpus", "memory_gb", "at_once", least=0)
    _check_words(argv)
    options = common.parse(argv)
    training_checks.check(options)
    members = sweeps.expand(options)
    for member in members:
        training_checks.check(member.options)
    if run_folder.holds_run(flags.out):
        raise UsageError(f"--out {flags.out} is a run folder; choose another folder for the group")
    if sweeps.holds_group(flags.out) and sweeps.read(flags.out).to_config() != options.to_config():
        raise UsageError(f"--out {flags.out} holds a group with other flags; choose another folder")
    for member in members:
        folder = flags.out / member.name
        if run_folder.holds_run(folder):
            check_member(
                folder, member.options, {*common.given_settings(argv), *_names(member)}, f"--out {flags.out}: {folder}"
            )
        run_folder.check_free(folder, "--out")
    return options, members


def _start(flags: Flags, argv: Sequence[str], options: Options, members: Sequence[Member]) -> list[Job]:
    """Start the folder of the group. Returns a job for each member."""
    sweeps.write(flags.out, options, members)
    shared = _without(argv, ("sweep", "num-seeds", "seed"))
    return [Job([*shared, *_flags_of(member)], flags.out / member.name) for member in members]


def check_member(path: Path, options: Options, given: Collection[str], where: str) -> None:
    """Refuse the run folder of a job that holds another training. given: names of the settings that the user chose.

    The engine `auto` may be any, because the machine of the job decides.
    """
    stored = run_folder.read_options(path / run_folder.CONFIG)
    if options.run.physics == "auto":
        options = dataclasses.replace(options, run=dataclasses.replace(options.run, physics=stored.run.physics))
    planning.check_same(stored, options, given, where)


def _names(member: Member) -> set[str]:
    """Names of the swept settings of a member."""
    return {name.replace("-", "_") for name in member.values}


def _check_words(argv: Sequence[str]) -> None:
    """Refuse flags of `train` that no job can have, and their absence, which would start a training by default."""
    if not argv:
        raise UsageError("no flags of train are given; at least one must come after --, such as -- --algo ppo-lag")
    for name in map(_flag_in, argv):
        if name in CHOSEN:
            raise UsageError(f"--{name} is not for a job; submit chooses it, from its own --out")
        if name in OF_PROCESSES:
            raise UsageError(f"--{name} is not for a job, which is one process; leave it out")


def _flag_in(word: str) -> str:
    """Name of the flag that a word of a command line starts; empty if it is a value."""
    return word.split("=")[0].removeprefix("--").replace("_", "-") if word.startswith("--") else ""


def _without(argv: Sequence[str], names: Sequence[str]) -> list[str]:
    """Leave out flags with their values. names: without the leading dashes."""
    kept, skips = [], False
    for word in argv:
        if word.startswith("--"):
            skips = _flag_in(word) in names
        if not skips:
            kept.append(word)
    return kept


def _flags_of(member: Member) -> list[str]:
    """The flags of `train` that make one member."""
    values = [word for name, value in member.values.items() for word in (f"--{name}", repr(value))]
    return [*values, "--seed", str(member.options.run.seed)]
