"""Safety Gym for accelerators: pure functional environments with costs on MuJoCo MJX, and safe-RL agents."""

from mjx_safety.config import EnvConfig
from mjx_safety.env import Env
from mjx_safety.lidar import Lidar
from mjx_safety.objects import (
    Boundary,
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
from mjx_safety.registry import BENCHMARK_IDS, ENV_IDS, ENV_IDS_2019, make, register
from mjx_safety.robots.base import Robot
from mjx_safety.robots.car import Car
from mjx_safety.robots.doggo import Doggo, Doggo2019
from mjx_safety.robots.point import Point
from mjx_safety.settings import settings
from mjx_safety.tasks.base import AbstractTask
from mjx_safety.tasks.button import Button
from mjx_safety.tasks.circle import Circle
from mjx_safety.tasks.goal import Goal
from mjx_safety.tasks.push import Push
from mjx_safety.tasks.run import Run
from mjx_safety.types import Snapshot, State
from mjx_safety.wrappers import VecEnv, VecState, vectorize

__version__ = "0.1.0"

__all__ = [
    "BENCHMARK_IDS",
    "ENV_IDS",
    "ENV_IDS_2019",
    "AbstractTask",
    "Boundary",
    "Button",
    "Buttons",
    "Car",
    "Circle",
    "CircleArea",
    "Doggo",
    "Doggo2019",
    "Env",
    "EnvConfig",
    "Goal",
    "GoalArea",
    "Gremlins",
    "Hazards",
    "Lidar",
    "Pillars",
    "Point",
    "Push",
    "PushBox",
    "Robot",
    "Run",
    "Snapshot",
    "State",
    "Vases",
    "VecEnv",
    "VecState",
    "Walls",
    "make",
    "register",
    "settings",
    "vectorize",
]
