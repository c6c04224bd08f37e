"""Watches the metrics of a training for worlds and updates that are not finite (host)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

MOST_IN_A_ROW = 10  # iterations without an update
SKIPPED = ("skipped_share", "skipped_critic_share")  # shares of gradient steps left out; 1: nothing was learned
CROWDED = "episodes ended because something found no free place (placement_failures in the metrics); take fewer objects"
BLOWN_UP = "episodes ended because their physics was not finite (blow_ups in the metrics); --keep-blow-ups keeps one"
STUCK = f"no gradient of an iteration was finite, so it taught nothing; after {MOST_IN_A_ROW} in a row the run ends"


class Health:
    """Counts the iterations in a row in which one training learned nothing."""

    def __init__(self) -> None:
        self.skipped_in_a_row = 0

    def look(self, row: Mapping[str, float]) -> str | None:
        """Look at the metrics of the next iteration. Returns why the training has diverged, None if it has not."""
        for name, value in row.items():
            if not math.isfinite(value):
                return f"{name} is {value} in iteration {row['num_rollouts']:.0f}"
        skipped = _skipped(row)
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0
        if self.skipped_in_a_row < MOST_IN_A_ROW:
            return None
        return f"{skipped[0]} is 1 in {MOST_IN_A_ROW} iterations in a row, up to {row['num_rollouts']:.0f}"

    def warnings(self, rows: Sequence[Mapping[str, float]]) -> list[str]:
        """Say what went wrong in some iterations."""
        found = [STUCK] if any(map(_skipped, rows)) else []
        found += [CROWDED] if any(row["placement_failures"] for row in rows) else []
        return found + ([BLOWN_UP] if any(row["blow_ups"] for row in rows) else [])


def _skipped(row: Mapping[str, float]) -> list[str]:
    """Names of the gradients whose steps an iteration skipped, all of them."""
    return [name for name in SKIPPED if row.get(name, 0.0) >= 1.0]
