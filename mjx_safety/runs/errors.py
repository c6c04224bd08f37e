"""Errors for the user: wrong input, and runs that cannot continue."""

from __future__ import annotations

from typing import Any

INT32_MAX = 2**31 - 1  # largest integer of JAX
NUM_SEEDS = 2**32  # seeds that JAX takes: 0 and up, below this


class UsageError(Exception):
    """A wrong input. The message is one sentence that names the culprit and what is allowed."""

    status = 2  # of the program


class RunError(UsageError):
    """A training that cannot go on. The message says why, and what is saved."""

    status = 1


def check_at_most(flag: str, value: float, most: float = INT32_MAX) -> None:
    """Refuse a number that is too large. most: by default the largest integer of JAX."""
    if not value <= most:
        raise UsageError(f"{flag} is {value}; it must be at most {most}")


def check_at_least(flag: str, value: float, least: float) -> None:
    """Refuse a number that is too small."""
    if not value >= least:
        raise UsageError(f"{flag} is {value}; it must be at least {least}")


def check_counts(flags: Any, *names: str, least: int = 1) -> None:
    """Refuse whole numbers of a command line that are too small or too large. names: its fields; None is no number."""
    for name in names:
        value = getattr(flags, name)
        if value is not None:
            check_at_least(f"--{name.replace('_', '-')}", value, least)
            check_at_most(f"--{name.replace('_', '-')}", value)


def check_seed(seed: int) -> None:
    """Refuse a seed that JAX does not take."""
    if not 0 <= seed < NUM_SEEDS:
        raise UsageError(f"--seed is {seed}; it must be at least 0 and below 2^32")


def last_line(text: str) -> str:
    """Return the last line of what a program said, which is its error."""
    return (text.strip().splitlines() or ["it said nothing"])[-1]
