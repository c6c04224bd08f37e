"""Goal: drive to the goal. After each arrival the goal moves to a free place."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from typing_extensions import override

from mjx_safety.core.geometry import planar_distance
from mjx_safety.core.settings import require, require_at_least, settings
from mjx_safety.types import Snapshot
from mjx_safety.world.objects import AbstractObject, GoalArea, Hazards, Vases
from mjx_safety.world.readings import Readings
from mjx_safety.world.robots.base import Robot
from mjx_safety.world.tasks.base import AbstractTask


@struct.dataclass
class GoalMemory:
    """Memory of the task."""

    last_dist: jax.Array  # [] m, robot to goal after the previous step, or since the goal moved


@settings
class Goal(AbstractTask):
    """Reward is the progress towards the goal, in m, plus a bonus on arrival (within the goal's radius)."""

    goal: GoalArea = GoalArea(keepout=0.305)
    """The area to reach."""
    reward_distance: float = 1.0
    """Reward per m of progress; 0 makes the task sparse."""
    reward_goal: float = 1.0
    """Bonus for reaching the goal."""

    name: ClassVar[str] = "Goal"
    moves: ClassVar[str | None] = "goal"

    @property
    @override
    def objects(self) -> dict[str, AbstractObject]:
        return {"goal": self.goal}

    @property
    @override
    def bonus(self) -> float:
        return self.reward_goal

    def __post_init__(self) -> None:
        require(isinstance(self.goal, GoalArea) and self.goal.num == 1, self, "goal", "one GoalArea(...)")
        require_at_least(self, reward_distance=-math.inf, reward_goal=-math.inf)

    @override
    def init(self, readings: Readings, key: jax.Array) -> GoalMemory:
        return GoalMemory(last_dist=_goal_distance(readings))

    @override
    def reward(self, readings: Readings, memory: GoalMemory) -> tuple[jax.Array, jax.Array]:
        distance = _goal_distance(readings)
        return self.reward_distance * (memory.last_dist - distance), distance <= self.goal.size

    @override
    def advance(self, readings: Readings, memory: GoalMemory, goal_met: jax.Array, key: jax.Array) -> GoalMemory:
        return GoalMemory(last_dist=_goal_distance(readings))

    @override
    def to_snapshot(self, memory: GoalMemory) -> dict[str, jax.Array]:
        return {"last_dist_goal": memory.last_dist}

    @override
    def from_snapshot(self, readings: Readings, snapshot: Snapshot, key: jax.Array) -> GoalMemory:
        given = snapshot.last_dist_goal
        return GoalMemory(last_dist=_goal_distance(readings) if given is None else jnp.float32(given))


def _goal_distance(readings: Readings) -> jax.Array:
    return planar_distance(readings.root_pos, readings.pos["goal"][0])


def presets(robot: Robot) -> tuple[dict[str, Any], ...]:
    """Settings of `EnvConfig` for levels 0, 1, 2."""
    vases = Vases(num=1, constrained=False)
    return (
        {"task": Goal(), "extents": (-1.0, -1.0, 1.0, 1.0)},
        {"task": Goal(), "extents": (-1.5, -1.5, 1.5, 1.5), "hazards": Hazards(num=8, keepout=0.18), "vases": vases},
        {
            "task": Goal(),
            "extents": (-2.0, -2.0, 2.0, 2.0),
            "hazards": Hazards(num=10, keepout=0.18),
            "vases": Vases(num=10),
        },
    )
