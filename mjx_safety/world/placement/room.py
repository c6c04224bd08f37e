"""Whether a layout can be found at all: tried on the host when an environment is built, so that none is crowded."""

from __future__ import annotations

import numpy as np

from mjx_safety.world.placement.layout import TRIES_PER_OBJECT
from mjx_safety.world.placement.table import PlacementTable

ROUNDS = (8, 56, 448, 1536)  # layouts tried side by side; most environments find one in the first round
REDRAWS = 1000  # candidates for the second place of a redrawn object


def require_room(table: PlacementTable, redrawn: int | None = None) -> None:
    """Raise a ValueError that names what found no place, if not one of some 2000 tried layouts was complete.

    redrawn: row of an object that needs a second place once all stand, as in `sample_layout`.
    """
    things = _Things(table)
    random, deepest, xy = np.random.default_rng(0), -1, np.zeros((1, 0, 2))
    for num_layouts in ROUNDS:
        placed = things.place_all(random, num_layouts)
        if placed.shape[1] == things.num:
            if redrawn is None or things.has_second_place(random, placed, redrawn):
                return
        if placed.shape[1] > deepest:
            deepest, xy = placed.shape[1], placed
    raise ValueError(things.describe(deepest, xy, redrawn))


class _Things:
    """The table as plain arrays."""

    def __init__(self, table: PlacementTable):
        self.rectangles, self.probs = np.asarray(table.rectangles, float), np.asarray(table.probs, float)
        self.least = np.add.outer(*[np.asarray(table.keepout, float)] * 2) + float(table.margin)  # [N, N] m
        self.keepout, self.slices, self.num = np.asarray(table.keepout), table.slices, len(table.keepout)

    def place_all(self, random: np.random.Generator, num_layouts: int) -> np.ndarray:
        """Try layouts side by side. Returns the places [L, n, 2] m of those that got furthest, n of N objects."""
        xy = np.zeros((num_layouts, 0, 2))
        for row in range(self.num):
            others = np.arange(row)
            spots, found = self._first_clear(random, row, xy, others, TRIES_PER_OBJECT)
            if not found.any():
                return xy
            xy = np.concatenate([xy[found], spots[found, None]], axis=1)
        return xy

    def has_second_place(self, random: np.random.Generator, xy: np.ndarray, row: int) -> bool:
        """Whether an object finds another place in any of some complete layouts [L, N, 2] m."""
        others = np.delete(np.arange(self.num), row)
        return bool(self._first_clear(random, row, xy[:8, others], others, REDRAWS)[1].any())

    def _first_clear(
        self, random: np.random.Generator, row: int, xy: np.ndarray, others: np.ndarray, tries: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """First candidate [L, 2] m that is clear of the others, at xy [L, n, 2] m, and whether there is one [L]."""
        choice = random.choice(len(self.probs[row]), size=(len(xy), tries), p=self.probs[row] / self.probs[row].sum())
        low, high = self.rectangles[row, choice, :2], self.rectangles[row, choice, 2:]
        candidates = low + random.random(low.shape) * (high - low)
        gaps = np.linalg.norm(candidates[:, :, None] - xy[:, None], axis=-1)  # [L, tries, n]
        clear = np.all(gaps >= self.least[row, others] - 1e-6, axis=-1)
        first = np.argmax(clear, axis=1)
        return candidates[np.arange(len(xy)), first], clear.any(axis=1)

    def describe(self, deepest: int, xy: np.ndarray, redrawn: int | None) -> str:
        """Say in a sentence what found no place after the first `deepest` objects."""
        row = deepest if deepest < self.num else redrawn or 0
        name, start, stop = next(part for part in self.slices if part[1] <= row < part[2])
        used = self.rectangles[row][self.probs[row] > 0]
        where = f"within {np.round(used, 3).tolist()} m"
        keepout = f"keepout {self.keepout[row]:g} m"
        if deepest == self.num:
            return f"no room for a second {name} ({keepout}) {where} once everything stands; take fewer objects"
        if len(used) == 1 and np.all(used[0, :2] == used[0, 2:]):
            gaps = np.linalg.norm(xy[0] - used[0, :2], axis=-1) - self.least[row, :deepest]
            other = next(part[0] for part in self.slices if part[1] <= int(np.argmin(gaps)) < part[2])
            place = tuple(used[0, :2].tolist())
            return f"no room for {name} at {place} ({keepout}): {other} is nearer than their keepouts allow"
        count = f"at most {row - start} of them found a place beside the others"
        advice = "take fewer, a smaller keepout, or larger extents"
        return f"no room for {stop - start} {name} ({keepout}) {where}: {count}; {advice}"
