"""Robots of a user's own: what does not make one is refused where the model is built, by name."""

from pathlib import Path

import pytest

import mjx_safety
from mjx_safety import Car, EnvConfig, Point

POINT_XML = Path(Point().xml).read_text()
UNLIMITED = POINT_XML.replace('ctrllimited="true" ctrlrange="-1 1"', "")


def build(robot):
    return mjx_safety.make(EnvConfig(robot=robot), physics="mujoco")


@pytest.fixture
def model(tmp_path):
    """Write an MJCF file."""

    def write(text):
        path = tmp_path / "thing.xml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("sensors, words", [(("gyro", "sonar"), "sensor named 'sonar'"), ("gyro", "sensors")])
def test_a_robot_without_the_sensors_it_names_is_refused(sensors, words):
    with pytest.raises(ValueError, match="(?i)robot.*" + words):
        build(Point(sensors=sensors))


def test_a_robot_without_a_body_named_robot_is_refused(model):
    xml = model("<mujoco><worldbody><body name='thing'><geom size='1'/></body></worldbody></mujoco>")
    with pytest.raises(ValueError, match=r"thing\.xml of robot Point has no body named 'robot'"):
        build(Point(xml=xml))


@pytest.mark.parametrize("robot", [Car(root_joint="planar"), Point(root_joint="free")])
def test_a_robot_without_the_root_joint_it_names_is_refused(robot):
    with pytest.raises(ValueError, match=f"(?i)robot {robot.name}.*{robot.root_joint}"):
        build(robot)


def test_a_robot_whose_actuators_have_no_range_is_refused(model):
    """Clipped to no range at all, it would never move."""
    with pytest.raises(ValueError, match=r"(?i)robot Point.*forward"):
        build(Point(xml=model(UNLIMITED)))
