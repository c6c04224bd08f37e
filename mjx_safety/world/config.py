"""EnvConfig: an environment as a value."""

from __future__ import annotations

from typing import Literal

from mjx_safety.core.settings import (
    Rectangle,
    freeze,
    is_rectangle,
    require,
    require_at_least,
    require_bools,
    require_count,
    settings,
    static,
)
from mjx_safety.world.boundary import Boundary
from mjx_safety.world.lidar import Lidar
from mjx_safety.world.objects import (
    AbstractObject,
    Buttons,
    CircleArea,
    GoalArea,
    Gremlins,
    Hazards,
    Pillars,
    PushBox,
    Vases,
    Walls,
)
from mjx_safety.world.placement.table import NEARBY, is_near
from mjx_safety.world.randomize import Randomize
from mjx_safety.world.robots.base import Robot
from mjx_safety.world.robots.point import POINT
from mjx_safety.world.task_checks import check_body, check_compasses, check_moved, check_task
from mjx_safety.world.tasks.base import AbstractTask
from mjx_safety.world.tasks.goal import Goal

EXTRAS = ("goal_dist", "remaining", "qpos", "qvel", "ctrl", "freejoint", "com")
LAYOUTS = ("per_episode", "per_env", "fixed")
PROFILES = ("1.0.0", "2019")

KINDS = {  # kinds of objects for any task, in the order of observation and cost within their body kind
    "hazards": Hazards,
    "vases": Vases,
    "pillars": Pillars,
    "buttons": Buttons,
    "walls": Walls,
    "boundary": Boundary,
    "gremlins": Gremlins,
}
OWN_KINDS = {**KINDS, "goal": GoalArea, "push_box": PushBox, "circle": CircleArea}  # what a task may add, by name
PLACEMENT_ORDER_2019 = ("walls", "goal", "push_box", "buttons", "hazards", "vases", "pillars", "gremlins")


