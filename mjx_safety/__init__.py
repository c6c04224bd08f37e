"""Safety Gym for accelerators: pure functional environments with costs on MuJoCo MJX, and safe-RL agents."""

from mjx_safety.config import EnvConfig
from mjx_safety.env import Env
from mjx_safety.lidar import Lidar
from mjx_safety.objects import GoalArea, Hazards, Vases
from mjx_safety.registry import ENV_IDS, make, register
from mjx_safety.robots.base import Robot
from mjx_safety.robots.point import Point
from mjx_safety.tasks.goal import Goal
from mjx_safety.types import Snapshot, State
from mjx_safety.wrappers import VecEnv, VecState, vectorize

__version__ = "0.1.0"

__all__ = [
    "ENV_IDS",
    "Env",
    "EnvConfig",
    "Goal",
    "GoalArea",
    "Hazards",
    "Lidar",
    "Point",
    "Robot",
    "Snapshot",
    "State",
    "Vases",
    "VecEnv",
    "VecState",
    "make",
    "register",
    "vectorize",
]
