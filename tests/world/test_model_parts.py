"""Facts of a robot's model that all checks share: names for messages, joints of the root, forces that are affine."""

import mujoco
import pytest

from mjx_safety.world.model_parts import have_affine_forces, part_name, root_joints, wrong_actuators

XML = """<mujoco><worldbody><body name="other"><freejoint/><geom size="0.1"/></body>
<body name="robot"><joint name="x" type="slide" axis="1 0 0"/><joint/><geom size="0.1"/></body></worldbody>
<actuator>{actuators}</actuator></mujoco>"""
MOTOR, SERVO = '<motor name="m" joint="x" ctrlrange="-1 1"/>', '<position joint="x" ctrlrange="-1 1"/>'
MUSCLE = '<muscle joint="x" lengthrange="0 1" ctrlrange="0 1"/>'


def model_of(*actuators):
    return mujoco.MjModel.from_xml_string(XML.format(actuators="".join(actuators)))


def test_a_part_is_named_by_its_name_or_its_number():
    model = model_of(MOTOR, SERVO)
    assert [part_name(model.actuator(index)) for index in range(2)] == ["'m'", "number 1"]


def test_joints_of_the_root_are_those_of_the_robot_alone():
    assert root_joints(model_of(MOTOR)) == [1, 2]


def test_motors_and_servos_have_affine_forces_and_muscles_do_not():
    assert have_affine_forces(model_of(MOTOR, SERVO, MUSCLE)).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("actuators", "problem"),
    [
        ((MOTOR, SERVO), None),
        ((), "has no actuator"),
        ((MOTOR, '<motor joint="x"/>'), "has no ctrlrange for its actuator number 1"),
        (('<general name="g" joint="x" ctrlrange="0 1" gaintype="user"/>',), "has an actuator 'g' of type user"),
    ],
)
def test_an_actuator_that_no_action_can_drive_is_named(actuators, problem):
    found = wrong_actuators(model_of(*actuators))
    assert found is None if problem is None else found.startswith(problem)
