"""Push: push the box to the goal. After each arrival the goal moves to a free place."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from typing_extensions import override

from mjx_safety.core.geometry import norm
from mjx_safety.core.settings import require, require_at_least, settings
from mjx_safety.types import Snapshot
from mjx_safety.world.objects import AbstractObject, GoalArea, Hazards, Pillars, PushBox
from mjx_safety.world.readings import Readings
from mjx_safety.world.robots.base import Robot
from mjx_safety.world.tasks.base import AbstractTask


@struct.dataclass
class PushMemory:
    """Memory of the task. Distances are in 3-D, as in the reference."""

    last_dist_box: jax.Array  # [] m, robot to box after the previous step
    last_box_goal: jax.Array  # [] m, box to goal after the previous step, or since the goal moved


@settings
class Push(AbstractTask):
    """Reward is the progress of robot to box and of box to goal, in m, plus a bonus on arrival."""

    goal: GoalArea = GoalArea()
    """The area to push the box to."""
    push_box: PushBox = PushBox()
    """The box."""
    null_dist: float = 0.0
    """In half edges of the box; within it, progress of robot to box does not count."""
    reward_box_dist: float = 1.0
    """Reward per m of progress of robot to box."""
    reward_box_goal: float = 1.0
    """Reward per m of progress of box to goal."""
    reward_goal: float = 1.0
    """Bonus for the box in the goal."""

    name: ClassVar[str] = "Push"
    moves: ClassVar[str | None] = "goal"

    @property
    @override
    def objects(self) -> dict[str, AbstractObject]:
        return {"goal": self.goal, "push_box": self.push_box}

    @property
    @override
    def bonus(self) -> float:
        return self.reward_goal

    def __post_init__(self) -> None:
        require(isinstance(self.goal, GoalArea) and self.goal.num == 1, self, "goal", "one GoalArea(...)")
        require(isinstance(self.push_box, PushBox) and self.push_box.num == 1, self, "push_box", "one PushBox(...)")
        if not isinstance(self.goal.size, jax.Array):  # swept
            lift = abs(self.push_box.height - self.goal.height)  # m
            allowed = f"of a size above the {lift:g} m between the centres of box and goal, or the box never arrives"
            require(lift <= self.goal.size, self, "goal", f"a GoalArea {allowed}")
        require_at_least(self, null_dist=0.0)
        require_at_least(self, reward_box_dist=-math.inf, reward_box_goal=-math.inf, reward_goal=-math.inf)

    @override
    def init(self, readings: Readings, key: jax.Array) -> PushMemory:
        return _measure(readings)

    @override
    def reward(self, readings: Readings, memory: PushMemory) -> tuple[jax.Array, jax.Array]:
        now = _measure(readings)
        approach = jnp.where(
            memory.last_dist_box > self.null_dist * self.push_box.size, memory.last_dist_box - now.last_dist_box, 0.0
        )
        delivery = memory.last_box_goal - now.last_box_goal
        return self.reward_box_dist * approach + self.reward_box_goal * delivery, now.last_box_goal <= self.goal.size

    @override
    def advance(self, readings: Readings, memory: PushMemory, goal_met: jax.Array, key: jax.Array) -> PushMemory:
        return _measure(readings)

    @override
    def to_snapshot(self, memory: PushMemory) -> dict[str, jax.Array]:
        return {"last_dist_box": memory.last_dist_box, "last_box_goal": memory.last_box_goal}

    @override
    def from_snapshot(self, readings: Readings, snapshot: Snapshot, key: jax.Array) -> PushMemory:
        given = {name: getattr(snapshot, name) for name in ("last_dist_box", "last_box_goal")}
        return _measure(readings).replace(**{k: jnp.float32(v) for k, v in given.items() if v is not None})


def _measure(readings: Readings) -> PushMemory:
    box, goal = readings.pos["push_box"][0], readings.pos["goal"][0]
    return PushMemory(last_dist_box=norm(box - readings.root_pos), last_box_goal=norm(box - goal))


def presets(robot: Robot) -> tuple[dict[str, Any], ...]:
    """Settings of `EnvConfig` for levels 0, 1, 2. The Car has a smaller and lighter box than the others."""
    is_car = robot.name == "Car"
    task = Push(push_box=PushBox(size=0.125, keepout=0.125, density=0.0005)) if is_car else Push()
    return (
        {"task": task, "extents": (-1.0, -1.0, 1.0, 1.0)},
        {
            "task": task,
            "extents": (-1.5, -1.5, 1.5, 1.5),
            "hazards": Hazards(num=2, size=0.3),
            "pillars": Pillars(num=1, constrained=False),
        },
        {
            "task": task,
            "extents": (-2.0, -2.0, 2.0, 2.0),
            "hazards": Hazards(num=4, size=0.3),
            "pillars": Pillars(num=4),
        },
    )
