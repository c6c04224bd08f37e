"""Calls the programs of mjx_safety as a user does, each in a process of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys


def call(program: str, *flags: str) -> None:
    """Run `python -m mjx_safety.<program>`. An error ends this script with the last words of the program."""
    command = [sys.executable, "-m", f"mjx_safety.{program}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
