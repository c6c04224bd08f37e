"""Files of a policy for other programs: `python -m mjx_safety.export runs/my-run --out policy.npz policy.onnx`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from mjx_safety.cli import common
from mjx_safety.runs import policy_files
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.loading import load_policy


@dataclasses.dataclass(frozen=True)
class Flags:
    """Write a policy, its normaliser and its metadata to files for other programs.

    An .npz is for NumPy and `load_policy`, an .onnx for ONNX runtimes.
    """

    policy: tyro.conf.Positional[str]
    """Run folder, .npz file, or name such as SafetyPointGoal1-v0/ppo-lag."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the environment of a run or a policy that names package.module:factory, which is code."""
    out: tuple[Path, ...] = (Path("policy.npz"),)
    """One or more files that end in .npz or .onnx. An .onnx has the mean action only."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    common.check_lists(argv, Flags)
    flags = tyro.cli(Flags, prog="python -m mjx_safety.export", args=list(argv))
    for path in flags.out:
        if path.suffix not in policy_files.SUFFIXES:
            raise UsageError(f"--out {path} is of no known kind; it must end in: {', '.join(policy_files.SUFFIXES)}")
    common.check_outputs(*flags.out)
    try:
        policy = load_policy(flags.policy, trust=flags.trust)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for path in flags.out:
        _write(policy, path)
    sizes = f"obs [N, {policy.obs_size}] float32, raw -> action [N, {policy.action_size}] in [-1, 1]"
    print(f"Wrote {', '.join(map(str, flags.out))}: {policy.env_id}, {sizes}")


def _write(policy: policy_files.Policy, path: Path) -> None:
    try:
        policy_files.write(policy, path)
    except ImportError as error:
        if error.name != "onnx":
            raise
        raise UsageError(f"--out {path} needs the package onnx: pip install 'mjx-safety[onnx]'") from error
