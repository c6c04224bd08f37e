"""Safety Gym in JAX: environments with rewards and costs as pure functions on MuJoCo, and safe-RL agents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mjx_safety.core.settings import settings
from mjx_safety.env.base import AbstractEnv
from mjx_safety.env.env import Env
from mjx_safety.env.locomotion import LocomotionEnv
from mjx_safety.env.vector import VecEnv, VecState, vectorize
from mjx_safety.registry import BENCHMARK_IDS, ENV_IDS, ENV_IDS_2019, NAVIGATION_IDS, VELOCITY_IDS, make, register
from mjx_safety.types import Dynamics, Snapshot, State, VectorEnvironment
from mjx_safety.world.boundary import Boundary
from mjx_safety.world.config import EnvConfig
from mjx_safety.world.lidar import Lidar
from mjx_safety.world.locomotion.config import LocomotionConfig
from mjx_safety.world.objects import (
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
from mjx_safety.world.randomize import Randomize
from mjx_safety.world.robots.ant import Ant
from mjx_safety.world.robots.base import Robot
from mjx_safety.world.robots.car import Car
from mjx_safety.world.robots.doggo import Doggo, Doggo2019
from mjx_safety.world.robots.point import Point
from mjx_safety.world.tasks.base import AbstractTask
from mjx_safety.world.tasks.button import Button
from mjx_safety.world.tasks.circle import Circle
from mjx_safety.world.tasks.goal import Goal
from mjx_safety.world.tasks.push import Push
from mjx_safety.world.tasks.run import Run

if TYPE_CHECKING:
    from PIL.Image import Image

    from mjx_safety.agents.types import Algorithm, TrainState
    from mjx_safety.runs.policy import Policy

__version__ = "0.1.0"


def render(
    env: AbstractEnv, state: State, *, camera: str = "track", width: int = 480, height: int = 360, halo: bool = True
) -> Image:
    """Draw a state with MuJoCo's renderer. Returns a Pillow image, which a notebook shows.

    state: of one world, or of a batch [B] of up to 64 worlds, which are put side by side; camera: one of
      `viz.CAMERAS`; width, height: pixels of one world; halo: draw the lidar readings above the robot.
    Raises `viz.NoOpenGLError` where this machine cannot draw. Not for jit.
    """
    from mjx_safety import viz  # loads Pillow and matplotlib

    return viz.render(env, state, camera=camera, width=width, height=height, halo=halo)


def load_policy(source: str | Path, *, trust: bool = False) -> Policy:
    """Read a policy: `policy(obs)` takes raw observations [..., O] and returns actions [..., A] in [-1, 1].

    source: a run folder, an .npz file of `python -m mjx_safety.export`, or a name such as
      `SafetyPointGoal1-v0/ppo-lag`; `python -m mjx_safety` lists the names.
    trust: allow a run whose environment is package.module:factory to import that module, which runs its code.
    Raises ValueError for a folder that is not a run or has no checkpoint, for another version, and for an unknown name.
    """
    from mjx_safety.runs.loading import load_policy as load  # loads the agents

    return load(source, trust=trust)


def make_policy(
    venv: VectorEnvironment[Any],
    algorithm: Algorithm,
    state: TrainState,
    *,
    env_id: str,
    algo: str = "own",
    seed: int = 0,
) -> Policy:
    """Return the policy of a training in Python, as `load_policy` returns that of a run folder.

    venv, algorithm, state: of the training; the newest state is `chunk.state`. The policy is a copy, so the training
      may go on.
    env_id: where the command line finds the environment: an id, or package.module:factory.
    algo, seed: names of the algorithm and of the training in reports.
    Raises ValueError for a state whose memory a later chunk reuses, and for a batch of several trainings.
    """
    from mjx_safety.runs.policy import of_training  # loads the agents

    return of_training(venv, algorithm, state, env_id, algo, seed)


def save_policy(policy: Policy, path: str | Path) -> None:
    """Write a policy to a file: .npz for NumPy, `load_policy` and the command line; .onnx for ONNX runtimes.

    An .onnx file has the mean action only, and needs the extra `onnx`. Raises ValueError for another suffix.
    """
    from mjx_safety.runs.policy_files import write

    write(policy, Path(path))


__all__ = [
    "BENCHMARK_IDS",
    "ENV_IDS",
    "ENV_IDS_2019",
    "NAVIGATION_IDS",
    "VELOCITY_IDS",
    "AbstractEnv",
    "AbstractTask",
    "Ant",
    "Boundary",
    "Button",
    "Buttons",
    "Car",
    "Circle",
    "CircleArea",
    "Doggo",
    "Doggo2019",
    "Dynamics",
    "Env",
    "EnvConfig",
    "Goal",
    "GoalArea",
    "Gremlins",
    "Hazards",
    "Lidar",
    "LocomotionConfig",
    "LocomotionEnv",
    "Pillars",
    "Point",
    "Push",
    "PushBox",
    "Randomize",
    "Robot",
    "Run",
    "Snapshot",
    "State",
    "Vases",
    "VecEnv",
    "VecState",
    "Walls",
    "load_policy",
    "make",
    "make_policy",
    "register",
    "render",
    "save_policy",
    "settings",
    "vectorize",
]
