"""Stores the result of an evaluation in the run folder, and warns about damaged and lost runs (host)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mjx_safety.agents import checkpoint
from mjx_safety.cli import installed
from mjx_safety.core import files
from mjx_safety.runs import run_folder


def store(folder: Path, kinds: Sequence[str], result: dict[str, Any], stderr: Console) -> None:
    """Write a result to the run folder, or warn that it cannot be written. kinds: words that its name has."""
    file = folder / f"{'-'.join(['evaluation', *kinds])}.json"
    try:
        files.write(file, json.dumps(result, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        tell(stderr, f"warning: the results are not stored: {file} cannot be written: {error.strerror}")


def without_lost(names: Sequence[str], stderr: Console) -> list[str]:
    """Leave out runs that have diverged before their first checkpoint, unless nothing else is there, and say so."""
    lost = [name for name in names if _left_nothing(Path(name))]
    if len(lost) == len(names):
        return list(names)
    for name in lost:
        reason = run_folder.why_diverged(Path(name))
        tell(stderr, f"note: {name} is left out: it has diverged ({reason}) before its first checkpoint")
    return [name for name in names if name not in lost]


def _left_nothing(path: Path) -> bool:
    is_run = run_folder.holds_run(path) and checkpoint.latest(path / "checkpoints") is None
    return is_run and run_folder.why_diverged(path) != ""


def can_compare(name: str, own: str | None, engine: str, stderr: Console) -> bool:
    """Return whether a policy can also be evaluated on another engine, that of its training. Says why not."""
    if own in (engine, None):
        return False
    problem = installed.engine_problem(own)
    if problem:
        tell(stderr, f"note: {name} is not compared with {own}, the engine of its training: {problem}")
    return not problem


def tell_damage(path: Path, stderr: Console) -> None:
    """Warn about lines of metrics.jsonl that cannot be read, if there are any."""
    damaged = run_folder.damaged_lines(path)
    if damaged:
        which = f"line{'s' * (len(damaged) > 1)} {', '.join(map(str, damaged))}"
        tell(stderr, f"note: {path / run_folder.METRICS} is damaged in {which}; the numbers are without that")


def tell(stderr: Console, text: str) -> None:
    """Print a line as it is, however long."""
    stderr.print(text, highlight=False, soft_wrap=True)


def finite(tree: Any) -> Any:
    """Replace non-finite numbers, which JSON lacks, by None."""
    if isinstance(tree, dict):
        return {name: finite(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
