"""Drive a robot with the keyboard, in MuJoCo's viewer: `python -m mjx_safety.play SafetyPointGoal1-v0`."""

from __future__ import annotations

import copy
import dataclasses
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import mujoco
import numpy as np
import tyro

from mjx_safety.cli import common
from mjx_safety.env.base import AbstractEnv
from mjx_safety.runs import environments, randomizing, run_folder
from mjx_safety.runs.errors import UsageError, check_seed
from mjx_safety.runs.loading import find_file, load_policy
from mjx_safety.runs.policy import Policy
from mjx_safety.types import State
from mjx_safety.viz import frames
from mjx_safety.viz.solids import markers, pose

ENGINE = "mujoco"  # compiles in seconds, and is exact
RIGHT, LEFT, DOWN, UP, ENTER, ESCAPE = 262, 263, 264, 265, 257, 256  # GLFW's key codes
HOLD = 0.4  # s that a key acts after its last event; the viewer reports presses and repeats, but no releases
DISTANCE = 3.5  # m, from the camera to the robot
CLOSING = 5.0  # s that the window may take to close
HELP = "arrow keys: drive\nEnter: a new layout\nEsc: the end"

DriveFn = Callable[[float, float], np.ndarray]  # forward, left in [-1, 1] -> action [A]
DriverFn = Callable[[np.ndarray, float, float], np.ndarray]  # obs [O], forward, left -> action [A]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Drive the robot of an environment with the arrow keys. Enter draws a new layout.

    A policy can drive any robot. The arrow keys take over while they are held.
    """

    env: tyro.conf.Positional[str] = "SafetyPointGoal1-v0"
    """Environment id or package.module:factory with a Point or a Car, or a policy: run folder, file or name."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the environment of a run or a policy that names package.module:factory, which is code."""
    seed: int = 0
    """Seed of all random numbers."""
    halo: bool = True
    """Draw the lidar readings as rings above the robot."""


