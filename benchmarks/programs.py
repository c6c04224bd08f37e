"""Calls the programs of mjx_safety as a user does, each in a process of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys


def call(program: str, *flags: str) -> str:
    """Run `python -m mjx_safety.<program>`. Returns what it prints; an error ends this script with its last words."""
    command = [sys.executable, "-m", f"mjx_safety.{program}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
