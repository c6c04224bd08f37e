"""Writes a benchmark's result with everything that a repeat needs."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mjx_safety.core import files
from mjx_safety.runs.run_folder import describe_checkout, describe_machine

BEGUN = {"started": datetime.now(UTC).isoformat(timespec="seconds"), **describe_checkout()}  # the code that runs


def read(path: Path) -> dict[str, Any]:
    """Read a result, or return an empty one."""
    return json.loads(path.read_text()) if path.exists() else {}


def origin() -> dict[str, Any]:
    """Return start, commit and command of this program, for the rows of a file that several calls fill."""
    return {**BEGUN, "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])}


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, with machine, versions, commit, date and command."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, json.dumps({**describe_machine(), **origin(), **result}, indent=1) + "\n")


def with_kept(path: Path, rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows of a file with new ones in their places, and start, commit and command of each."""
    before = read(path)
    return {"rows": before.get("rows", {}) | rows, "origins": before.get("origins", {}) | dict.fromkeys(rows, origin())}