@settings
class EnvConfig:
    """Everything that defines an environment. Change a copy with `dataclasses.replace` or keywords of `make`.

    Float fields are pytree leaves (see `settings`), so `jax.vmap` over an `Env` sweeps rewards, costs, thresholds.
    """

    robot: Robot = POINT
    """The robot."""
    task: AbstractTask = Goal()
    """Reward, goal and the objects that belong to them."""
    hazards: Hazards | None = None
    """Discs on the floor; None: none."""
    vases: Vases | None = None
    """Light cubes to be pushed aside; None: none."""
    pillars: Pillars | None = None
    """Fixed cylinders; None: none."""
    buttons: Buttons | None = None
    """Fixed balls as obstacles; the task Button has its own buttons."""
    gremlins: Gremlins | None = None
    """Cubes that circle their places; None: none."""
    walls: Walls | None = None
    """Solid cubes without cost; None: none."""
    boundary: Boundary | None = None
    """Lines that cost beyond them; None: none."""

    lidar: Lidar = Lidar()
    """How the lidars see."""
    compass_size: Literal[2, 3] = 2
    """Components of each object's compass."""
    extras: tuple[str, ...] = ()
    """Further entries of the observation: goal_dist, remaining, qpos, qvel, ctrl, freejoint, com."""
    profile: Literal["1.0.0", "2019"] = "1.0.0"
    """Order of placement, order and names of observation entries: as in safety-gymnasium 1.0.0 or Safety Gym (2019)."""

    extents: Rectangle = (-2.0, -2.0, 2.0, 2.0)
    """The area for placement: smallest x and y, largest x and y, in m; within 1000 m of the origin."""
    margin: float = static(default=0.0)
    """Room between any two keepout circles, in m."""
    layouts: Literal["per_episode", "per_env", "fixed"] = "per_episode"
    """per_episode: a new layout each episode; per_env: each world keeps its own; fixed: all share one."""
    layout_seed: int = 0
    """Seed of the layout, if layouts="fixed"."""

    episode_length: int = 1000
    """Steps until truncation."""
    continue_goal: bool = True
    """False: the episode terminates when the goal is met."""
    frameskip: int = 10
    """Largest number of physics steps in one environment step."""
    frameskip_prob: float = static(default=1.0)
    """Probability that each of them is taken; below 1 their number is random (binomial)."""
    action_noise: float = static(default=0.0)
    """Standard deviation of the noise on each action."""
    randomize: Randomize | None = None
    """How far masses, friction, gains and damping differ between worlds, and noise on the sensors; None: not at all."""

    indicator: bool = True
    """Cost is 1 if any source is positive, else 0; False: the sum of the sources."""
    reward_clip: float = 10.0
    """Symmetric bound of the reward for progress and for being upright; 0: none."""
    reward_orientation: bool = False
    """Add a reward for being upright: the scale times the cosine of the tilt."""
    reward_orientation_scale: float = 0.002
    """Scale of the reward for being upright."""
    reward_exception: float = -10.0
    """Reward of a step whose physics blows up; the episode terminates."""

    def __post_init__(self) -> None:
        require(isinstance(self.robot, Robot), self, "robot", "a Robot, such as Car()")
        require(isinstance(self.task, AbstractTask), self, "task", "a Task, such as Goal()")
        require(isinstance(self.lidar, Lidar), self, "lidar", "a Lidar, such as Lidar(num_bins=16)")
        check_task(self.task, OWN_KINDS)
        for field, kind in KINDS.items():
            value = getattr(self, field)
            require(value is None or isinstance(value, kind), self, field, f"None or {kind.__name__}(...)")
            if value is not None:
                check_body(f"EnvConfig.{field}", value, kind)
            taken = value is not None and field in self.task.objects
            require(not taken, self, field, f"None, since the task {self.task.name} has its own")
        check_moved(self.task, self.objects)
        check_compasses(self.objects)
        is_randomize = self.randomize is None or isinstance(self.randomize, Randomize)
        require(is_randomize, self, "randomize", "None or Randomize(...)")
        require(is_rectangle(self.extents), self, "extents", "a rectangle (xmin, ymin, xmax, ymax) in m")
        require(is_near(self.extents), self, "extents", NEARBY)
        freeze(self, "extents", "extras")
        are_known = isinstance(self.extras, tuple) and set(self.extras) <= set(EXTRAS)
        require(are_known and len(set(self.extras)) == len(self.extras), self, "extras", f"some of {', '.join(EXTRAS)}")
        require(type(self.compass_size) is int and self.compass_size in (2, 3), self, "compass_size", "2 or 3")
        require(self.profile in PROFILES, self, "profile", "'1.0.0' or '2019'")
        require(self.layouts in LAYOUTS, self, "layouts", "'per_episode', 'per_env' or 'fixed'")
        num_goals = self.objects["goal"].num if "goal" in self.objects else 0
        goals = f"{num_goals} goals" if num_goals else "no goal"
        fits_goals = "goal_dist" not in self.extras or num_goals == 1
        require(fits_goals, self, "extras", f"without 'goal_dist', since the task {self.task.name} has {goals}")
        for field, minimum in {"episode_length": 1, "frameskip": 1, "layout_seed": 0}.items():
            require_count(self, field, minimum)
        require_bools(self, "continue_goal", "indicator", "reward_orientation")
        require_at_least(self, margin=0.0, reward_clip=0.0, action_noise=0.0, frameskip_prob=0.0)
        require(self.frameskip_prob <= 1.0, self, "frameskip_prob", "a finite number in [0, 1]")
        require_at_least(self, reward_orientation_scale=float("-inf"), reward_exception=float("-inf"))

    @property
    def objects(self) -> dict[str, AbstractObject]:
        """All kinds of objects in this environment, in the order of observation, cost and bodies."""
        own = {name: getattr(self, name) for name in KINDS if getattr(self, name) is not None}
        kinds = {name: kind for name, kind in {**self.task.objects, **own}.items() if kind.num}
        rank = {"marker": 0, "fixed": 0, "free": 1, "driven": 2}
        return dict(sorted(kinds.items(), key=lambda item: rank[item[1].body_kind]))  # stable

    @property
    def placed(self) -> dict[str, AbstractObject]:
        """The kinds that a layout places, in this order, after the robot."""
        kinds = {name: kind for name, kind in self.objects.items() if name not in self.task.unplaced}
        if self.profile == "1.0.0":
            return kinds
        rank = {name: index for index, name in enumerate(PLACEMENT_ORDER_2019)}
        return dict(sorted(kinds.items(), key=lambda item: rank.get(item[0], len(rank))))
