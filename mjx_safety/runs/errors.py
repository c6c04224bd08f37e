"""What a user is told: wrong input, and runs that cannot go on."""

from __future__ import annotations

INT32_MAX = 2**31 - 1  # largest integer of JAX


class UsageError(Exception):
    """A wrong input. The message is one sentence that names the culprit and what is allowed."""

    status = 2  # of the program


class RunError(UsageError):
    """A training that cannot go on. The message says why, and what is saved."""

    status = 1


def at_most(flag: str, value: float, most: float = INT32_MAX) -> None:
    """Refuse a number that is too large. most: by default the largest integer of JAX."""
    if not value <= most:
        raise UsageError(f"{flag} is {value}; it must be at most {most}")


def at_least(flag: str, value: float, least: float) -> None:
    """Refuse a number that is too small."""
    if not value >= least:
        raise UsageError(f"{flag} is {value}; it must be at least {least}")


def last_line(text: str) -> str:
    """Return the last line of what a program said, which is its error."""
    return (text.strip().splitlines() or ["it said nothing"])[-1]
