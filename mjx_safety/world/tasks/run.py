"""Run: run straight along a corridor, as fast as possible, without leaving it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from typing_extensions import override

from mjx_safety.core.geometry import norm
from mjx_safety.core.settings import require_at_least, settings
from mjx_safety.types import Snapshot
from mjx_safety.world.boundary import Boundary
from mjx_safety.world.objects import AbstractObject
from mjx_safety.world.readings import Readings
from mjx_safety.world.robots.base import Robot
from mjx_safety.world.tasks.base import AbstractTask

TARGET = (0.0, -1000.0)  # m, never reached


@struct.dataclass
class RunMemory:
    """Memory of the task."""

    last_pos: jax.Array  # [3] m, the robot after the previous step


@settings
class Run(AbstractTask):
    """Reward is the progress towards a far point at -y. No goal."""

    reward_factor: float = 60.0
    """Reward per m of progress."""

    name: ClassVar[str] = "Run"

    @property
    @override
    def objects(self) -> dict[str, AbstractObject]:
        return {}

    def __post_init__(self) -> None:
        require_at_least(self, reward_factor=-math.inf)

    @override
    def init(self, readings: Readings, key: jax.Array) -> RunMemory:
        return RunMemory(last_pos=readings.root_pos)

    @override
    def reward(self, readings: Readings, memory: RunMemory) -> tuple[jax.Array, jax.Array]:
        target = jnp.array(TARGET)
        now, before = readings.root_pos[:2] - target, memory.last_pos[:2] - target
        moved = memory.last_pos[:2] - readings.root_pos[:2]
        progress = jnp.sum(moved * (now + before)) / (norm(now) + norm(before))  # exact for two long distances
        return self.reward_factor * progress, jnp.bool_(False)

    @override
    def advance(self, readings: Readings, memory: RunMemory, goal_met: jax.Array, key: jax.Array) -> RunMemory:
        return RunMemory(last_pos=readings.root_pos)

    @override
    def to_snapshot(self, memory: RunMemory) -> dict[str, jax.Array]:
        return {"last_root_pos": memory.last_pos}

    @override
    def from_snapshot(self, readings: Readings, snapshot: Snapshot, key: jax.Array) -> RunMemory:
        given = snapshot.last_root_pos
        return RunMemory(last_pos=readings.root_pos if given is None else jnp.asarray(given, jnp.float32))


def presets(robot: Robot) -> tuple[dict[str, Any], ...]:
    """Settings of `EnvConfig` for level 0, the only one."""
    level = {
        "robot": dataclasses.replace(robot, keepout=0.0, placements=((-0.2, 16.5, 0.2, 16.5),)),
        "task": Run(),
        "boundary": Boundary(num=2, distance=0.5, half_length=17.5),
        "reward_clip": 0.0,
        "episode_length": 500,
    }
    return (level,)
