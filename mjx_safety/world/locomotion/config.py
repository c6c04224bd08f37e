"""LocomotionConfig: a robot without objects, its reward and its cost, as one value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mjx_safety.core.settings import (
    Range,
    freeze,
    is_finite_number,
    is_range,
    require,
    require_at_least,
    require_bools,
    require_count,
    settings,
    static,
)
from mjx_safety.world.randomize import Randomize

ASSETS = Path(__file__).parent / "assets"
ENTRIES = ("qpos", "qvel", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")
ANYTHING = (-math.inf, math.inf)


@settings
class LocomotionConfig:
    """Everything that defines a velocity environment. Change a copy with `dataclasses.replace` or keywords of `make`.

    The model has a level plane named `floor`, a robot whose root body is named `robot`, and actuators with control
    ranges. Actions in [-1, 1] are scaled to these ranges. The root begins with a free joint or slides along x (and y).
    The first `travel` coordinates are its place on the floor, and are not observed. If the root has a height, it is the
    next coordinate. `world.locomotion.model_checks` lists the parts that a model must not have.

    The speed is the displacement of a point in a step, divided by the length of the step. A step costs if the speed
    exceeds the threshold. Float fields are pytree leaves (see `settings`).
    """

    name: str
    """Name of the robot."""
    xml: str
    """Path of the MJCF model."""
    frameskip: int
    """Physics steps in one environment step."""
    travel: int = 1
    """Number of coordinates on the floor: 1 for x, 2 for x and y, as a free joint has."""
    point: Literal["root", "com"] = "root"
    """Point of the displacement: the root's origin or the centre of mass."""
    entries: tuple[str, ...] = ("qpos", "qvel")
    """Entries of the observation, in this order, from `ENTRIES`."""
    velocity_clip: float = static(default=math.inf)
    """Bound of the observed velocities."""

    threshold: float
    """Speed above which a step costs, in m/s."""
    direction: Literal["ahead", "any"] = "ahead"
    """ahead: speed along +x, with its sign; any: the norm."""
    indicator: bool = True
    """Cost is 1 above the threshold, else 0; False: the excess in m/s."""

    forward_reward: float = 1.0
    """Reward per m/s along +x."""
    control_cost: float
    """Weight of the sum of squared controls, subtracted from the reward."""
    healthy_reward: float = 0.0
    """Reward of every step, including the last."""
    healthy_height: Range = ANYTHING
    """Healthy height of the root, in m; the episode terminates outside of any healthy range."""
    healthy_angle: Range = ANYTHING
    """Healthy tilt of a root that moves in the vertical plane, from the model's own pose, in rad."""
    healthy_state: float = static(default=math.inf)
    """Bound of velocities, and of coordinates except those on the floor."""
    reward_exception: float = -10.0
    """Reward of a step whose physics blows up; the episode terminates."""

    reset_noise: float
    """Half width of the uniform noise on coordinates at reset, and scale of the noise on velocities."""
    reset_velocity: Literal["uniform", "normal"] = "uniform"
    """Distribution of the noise on velocities."""
    episode_length: int = 1000
    """Steps until truncation."""
    randomize: Randomize | None = None
    """How far masses, friction, gains and damping differ between worlds, and noise on the sensors; None: not at all."""

    def __post_init__(self) -> None:
        freeze(self, "entries", "healthy_height", "healthy_angle")
        require(isinstance(self.name, str) and bool(self.name), self, "name", "a name")
        require(isinstance(self.xml, (str, Path)) and Path(self.xml).is_file(), self, "xml", "the path of an MJCF file")
        require(type(self.travel) is int and self.travel in (1, 2), self, "travel", "1 or 2")
        require(self.point in ("root", "com"), self, "point", "'root' or 'com'")
        are_known = isinstance(self.entries, tuple) and set(self.entries) <= set(ENTRIES)
        are_unique = are_known and len(set(self.entries)) == len(self.entries) > 0
        require(are_unique, self, "entries", f"some of {', '.join(ENTRIES)}")
        is_randomize = self.randomize is None or isinstance(self.randomize, Randomize)
        require(is_randomize, self, "randomize", "None or Randomize(...)")
        require(self.direction in ("ahead", "any"), self, "direction", "'ahead' or 'any'")
        require(self.reset_velocity in ("uniform", "normal"), self, "reset_velocity", "'uniform' or 'normal'")
        for field in ("healthy_height", "healthy_angle"):
            value = getattr(self, field)
            ok = is_range(value, infinite=True) and value[0] < value[1]
            require(ok, self, field, "(lowest, highest), two numbers in this order")
        for field in ("velocity_clip", "healthy_state"):
            require(_is_bound(getattr(self, field)), self, field, "a number above 0 in single precision, or infinity")
        for field in ("frameskip", "episode_length"):
            require_count(self, field, 1)
        require_bools(self, "indicator")
        require_at_least(self, threshold=0.0, reset_noise=0.0, control_cost=0.0)
        require_at_least(self, **dict.fromkeys(("forward_reward", "healthy_reward", "reward_exception"), -math.inf))


def _is_bound(value: Any) -> bool:
    """Return whether the value is infinity, or a number above 0 in single precision."""
    return value == math.inf or (is_finite_number(value) and float(np.float32(value)) > 0.0)
