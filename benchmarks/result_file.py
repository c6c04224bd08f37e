"""Writes a benchmark's result with everything that a repeat needs."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from mjx_safety.runs.run_folder import describe_machine


def read(path: Path) -> dict[str, Any]:
    """Read a result, or return an empty one."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, with machine, versions, commit, date and command."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    path.write_text(json.dumps({**describe_machine(), "command": command, **result}, indent=1) + "\n")
