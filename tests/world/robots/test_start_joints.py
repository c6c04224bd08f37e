"""The pose of the inner joints at reset: as many coordinates as the robot has, and quaternions of length 1."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import mjx_safety
from mjx_safety import Ant, Doggo, EnvConfig, Point, Robot

ARM = """<mujoco><option timestep="0.002"/>
<worldbody><body name="robot" pos="0 0 0.1">
<joint name="x" type="slide" axis="1 0 0"/><joint name="y" type="slide" axis="0 1 0"/>
<joint name="turn" type="hinge" axis="0 0 1"/><geom type="sphere" size="0.1"/>
<body name="arm" pos="0 0 0.2"><joint name="rail" type="slide" axis="0 0 1"/>
<body name="hand" pos="0 0 0.2"><joint name="wrist" type="ball"/>
<geom size="0.02" pos="0 0 0.1" contype="0" conaffinity="0"/></body>
<geom size="0.02" contype="0" conaffinity="0"/></body></body></worldbody>
<actuator><motor name="turn" joint="turn" gear="0.01" ctrlrange="-1 1"/></actuator></mujoco>"""


def build(robot):
    return mjx_safety.make(EnvConfig(robot=robot), physics="mujoco")


@pytest.fixture
def arm(tmp_path):
    (tmp_path / "arm.xml").write_text(ARM)
    return Robot(name="Arm", xml=str(tmp_path / "arm.xml"), root_joint="planar", sensors=())


@pytest.mark.parametrize(
    ("robot", "needed"),
    [
        (replace(Doggo(), start_joints=(0.1,) * 11), 13),
        (Ant(start_joints=(0.1,) * 9), 8),
        (Point(start_joints=(0.5,)), 0),
    ],
)
def test_another_number_of_start_joints_is_refused_at_make(robot, needed):
    with pytest.raises(ValueError, match=rf"robot {robot.name} .*\b{needed}\b.*start_joints") as error:
        build(robot)
    assert len(str(error.value)) < 250 and "\n" not in str(error.value)


@pytest.mark.parametrize("value", [0.5, "0.5", ("x",), (float("inf"),)])
def test_start_joints_are_numbers(value):
    with pytest.raises(ValueError, match=r"Robot\.start_joints is .*; it must be a tuple of finite numbers"):
        Point(start_joints=value)


def test_quaternions_of_ball_joints_get_length_1(arm):
    given = replace(arm, start_joints=(0.05, 0.0, 3.0, 0.0, 4.0))
    state = build(given).reset(jax.random.key(0))
    np.testing.assert_allclose(state.data.qpos[3:8], [0.05, 0.0, 0.6, 0.0, 0.8], atol=1e-6)
    nothing = build(replace(arm, start_joints=(0.05, 0.0, 0.0, 0.0, 0.0))).reset(jax.random.key(0))
    np.testing.assert_array_equal(nothing.data.qpos[4:8], [1, 0, 0, 0])


def test_noisy_quaternions_get_length_1(arm):
    env = build(replace(arm, joint_noise=0.5))
    qpos = np.asarray(jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 16)).data.qpos)
    np.testing.assert_allclose(np.linalg.norm(qpos[:, 4:8], axis=-1), 1.0, atol=1e-6)
    assert np.all(np.ptp(qpos[:, 3:8], axis=0) > 0.05) and np.all(np.abs(qpos[:, 3]) <= 0.5)
