"""Tables and numbers in Markdown, for what docs/generate.py writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    head_row, *body = ("| " + " | ".join(cells) + " |" for cells in (head, *rows))
    return "\n".join([head_row, "|" + "---|" * len(head), *body])


def number(value: float) -> str:
    """Return a number as short as it can be written; settings in float32 without their rounding."""
    return f"{float(value):.6g}"


def error(value: float | None) -> str:
    """Return the size of an error: one digit, as 3e-6; - where there is none."""
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+")


def share(value: float | None) -> str:
    """Return a share in per cent, rounded down in the last digit so that only all is 100 %; - where there is none."""
    return "-" if value is None else f"{int(value * 1000 + 1e-9) / 10:g} %"
