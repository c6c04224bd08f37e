"""A task: the objects that it adds to the scene, its reward, its memory. A new task is one file."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax

from mjx_safety.types import Snapshot
from mjx_safety.world.objects import AbstractObject
from mjx_safety.world.readings import Readings


class AbstractTask(abc.ABC):
    """Interface of a task. The settings of a task are the fields of its class."""

    name: ClassVar[str]  # by default that of the class
    moves: ClassVar[str | None] = None  # the kind that moves when the goal is met: one marker that a layout places
    _has_name: ClassVar[bool] = False  # it, or a class that it extends, says its name

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" in cls.__dict__:
            cls._has_name = True
        elif not cls._has_name:
            cls.name = cls.__name__

    @property
    @abc.abstractmethod
    def objects(self) -> Mapping[str, AbstractObject]:
        """The objects that the task adds, in the order of observation."""

    @property
    def unplaced(self) -> frozenset[str]:
        """Names of its markers that need no place in a layout, because `view` places them."""
        return frozenset()

    @property
    def bonus(self) -> Any:
        """Reward for meeting the goal."""
        return 0.0

    @property
    def costs(self) -> Mapping[str, Callable[[Readings, Any], jax.Array]]:
        """Its own sources of cost: name -> function of readings and memory. Its value [] costs where it is positive."""
        return {}

    @abc.abstractmethod
    def init(self, readings: Readings, key: jax.Array) -> Any:
        """Memory at the start of an episode."""

    def view(self, readings: Readings, memory: Any) -> Readings:
        """Return the world as costs and lidars see it. A task may place, hide or exempt its objects here.

        The next call starts from the marker positions that this call returns. So return positions, not offsets.
        """
        return readings

    @abc.abstractmethod
    def reward(self, readings: Readings, memory: Any) -> tuple[jax.Array, jax.Array]:
        """Reward for progress [] float, without `bonus`, and whether the goal is met [] bool."""

    @abc.abstractmethod
    def advance(self, readings: Readings, memory: Any, goal_met: jax.Array, key: jax.Array) -> Any:
        """Memory for the next step, of the form of `init`. `readings` have the new place of the kind `moves`."""

    def to_snapshot(self, memory: Any) -> dict[str, jax.Array]:
        """The memory as fields of `Snapshot`."""
        return {"memory": memory}

    def check_snapshot(self, snapshot: Snapshot) -> None:
        """Raise ValueError unless the fields of the memory are possible. Traced ones cannot be checked."""
        return

    def from_snapshot(self, readings: Readings, snapshot: Snapshot, key: jax.Array) -> Any:
        """The memory of a snapshot. Missing parts are computed from the positions."""
        return self.init(readings, key) if snapshot.memory is None else snapshot.memory
