"""Shared parts of the command-line programs: flags, outputs, processes, devices, JAX settings, a graceful stop."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import jax

from mjx_safety.cli.gpu_flags import set_gpu_flags
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.training_options import Options, RunFlags, default_options

if TYPE_CHECKING:
    from rich.console import Console


def parse(argv: Sequence[str]) -> Options:
    """Read the flags of a new training. Defaults fit the environment, the device and the number of worlds."""
    import tyro

    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--algo", default=RunFlags.algo)
    peek.add_argument("--env", default=RunFlags.env)
    for name in ("num_envs", "total_steps", "unroll_length"):
        peek.add_argument(f"--{name.replace('_', '-')}", f"--{name}", dest=name, default="")
    early, _ = peek.parse_known_args(argv)
    chosen = {name: _number_or_none(getattr(early, name)) for name in ("num_envs", "total_steps", "unroll_length")}
    default = default_options(early.algo, **chosen, env=early.env)
    flags = dataclasses.make_dataclass(
        "Flags",
        [(field.name, type(getattr(default, field.name))) for field in dataclasses.fields(Options)],
        frozen=True,
    )
    for part in dataclasses.fields(Options):
        check_lists(argv, type(getattr(default, part.name)))
    parsed = tyro.cli(
        tyro.conf.OmitArgPrefixes[flags],
        prog="python -m mjx_safety.train",
        description="Train a safe-RL agent. Ctrl-C saves and ends; --resume RUN continues.",
        default=flags(default.run, default.train, default.algorithm, default.constraint),
        args=list(argv),
    )
    return Options(parsed.run, parsed.train, parsed.algorithm, parsed.constraint)


def given_settings(argv: Sequence[str]) -> set[str]:
    """Names of the settings on a command line, such as num_envs. --no-halo gives both no_halo and halo."""
    flags = {word.split("=")[0].removeprefix("--").replace("-", "_") for word in argv if word.startswith("--")}
    return flags | {flag.removeprefix("no_") for flag in flags}


def check_lists(argv: Sequence[str], flags: type) -> None:
    """Refuse a flag for several values without a value: it would count as left out. flags: a dataclass with hints."""
    lists = {f"--{name.replace('_', '-')}" for name, hint in get_type_hints(flags).items() if _is_list(hint)}
    for word, following in itertools.pairwise([*argv, "--"]):
        flag = word.replace("_", "-")
        if flag in lists and following.startswith("--") and following != "--help":
            raise UsageError(f"{flag} has no value; name one or more, or leave it out")


def _is_list(hint: Any) -> bool:
    """Return whether a flag of this type takes any number of values."""
    return get_origin(hint) is tuple and get_args(hint)[-1] is ...


def _number_or_none(word: str) -> int | None:
    """Read a positive whole number; None for anything else, which the full parser refuses."""
    try:
        value = float(word)
    except ValueError:
        return None
    return int(value) if value >= 1 and value.is_integer() else None


def check_outputs(*paths: Path) -> None:
    """Refuse files of --out that cannot be written, before anything is computed for them. Leaves nothing behind."""
    for path in paths:
        try:
            if path.is_dir():
                raise IsADirectoryError(0, "it is a folder")
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.lstat()  # a name may be too long
            with tempfile.TemporaryFile(dir=next(folder for folder in path.parents if os.path.lexists(folder))):
                pass
        except OSError as error:
            raise UsageError(f"--out {path} cannot be written: {error.strerror}; choose another name") from error


def join_processes(argv: Sequence[str]) -> None:
    """Connect the processes of `--coordinator`. This must precede any use of JAX's devices."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--coordinator", default="")
    peek.add_argument("--num-processes", type=int, default=1)
    peek.add_argument("--process-id", type=int, default=0)
    flags, _ = peek.parse_known_args(argv)
    if flags.num_processes < 1:
        raise UsageError(f"--num-processes is {flags.num_processes}; it must be at least 1")
    if not 0 <= flags.process_id < flags.num_processes:
        raise UsageError(f"--process-id is {flags.process_id}; it must lie between 0 and {flags.num_processes - 1}")
    if not flags.coordinator:
        if flags.num_processes > 1:
            raise UsageError(f"--num-processes is {flags.num_processes}; several of them need --coordinator host:port")
        return
    if flags.coordinator == "auto":
        try:
            jax.distributed.initialize()
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                "--coordinator auto finds no SLURM, Open MPI or Kubernetes here; start the command there, "
                f"or give --coordinator host:port --num-processes N --process-id I ({str(error).splitlines()[0]})"
            ) from error
        return
    jax.distributed.initialize(flags.coordinator, flags.num_processes, flags.process_id)


