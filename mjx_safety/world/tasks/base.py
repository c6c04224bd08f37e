"""What a task is: which things it adds to the scene, what it rewards, what it remembers. A new task is one file."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import jax

from mjx_safety.types import Snapshot
from mjx_safety.world.objects import AbstractObject
from mjx_safety.world.readings import Readings


class AbstractTask(abc.ABC):
    """Interface of a task; its settings are the fields of the class that implements it."""

    name: ClassVar[str]
    moves: ClassVar[str | None] = None  # the kind that gets a new place when the goal is met

    @property
    @abc.abstractmethod
    def objects(self) -> Mapping[str, AbstractObject]:
        """What the task itself adds, in the order of observation."""

    @property
    def unplaced(self) -> frozenset[str]:
        """Those of its objects that take no place in a layout because `view` puts them somewhere."""
        return frozenset()

    @property
    def bonus(self) -> Any:
        """Reward for meeting the goal."""
        return 0.0

    @abc.abstractmethod
    def init(self, readings: Readings, key: jax.Array) -> Any:
        """Memory at the start of an episode."""

    def view(self, readings: Readings, memory: Any) -> Readings:
        """Return the world as costs and lidars see it: with what the task puts somewhere, hides or leaves uncharged."""
        return readings

    @abc.abstractmethod
    def reward(self, readings: Readings, memory: Any) -> tuple[jax.Array, jax.Array]:
        """Reward for progress [] (the bonus for a goal is added by `bonus`) and whether the goal is met [] bool."""

    @abc.abstractmethod
    def advance(self, readings: Readings, memory: Any, goal_met: jax.Array, key: jax.Array) -> Any:
        """Memory for the next step. `readings` already hold the new place of what `moves` names."""

    def to_snapshot(self, memory: Any) -> dict[str, jax.Array]:
        """Fields of `Snapshot` that hold the memory."""
        return {"memory": memory}

    def from_snapshot(self, readings: Readings, snapshot: Snapshot, key: jax.Array) -> Any:
        """Memory of a snapshot as it was given; what it lacks is computed from the positions."""
        return self.init(readings, key) if snapshot.memory is None else snapshot.memory