class Keys:
    """The keys that act: each from its press until `HOLD` s after its last repeat."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def press(self, key: int, now: float) -> None:
        """Record a press or a repeat. now: s."""
        self._last[key] = now

    def take(self, key: int) -> bool:
        """Return whether a key was pressed since the last call."""
        return self._last.pop(key, None) is not None

    def steer(self, now: float) -> tuple[float, float]:
        """Return the arrow keys as (forward, left) in [-1, 1]. Opposite keys cancel."""

        def acts(key: int) -> float:
            return float(now - self._last.get(key, -np.inf) <= HOLD)

        return acts(UP) - acts(DOWN), acts(LEFT) - acts(RIGHT)


@dataclasses.dataclass
class Score:
    """Return, cost and goals so far."""

    episode_return: float = 0.0
    episode_cost: float = 0.0
    goals: int = 0
    steps: int = 0

    def add(self, state: State) -> None:
        """Count one step."""
        self.episode_return += float(state.reward)
        self.episode_cost += float(state.cost)
        self.goals += int(state.goal_met)
        self.steps += 1

    def texts(self, dt: float) -> tuple[str, str]:
        """Names and values for the corner of the window. dt: s, length of a step."""
        rows = {
            "return": f"{self.episode_return:.2f}",
            "cost": f"{self.episode_cost:g}",
            "goals": str(self.goals),
            "time": f"{self.steps * dt:.1f} s",
        }
        return "\n".join(rows), "\n".join(rows.values())


class Stage:
    """The viewer's model and data. Solids without a body go into the user's scene."""

    def __init__(self, env: AbstractEnv, *, halo: bool):
        self.env: AbstractEnv = env
        self._halo = halo
        self.model: mujoco.MjModel = copy.copy(env.scene.true_model)
        frames.furnish(self.model, 1280, 960)
        self.model.vis.headlight.diffuse[:] = 0.55  # the only lamp
        self.data: mujoco.MjData = mujoco.MjData(self.model)
        self._middle, self._num_tiles = np.full(3, np.inf), 0

    def show(self, state: State, scene: mujoco.MjvScene) -> np.ndarray:
        """Show one world. Returns the point to look at [3] m."""
        posed, data = pose(self.model, state), self.data
        data.qpos[:], data.mocap_pos[:], data.mocap_quat[:] = posed.qpos, posed.mocap_pos, posed.mocap_quat
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        mujoco.mj_camlight(self.model, data)
        root = data.body("robot")
        if np.abs(root.xpos - self._middle).max() > 0.2 * frames.TILE * frames.TILES:
            scene.ngeom, self._middle = 0, root.xpos.copy()
            frames.add_tiles(scene, root.xpos)
            self._num_tiles = scene.ngeom
        scene.ngeom = self._num_tiles
        for solid in markers(self.env, state):
            frames.add_geom(scene, solid)
        frames.decorate(scene, self.env, state, root.xpos, root.xmat.reshape(3, 3), halo=self._halo)
        return np.array([*root.xpos[:2], 0.0])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    flags = tyro.cli(Flags, prog="python -m mjx_safety.play", args=list(argv))
    check_seed(flags.seed)
    policy = find_policy(flags.env, flags.trust)
    words = randomizing.words_of(policy.origin) if policy else ()
    env: AbstractEnv = environments.build_env(policy.env_id if policy else flags.env, ENGINE, randomize=words)
    act = driver(env, policy)
    check_display()
    common.set_up_jax(compilation_cache=True)
    keys, stage = Keys(), Stage(env, halo=flags.halo)
    from mujoco import viewer

    def note(key: int) -> None:
        keys.press(key, time.monotonic())

    others = set(threading.enumerate())
    try:
        window = viewer.launch_passive(
            stage.model, stage.data, key_callback=note, show_left_ui=False, show_right_ui=False
        )
    except RuntimeError as error:  # on macOS it must run under mjpython
        raise UsageError(f"MuJoCo's viewer cannot open a window: {error}") from error
    try:
        with window:
            _play(window, stage, act, keys, flags.seed)
    finally:
        for thread in set(threading.enumerate()) - others:  # of the viewer, which crashes if Python ends first
            thread.join(CLOSING)


def find_policy(text: str, trust: bool = False) -> Policy | None:
    """The policy that a text names; None for an environment."""
    try:
        if not find_file(text) and not Path(text).is_dir():
            return None
        policy = load_policy(text, trust=trust)
        run_folder.check_trust(policy.env_id, text, trust)
        return policy
    except ValueError as error:
        raise UsageError(str(error)) from error


def driver(env: AbstractEnv, policy: Policy | None) -> DriverFn:
    """Return the driver: the arrow keys, or a policy. Held keys overrule a policy if they can drive the robot."""
    if policy is None:
        drive = drive_of(env)
        return lambda obs, forward, left: drive(forward, left)
    if policy.obs_size != env.obs_size:
        raise UsageError(f"the policy has obs_size {policy.obs_size}, and {policy.env_id} has {env.obs_size}")
    drive = _DRIVES.get(_actuators(env))
    return lambda obs, forward, left: drive(forward, left) if drive and (forward or left) else policy(obs)


def _actuators(env: AbstractEnv) -> tuple[str, ...]:
    model = env.mj_model
    return tuple(model.actuator(i).name for i in range(model.nu))


def drive_of(env: AbstractEnv) -> DriveFn:
    """Return the map from (forward, left) to an action. Raises UsageError if arrow keys cannot drive the robot."""
    actuators = _actuators(env)
    if actuators not in _DRIVES:
        known = " or ".join(f"({', '.join(names)})" for names in _DRIVES)
        raise UsageError(
            f"the arrow keys cannot drive {env.robot_name}, which has {len(actuators)} actuators; they drive robots"
            f" whose actuators are named {known}, such as Point and Car"
        )
    return _DRIVES[actuators]


def check_display() -> None:
    """Raise UsageError if no window can open. The viewer itself would wait forever."""
    if not sys.platform.startswith("linux"):
        return
    missing = not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if missing or not _can_open_windows():
        reason = "neither DISPLAY nor WAYLAND_DISPLAY is set" if missing else "DISPLAY or WAYLAND_DISPLAY leads nowhere"
        raise UsageError(
            f"there is no display to open a window on ({reason}); run this on a desktop, or look at an episode with"
            " python -m mjx_safety.render ENV --out replay.html"
        )


def _can_open_windows() -> bool:
    import glfw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it also warns on failure
        return bool(glfw.init())


def _play(window: Any, stage: Stage, act: DriverFn, keys: Keys, seed: int) -> None:
    """Step the world in real time until the window closes."""
    env = stage.env
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    key, layout_key = jax.random.split(jax.random.key(seed))
    state, score = reset(layout_key), Score()
    step(state, act(np.asarray(state.obs), 0.0, 0.0))  # compile before the clock starts
    window.cam.azimuth, window.cam.elevation, window.cam.distance = 90.0, -45.0, DISTANCE
    corner, due = mujoco.mjtGridPos, time.monotonic()
    while window.is_running() and not keys.take(ESCAPE):
        if keys.take(ENTER) or bool(state.terminated) or bool(state.truncated):
            key, layout_key = jax.random.split(key)
            state, score = reset(layout_key), Score()
        state = step(state, act(np.asarray(state.obs), *keys.steer(time.monotonic())))
        score.add(state)
        with window.lock():
            window.cam.lookat[:] = stage.show(state, window.user_scn)
        names, values = score.texts(env.dt)
        window.set_texts([(None, corner.mjGRID_TOPLEFT, names, values), (None, corner.mjGRID_BOTTOMLEFT, HELP, "")])
        window.sync()
        due = max(due + env.dt, time.monotonic() - env.dt)  # lost time is not made up
        time.sleep(max(0.0, due - time.monotonic()))


def _drive_point(forward: float, left: float) -> np.ndarray:
    """Forward force, turning rate."""
    return np.array([forward, left], np.float32)


def _drive_car(forward: float, left: float) -> np.ndarray:
    """Torques of the wheels. The car drives towards -y, so its `left` wheel at -x is on the right side."""
    return np.clip(np.array([forward + left, forward - left], np.float32), -1.0, 1.0)


_DRIVES: dict[tuple[str, ...], DriveFn] = {("forward", "turn"): _drive_point, ("left", "right"): _drive_car}
