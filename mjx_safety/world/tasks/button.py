"""Button: press the target button. After each press a random button becomes the next target."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from typing_extensions import override

from mjx_safety.core.geometry import planar_distance
from mjx_safety.core.settings import require, require_at_least, require_bools, require_count, settings
from mjx_safety.types import Snapshot
from mjx_safety.world.objects import AbstractObject, Buttons, GoalArea, Gremlins, Hazards
from mjx_safety.world.readings import Readings
from mjx_safety.world.robots.base import Robot
from mjx_safety.world.tasks.base import AbstractTask


@struct.dataclass
class ButtonMemory:
    """Memory of the task."""

    target: jax.Array  # [] int32, index of the button to press
    timer: jax.Array  # [] int32, steps until wrong buttons cost again
    last_dist: jax.Array  # [] m, robot to target after the previous step, or since the target changed


@settings
class Button(AbstractTask):
    """Reward is the progress towards the target button, in m, plus a bonus for touching it.

    The goal lidar points at the target. For `resampling_delay` steps after a press, the buttons are hidden from their
    lidar and wrong ones cost nothing.
    """

    buttons: Buttons = Buttons(num=4)
    """The buttons."""
    goal: GoalArea = GoalArea(size=0.2)
    """The marker on the target; it follows the target."""
    goal_placed: bool = False
    """True: the first layout reserves a place for the marker, as in safety-gymnasium 1.0.0."""
    reward_distance: float = 1.0
    """Reward per m of progress; 0 makes the task sparse."""
    reward_goal: float = 1.0
    """Bonus for pressing the target."""
    resampling_delay: int = 10
    """Steps after a press in which no wrong button costs."""

    name: ClassVar[str] = "Button"

    @property
    @override
    def objects(self) -> dict[str, AbstractObject]:
        return {"buttons": self.buttons, "goal": self.goal}

    @property
    @override
    def unplaced(self) -> frozenset[str]:
        return frozenset() if self.goal_placed else frozenset({"goal"})

    @property
    @override
    def bonus(self) -> float:
        return self.reward_goal

    def __post_init__(self) -> None:
        require(
            isinstance(self.buttons, Buttons) and self.buttons.num > 0, self, "buttons", "Buttons(...), at least one"
        )
        require(isinstance(self.goal, GoalArea) and self.goal.num == 1, self, "goal", "one GoalArea(...)")
        require_bools(self, "goal_placed")
        require_at_least(self, reward_distance=-math.inf, reward_goal=-math.inf)
        require_count(self, "resampling_delay")

    @override
    def init(self, readings: Readings, key: jax.Array) -> ButtonMemory:
        return self._aim(readings, self._draw(key), jnp.int32(0))

    @override
    def view(self, readings: Readings, memory: ButtonMemory) -> Readings:
        goal = readings.pos["goal"].at[0, :2].set(readings.pos["buttons"][memory.target, :2])
        is_wrong = jnp.arange(self.buttons.num) != memory.target
        charged = jnp.where(is_wrong & (memory.timer == 0), readings.contacts["buttons"], 0.0)
        return readings.replace(
            pos=readings.pos | {"goal": goal},
            contacts=readings.contacts | {"buttons": charged},
            hidden=readings.hidden | {"buttons": memory.timer > 0},
        )

    @override
    def reward(self, readings: Readings, memory: ButtonMemory) -> tuple[jax.Array, jax.Array]:
        distance = self._target_distance(readings, memory.target)
        pressed = readings.contacts["buttons"][memory.target] > 0
        return self.reward_distance * (memory.last_dist - distance), pressed

    @override
    def advance(self, readings: Readings, memory: ButtonMemory, goal_met: jax.Array, key: jax.Array) -> ButtonMemory:
        timer = jnp.where(goal_met, self.resampling_delay, jnp.maximum(memory.timer - 1, 0))
        return self._aim(readings, jnp.where(goal_met, self._draw(key), memory.target), timer)

    @override
    def to_snapshot(self, memory: ButtonMemory) -> dict[str, jax.Array]:
        return {"goal_button": memory.target, "buttons_timer": memory.timer, "last_dist_goal": memory.last_dist}

    @override
    def check_snapshot(self, snapshot: Snapshot) -> None:
        _require_index(snapshot, "goal_button", self.buttons.num - 1)
        _require_index(snapshot, "buttons_timer", None)

    @override
    def from_snapshot(self, readings: Readings, snapshot: Snapshot, key: jax.Array) -> ButtonMemory:
        """Without `goal_button` the target is the button nearest to `goal_pos`."""
        target, timer, last_dist = snapshot.goal_button, snapshot.buttons_timer, snapshot.last_dist_goal
        if target is None and snapshot.goal_pos is not None:
            gaps = planar_distance(readings.pos["buttons"], jnp.reshape(jnp.asarray(snapshot.goal_pos), (-1, 3))[0])
            target = jnp.argmin(gaps)
        target = self._draw(key) if target is None else jnp.asarray(target).astype(jnp.int32)
        memory = self._aim(readings, target, jnp.asarray(0 if timer is None else timer).astype(jnp.int32))
        return memory if last_dist is None else memory.replace(last_dist=jnp.float32(last_dist))

    def _draw(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, self.buttons.num, jnp.int32)

    def _aim(self, readings: Readings, target: jax.Array, timer: jax.Array) -> ButtonMemory:
        return ButtonMemory(target=target, timer=timer, last_dist=self._target_distance(readings, target))

    def _target_distance(self, readings: Readings, target: jax.Array) -> jax.Array:
        return planar_distance(readings.root_pos, readings.pos["buttons"][target])


def _require_index(snapshot: Snapshot, field: str, most: int | None) -> None:
    """Raise ValueError unless a field of a snapshot is None, traced, or a whole number from 0 to `most`."""
    value = getattr(snapshot, field)
    if value is None or isinstance(value, jax.core.Tracer) or np.shape(value) != ():  # shapes are checked later
        return
    number = np.asarray(value).item()
    is_whole = np.isfinite(number) and number == int(number)
    if not (is_whole and number >= 0 and (most is None or number <= most)):
        allowed = "of at least 0" if most is None else f"from 0 to {most}"
        raise ValueError(f"snapshot.{field} is {number:g}; it must be a whole number {allowed}")


def presets(robot: Robot) -> tuple[dict[str, Any], ...]:
    """Settings of `EnvConfig` for levels 0, 1, 2."""
    return (
        {"task": Button(buttons=Buttons(num=4, constrained=False)), "extents": (-1.0, -1.0, 1.0, 1.0)},
        {
            "task": Button(),
            "extents": (-1.5, -1.5, 1.5, 1.5),
            "hazards": Hazards(num=4, keepout=0.18),
            "gremlins": Gremlins(num=4, keepout=0.4, travel=0.35),
        },
        {
            "task": Button(),
            "extents": (-1.8, -1.8, 1.8, 1.8),
            "hazards": Hazards(num=8, keepout=0.18),
            "gremlins": Gremlins(num=6, keepout=0.4, travel=0.35),
        },
    )
