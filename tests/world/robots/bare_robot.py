"""A robot alone on the floor, in plain MuJoCo: for tests of models against safety-gymnasium 1.0.0."""

import json
from pathlib import Path

import mujoco
import numpy as np

DATA = Path(__file__).resolve().parents[2] / "data"
FRAMESKIP = 10


class BareRobot:
    """One robot on an endless floor, without objects. Sensors and contacts are those of the present state."""

    def __init__(self, robot):
        spec = mujoco.MjSpec.from_file(robot.xml)
        spec.option.gravity, spec.option.magnetic = [0, 0, -9.81], [0, -0.5, 0]
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3.5, 3.5, 0.1], condim=6, name="floor")
        self.robot = robot
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.restart()

    def restart(self, yaw=0.0):
        """Rest at the start height, heading `yaw` (rad)."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:7] = [0, 0, self.robot.start_height, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        mujoco.mj_forward(self.model, self.data)

    def pose(self, world, row):
        """Take the state of one row of a recording's worlds."""
        get = {name: np.float64(values[row]) for name, values in world.items()}
        mujoco.mj_resetData(self.model, self.data)
        quat = get["root_quat"] / np.linalg.norm(get["root_quat"])
        self.data.qpos[:] = np.concatenate([get["root_pos"], quat, get["joint_qpos"]])
        angvel = mat_from_quat(quat).T @ get["root_angvel"]  # MuJoCo keeps it in the body's frame
        self.data.qvel[:] = np.concatenate([get["root_linvel"], angvel, get["joint_qvel"]])
        self.data.ctrl[:] = get["ctrl"]
        mujoco.mj_forward(self.model, self.data)

    def step(self, action, num_steps=1):
        """Steps of an environment with one action."""
        self.data.ctrl[:] = action
        for _ in range(num_steps * FRAMESKIP):
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)

    def sensor(self, name):
        """Raw values of one sensor."""
        return self.data.sensor(name).data.copy()

    def observe(self, name):
        """One entry of the observation: hinge angles as (sin, cos), ball orientations as 3x3 matrices by rows."""
        value = self.sensor(name)
        if name.startswith("jointpos_"):
            return np.concatenate([np.sin(value), np.cos(value)])
        return mat_from_quat(value).ravel() if name.startswith("ballquat_") else value


class Recording:
    """Worlds of the reference (tests/data/README.md): `static` posed ones; `before`, `action`, `after` of steps."""

    def __init__(self, name):
        with np.load(DATA / f"{name}.npz") as file:
            meta = json.loads(file["meta"].tobytes())
            arrays = {key: file[key] for key in file if key != "meta"}
        self.obs_slices = {name: slice(*span) for name, span in meta["obs_keys"].items()}
        self.static = _below(arrays, "static/")
        self.before = _below(arrays, "transition/")
        self.after = _below(arrays, "transition/next_")
        self.action = self.before["action"]


def mat_from_quat(quat):
    """Rotation matrix [3, 3] of a quaternion (w, x, y, z)."""
    mat = np.zeros(9)
    mujoco.mju_quat2Mat(mat, np.asarray(quat, float))
    return mat.reshape(3, 3)


def worst_errors(robot, recording, world, observe):
    """Largest error of each observed sensor in each world, name -> [rows]. observe(row) brings the robot there."""
    errors = {name: [] for name in robot.robot.sensors}
    for row, obs in enumerate(world["obs"]):
        observe(row)
        for name, rows in errors.items():
            rows.append(np.abs(robot.observe(name) - obs[recording.obs_slices[name]]).max())
    return {name: np.array(rows) for name, rows in errors.items()}


def _below(arrays, prefix):
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
