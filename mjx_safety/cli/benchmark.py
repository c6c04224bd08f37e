"""Measure throughput: `python -m mjx_safety.benchmark --envs SafetyPointGoal1-v0 --num-envs 256 1024 4096`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import tyro

from mjx_safety.cli import common, side_by_side, throughput
from mjx_safety.runs import environments, errors, run_folder, training_options
from mjx_safety.runs.errors import UsageError
from mjx_safety.sim.model import Accuracy
from mjx_safety.viz import plots

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Measure environment steps per second, over environments, engines and numbers of worlds, in one process."""

    envs: tuple[str, ...] = ("SafetyPointGoal1-v0",)
    """Environment ids."""
    physics: tuple[training_options.Physics, ...] = ("auto",)
    """Engines: mujoco, mjx, warp; auto takes mjx on an accelerator and mujoco on a CPU."""
    accuracy: tuple[Accuracy, ...] = ("fast",)
    """fast: the solver gets the objects that matter; reference: it always gets all objects."""
    num_envs: tuple[int, ...] = (1024,)
    """Numbers of worlds."""
    modes: tuple[str, ...] = ("step",)
    """Modes to time: step (held random actions), act (with policy inference), train (PPO-Lagrangian)."""
    num_steps: int = 32
    """Environment steps per world in one timed call."""
    repeats: int = 5
    """Timed calls after one warm-up call. The median counts."""
    jobs: int = 1
    """Programs that compile side by side before the timing, each in its own process, for machines with many cores."""
    compile_limit: float = float("inf")
    """Seconds for all compilation with --jobs; what has not compiled by then is left out."""
    rollout: bool = True
    """Also time `mujoco.rollout` on all CPU cores, with the same model and true contacts."""
    peer_python: Path | None = None
    """Python interpreter with safety-gymnasium, to time its vector environments too."""
    out: Path | None = None
    """Also write the results to this JSON file after each row, and a plot beside it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    common.check_lists(argv, Flags)
    flags = tyro.cli(Flags, prog="python -m mjx_safety.benchmark", args=list(argv))
    measure([flags], flags.out, "-m mjx_safety.benchmark")


def measure(plan: Sequence[Flags], out: Path | None, program: str, missing: Sequence[str] = ()) -> None:
    """Take the measurements of a plan one by one. Show and write each as soon as it is done.

    program: the program that `python` runs, for the record; missing: what could not be measured, for the record.
    """
    for flags in plan:
        check(flags)
    if out:
        common.check_outputs(out)
    common.set_up_jax(compilation_cache=False)
    rows: list[Row] = []
    missing = list(missing)
    for row in _side_by_side(plan) if max(flags.jobs for flags in plan) > 1 else _one_by_one(plan):
        if isinstance(row, str):
            missing.append(row)
            print(f"Missing: {row}")
        else:
            rows.append(row)
            _say(row)
        if out:
            _write(out, plan, program, rows, missing)
    if out and rows:
        plots.plot_throughput(rows, out.with_suffix(".png"))
        print(f"Saved to {out} and {out.with_suffix('.png')}")


def check(flags: Flags) -> None:
    """Refuse what cannot be measured, before compilation."""
    for mode in flags.modes:
        if mode not in throughput.MODES:
            raise UsageError(f"--modes {mode} is unknown; it must be one of: {', '.join(throughput.MODES)}")
    errors.check_counts(flags, "num_steps", "repeats", "jobs")
    errors.check_at_most("--num-envs", max(flags.num_envs, default=0))
    if min(flags.num_envs, default=0) < 1:
        raise UsageError(f"--num-envs {min(flags.num_envs, default=0)} is too few; it must be at least 1")
    if flags.peer_python and not flags.peer_python.exists():
        raise UsageError(f"--peer-python {flags.peer_python} does not exist; give a Python that has safety-gymnasium")
    for physics in flags.physics:
        environments.resolve_physics(physics)
    for env_id in flags.envs:
        environments.build_env(env_id, "mujoco")


@dataclasses.dataclass(frozen=True)
class _Case:
    """One program to measure."""

    env_id: str
    physics: str
    accuracy: Accuracy
    num_envs: int
    mode: str
    num_steps: int
    repeats: int
    rollout: bool  # also the bare rollout, in turns

    @property
    def name(self) -> str:
        return f"{self.env_id} {self.engine} {self.mode} {self.num_envs} worlds"

    @property
    def engine(self) -> str:
        return self.physics if self.accuracy == "fast" else f"{self.physics}-{self.accuracy}"


def _cases(env_id: str, flags: Flags) -> list[_Case]:
    """The programs to measure of an environment. The bare rollout takes turns with the C engine's steps."""
    engines = dict.fromkeys(environments.resolve_physics(name) for name in flags.physics)
    return [
        _Case(
            env_id, *part, flags.num_steps, flags.repeats, flags.rollout and (part[0], part[-1]) == ("mujoco", "step")
        )
        for part in itertools.product(engines, flags.accuracy, flags.num_envs, flags.modes)
    ]


