"""EnvConfig: an environment as a value."""

from __future__ import annotations

from mjx_safety.lidar import Lidar
from mjx_safety.objects import AbstractObject, Hazards, Vases
from mjx_safety.robots.base import Robot
from mjx_safety.robots.point import POINT
from mjx_safety.settings import (
    Rectangle,
    freeze,
    is_rectangle,
    require,
    require_bools,
    require_count,
    require_numbers,
    settings,
    static,
)
from mjx_safety.tasks.base import AbstractTask
from mjx_safety.tasks.goal import Goal


@settings
class EnvConfig:
    """Everything that defines an environment. Change a copy with `dataclasses.replace` or keywords of `make`.

    Float fields are pytree leaves (see `settings`): `jax.vmap` over an `Env` sweeps rewards, costs, thresholds.
    """

    robot: Robot = POINT
    task: AbstractTask = Goal()
    hazards: Hazards | None = None
    vases: Vases | None = None
    lidar: Lidar = Lidar()
    extents: Rectangle = (-2.0, -2.0, 2.0, 2.0)  # m, where things are placed
    margin: float = static(default=0.0)  # m, added to every sum of two keepouts
    episode_length: int = 1000  # steps until truncation
    continue_goal: bool = True  # False: the episode terminates when the goal is met
    indicator: bool = True  # cost is 1 where any source is positive, else 0; False: the sum of the sources
    reward_clip: float = 10.0  # symmetric bound of the reward for progress
    reward_exception: float = -10.0  # reward of a step whose physics blows up; the episode terminates

    def __post_init__(self) -> None:
        kinds = {"robot": Robot, "task": AbstractTask, "lidar": Lidar}
        for field, kind in kinds.items():
            require(isinstance(getattr(self, field), kind), self, field, f"a {kind.__name__.removeprefix('Abstract')}")
        for field, kind in {"hazards": Hazards, "vases": Vases}.items():
            value = getattr(self, field)
            require(value is None or isinstance(value, kind), self, field, f"None or {kind.__name__}(...)")
        require(is_rectangle(self.extents), self, "extents", "a rectangle (xmin, ymin, xmax, ymax) in m")
        freeze(self, "extents")
        require_count(self, "episode_length", 1)
        require_bools(self, "continue_goal", "indicator")
        require_numbers(self, margin=0.0, reward_clip=0.0, reward_exception=float("-inf"))

    @property
    def objects(self) -> dict[str, AbstractObject]:
        """All kinds of objects that exist, in the order of placement, observation and cost."""
        own = {"hazards": self.hazards, "vases": self.vases}
        return {**self.task.objects, **{name: kind for name, kind in own.items() if kind is not None and kind.num}}
