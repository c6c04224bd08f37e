"""Checks on the host, at build time, that an environment has room for a layout."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import jax
import numpy as np

from mjx_safety.core.settings import Rectangle
from mjx_safety.world.objects import AbstractPlaced
from mjx_safety.world.placement.layout import TRIES_PER_OBJECT
from mjx_safety.world.placement.table import PlacementTable

MANY = 1000  # objects of a kind; more are counted against their area before anything is built
BLOCKS = (0, 1, 10, TRIES_PER_OBJECT)  # candidates looked at together, between these bounds
MOST = 10_000  # objects of a kind; the time of a reset grows with their square
ROUNDS = (8, 56, 448, 512)  # layouts tried side by side; most environments need only the first round


def require_room(table: PlacementTable) -> None:
    """Raise a ValueError that names the object without a place, if all of a thousand layouts fail."""
    things = _Things(table)
    random, deepest, xy = np.random.default_rng(0), -1, np.zeros((1, 0, 2))
    for num_layouts in ROUNDS:
        placed = things.place_all(random, num_layouts)
        if placed.shape[1] == things.num:
            return
        if placed.shape[1] > deepest:
            deepest, xy = placed.shape[1], placed
    raise ValueError(things.describe(deepest, xy))


def refuse_crowd(kinds: Mapping[str, AbstractPlaced], extents: Rectangle) -> None:
    """Raise a ValueError that names a kind of too many objects, or of many whose circles cover more than their area.

    To build such a scene and to try its layouts takes hours. kinds: name -> kind; extents: m.
    """
    for name, kind in kinds.items():
        if kind.num <= MANY or isinstance(kind.keepout, jax.core.Tracer):
            continue
        within = np.array([extents] if kind.placements is None else kind.placements, float)
        area = np.sum((within[:, 2] - within[:, 0]) * (within[:, 3] - within[:, 1]))
        fit = area / (np.pi * float(kind.keepout) ** 2) if kind.keepout > 0 else np.inf
        if kind.num - len(kind.locations) > fit:
            raise ValueError(
                f"no room for {kind.num} {name} (keepout {kind.keepout:g} m) within {np.round(within, 3).tolist()} m:"
                f" their circles fill it with {int(fit)} of them; take fewer, a smaller keepout, or larger extents"
            )
        if kind.num > MOST:
            raise ValueError(
                f"{kind.num} {name} are more than the {MOST} objects of a kind that a layout may place:"
                f" its time grows with their square"
            )


class _Things:
    """The table as plain arrays."""

    def __init__(self, table: PlacementTable):
        self.rectangles, probs = np.asarray(table.rectangles, float), np.asarray(table.probs, float)
        self.probs = probs / probs.sum(axis=1, keepdims=True)
        self.margin, self.keepout = float(table.margin), np.asarray(table.keepout, float)
        self.slices, self.num = table.slices, len(table.keepout)

    def _least(self, row: int, num: int) -> np.ndarray:
        """Distances [num] m that the object `row` must keep from the first ones."""
        return self.keepout[row] + self.keepout[:num] + self.margin

    def place_all(self, random: np.random.Generator, num_layouts: int) -> np.ndarray:
        """Try layouts side by side. Returns the places [L, n, 2] m of the furthest ones, with n of N objects."""
        xy = np.zeros((num_layouts, 0, 2))
        for row in range(self.num):
            spots, found = self._first_clear(random, row, xy)
            if not found.any():
                return xy
            xy = np.concatenate([xy[found], spots[found, None]], axis=1)
        return xy

    def _first_clear(self, random: np.random.Generator, row: int, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First candidate [L, 2] m clear of the objects at xy [L, n, 2] m, and whether there is one [L]."""
        choice = random.choice(len(self.probs[row]), size=(len(xy), TRIES_PER_OBJECT), p=self.probs[row])
        low, high = self.rectangles[row, choice, :2], self.rectangles[row, choice, 2:]
        candidates = low + random.random(low.shape) * (high - low)
        first, found = np.zeros(len(xy), int), np.zeros(len(xy), bool)
        for start, stop in itertools.pairwise(BLOCKS):  # the first candidate is clear in most cases
            left = np.flatnonzero(~found)
            gaps = np.linalg.norm(candidates[left, start:stop, None] - xy[left, None], axis=-1)  # [l, tries, n]
            clear = np.all(gaps >= self._least(row, xy.shape[1]), axis=-1)
            first[left], found[left] = start + np.argmax(clear, axis=1), clear.any(axis=1)
            if found.all():
                break
        return candidates[np.arange(len(xy)), first], found

    def describe(self, row: int, xy: np.ndarray) -> str:
        """Return a sentence about the object `row` without a place. xy: [L, row, 2] m, places of earlier objects."""
        name, start, stop = next(part for part in self.slices if part[1] <= row < part[2])
        used = self.rectangles[row][self.probs[row] > 0]
        where = f"within {np.round(used, 3).tolist()} m"
        keepout = f"keepout {self.keepout[row]:g} m"
        if len(used) == 1 and np.all(used[0, :2] == used[0, 2:]):
            gaps = np.linalg.norm(xy[0] - used[0, :2], axis=-1) - self._least(row, row)
            other = next(part[0] for part in self.slices if part[1] <= int(np.argmin(gaps)) < part[2])
            place = tuple(np.round(used[0, :2], 3).tolist())
            return f"no room for {name} at {place} ({keepout}): {other} stand nearer than their keepouts allow"
        count = f"at most {row - start} of them found a place beside the others"
        advice = "take fewer, a smaller keepout, or larger extents"
        return f"no room for {stop - start} {name} ({keepout}) {where}: {count}; {advice}"