def _one_by_one(plan: Sequence[Flags]) -> Iterator[Row | str]:
    for flags in plan:
        for env_id in flags.envs:
            for case in _cases(env_id, flags):
                yield from _measure(case)
            yield from _others(env_id, flags)


def _side_by_side(plan: Sequence[Flags]) -> Iterator[Row | str]:
    cases = [case for flags in plan for env_id in flags.envs for case in _cases(env_id, flags)]
    jobs, limit = max(flags.jobs for flags in plan), min(flags.compile_limit for flags in plan)
    print(f"Compiling {len(cases)} programs first, {jobs} at a time")
    for case, rows in zip(cases, side_by_side.measure(_measure, cases, jobs, limit), strict=True):
        yield from [f"{case.name}: {rows}"] if isinstance(rows, Exception) else rows
    for flags in plan:
        for env_id in flags.envs:
            yield from _others(env_id, flags)


def _measure(case: _Case, compiled: Callable[[], None] = lambda: None) -> list[Row | str]:
    """Measure one program. Returns its row and that of the bare rollout, or a sentence if the device refuses it.

    compiled: called between compilation and timing.
    """
    common.set_up_jax(compilation_cache=False)
    env = environments.build_env(case.env_id, case.physics, case.accuracy)
    what = {"env": case.env_id, "engine": case.engine, "mode": case.mode, "num_envs": case.num_envs}
    try:
        program = throughput.prepare(env, case.num_envs, case.mode, case.num_steps)
        compiled()
        timing, figures, bare = throughput.measure(program, case.repeats, case.rollout)
    except jax.errors.JaxRuntimeError as error:
        return [f"{case.name}: {str(error).splitlines()[0]}"]
    rows: list[Row | str] = [what | dataclasses.asdict(timing) | figures | throughput.buffers(env)]
    return [*rows, what | {"engine": "mujoco.rollout"} | dataclasses.asdict(bare)] if bare else rows


def _others(env_id: str, flags: Flags) -> Iterator[Row]:
    """Measure what is not a program of this package: the bare rollout alone, and safety-gymnasium."""
    in_turns = any(case.rollout for case in _cases(env_id, flags))
    for num_envs in flags.num_envs if flags.rollout and not in_turns else ():
        env = environments.build_env(env_id, "mujoco")
        bare = throughput.measure_rollout(env, num_envs, flags.num_steps, flags.repeats)
        what = {"env": env_id, "engine": "mujoco.rollout", "mode": "step", "num_envs": num_envs}
        yield what | dataclasses.asdict(bare)
    if flags.peer_python:
        yield from _peer(env_id, flags)


def _peer(env_id: str, flags: Flags) -> list[Row]:
    """Time safety-gymnasium's vector environments in their own interpreter."""
    script = Path(__file__).with_name("peer_throughput.py")
    # Passed as text: with a path, the script's folder would hide modules of the standard library.
    command = [str(flags.peer_python), "-c", script.read_text(), env_id, str(flags.num_steps), str(flags.repeats)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f"--peer-python {flags.peer_python} failed on {env_id}: {errors.last_line(done.stderr)}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _say(row: Row) -> None:
    compiled = f", compiled in {row['compile_seconds']:.1f} s" if row["compile_seconds"] else ""
    text = f"{row['env']}  {row['engine']:<15} {row['mode']:<5} {row['num_envs']:>6} worlds  "
    common.plain_console().print(
        f"{text}{row['env_steps_per_second']:>12,.0f} env steps/s{compiled}", highlight=False, soft_wrap=True
    )


def _write(out: Path, plan: Sequence[Flags], program: str, rows: list[Row], missing: Sequence[str]) -> None:
    flags = [json.loads(json.dumps(dataclasses.asdict(part), default=str)) for part in plan]
    plain = [part | {"peer_python": part["peer_python"] and "python", "out": None} for part in flags]
    out.parent.mkdir(parents=True, exist_ok=True)
    machine = run_folder.describe_machine()
    machine["command"] = " ".join(["python", program, *machine["command"][2:]]).replace(*_peer_in(plan))
    content = {**machine, "matmul_precision": jax.config.jax_default_matmul_precision}
    content |= {"xla_flags": os.environ.get("XLA_FLAGS", ""), "missing": missing}
    content |= {"flags": plain, "rows": rows}
    out.write_text(json.dumps(content, indent=1) + "\n")


def _peer_in(plan: Sequence[Flags]) -> tuple[str, str]:
    """Return the peer's interpreter path and its name for the record, the same on any machine."""
    peers = [str(flags.peer_python) for flags in plan if flags.peer_python]
    return (peers[0], "peer/bin/python") if peers else ("", "")