def check_devices(run: RunFlags) -> int:
    """Return the number of devices to use, or refuse the flags."""
    there = jax.device_count()
    wanted = run.num_devices or there
    if jax.process_count() > 1 and wanted != there:
        raise UsageError(f"--num-devices is {wanted}; with several processes it must be all {there}, or 0")
    if not 1 <= wanted <= there:
        raise UsageError(f"--num-devices is {run.num_devices}; it must lie between 0 and the {there} there are")
    if wanted > 1 and run.physics == "mujoco":
        raise UsageError("--num-devices is for engines on the device; --physics mujoco uses all CPU cores by itself")
    if wanted > 1 and run.physics == "warp":
        raise UsageError("--num-devices is for --physics mjx; --physics warp uses one GPU")
    if run.num_envs % wanted:
        raise UsageError(f"--num-envs is {run.num_envs}; it must be a multiple of the {wanted} devices")
    return wanted


def set_up_jax(compilation_cache: bool) -> None:
    """Use full float32 products, which contacts and KL need, and optionally the persistent compilation cache."""
    jax.config.update("jax_default_matmul_precision", "highest")
    if compilation_cache:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "mjx_safety" / "jax"))


def plain_console(**settings: Any) -> Console:
    """Return a console that prints names as they are: brackets are not markup, and :words: are not emoji."""
    from rich.console import Console

    return Console(markup=False, emoji=False, **settings)


def run_command(command: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Run a command line. A wrong input or a file that cannot be used ends it with status 2 and one sentence.

    It ends silently if its output is closed, as in `... --help | head`.
    """
    from rich.text import Text

    set_gpu_flags()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # for ± in ASCII, and names of files that are no text
    try:
        try:
            command(argv)
        finally:
            sys.stdout.flush()
    except UsageError as error:
        said, status = str(error), error.status
    except BrokenPipeError:
        drop_output()
        return 1  # as rich does
    except OSError as error:
        if error.filename is None:
            raise
        said, status = f"{error.filename} cannot be used: {error.strerror}", UsageError.status
    else:
        return 0
    message = Text.assemble(("error:", "bold red"), f" {said}")
    plain_console(stderr=True).print(message, highlight=False, soft_wrap=True)
    return status


def drop_output() -> None:
    """Discard the rest of the output, which Python would write at its end into a closed pipe."""
    with contextlib.suppress(OSError, ValueError):  # a test's output has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class GracefulStop:
    """Turns the first Ctrl-C, SIGTERM or loss of the terminal into a request to stop. The second one acts at once.

    Signals that are ignored, as SIGHUP is under nohup, stay so. Only the main thread may handle signals, so in other
    threads this does nothing.
    """

    def __init__(self) -> None:
        self.requested: bool = False
        self.requested_at: float = 0.0  # s, of time.monotonic
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> GracefulStop:
        is_main = threading.current_thread() is threading.main_thread()
        for number in _stop_signals() if is_main else ():
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested, self.requested_at = True, time.monotonic()
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def _stop_signals() -> list[int]:
    """Return the signals that ask a program to end. Windows has no SIGHUP."""
    return [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
