"""The first reading of an episode on MJX, which takes no solver where keepouts and sensors allow it."""

import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import EnvConfig, Pillars, Point, PushBox, Robot, Vases
from mjx_safety.sim.scene import build_scene
from mjx_safety.sim.start_sensors import read_at_rest, starts_clear

BALL = """<mujoco>
<worldbody><body name="robot" pos="0 0 0.1"><joint name="x" type="slide" axis="1 0 0" damping="0.1"/>
<joint name="y" type="slide" axis="0 1 0" damping="0.1"/><joint name="z" type="hinge" axis="0 0 1" damping="0.1"/>
<geom type="sphere" size="0.1" mass="1"/><site name="s"/><site name="side" pos="0.1 0 0"/>
<body><joint name="arm" range="-1 1"/><geom type="sphere" size="0.02" pos="0 0 0.05" mass="0.1"/></body>
</body></worldbody>
<actuator><motor name="push" site="s" gear="1 0 0 0 0 0" ctrlrange="-1 1"/>ACTUATOR</actuator>
<sensor><velocimeter name="velocimeter" site="s"/>SENSOR</sensor></mujoco>"""
SPEED = '<velocity joint="z" kv="1" ctrlrange="-1 1"/>'
SERVO = '<position joint="z" kp="5" ctrlrange="-3 3"/>'
ARM_SERVO = '<position joint="arm" kp="5" ctrlrange="-1 1"/>'
EAST = '<motor joint="x" ctrlrange="0.5 1"/>'  # which pushes without a command too
MUSCLE = '<muscle joint="z" ctrlrange="0 1" lengthrange="-1 1"/>'
POSITION, ACCELERATION = '<jointpos name="it" joint="{}"/>', '<accelerometer name="it" site="side"/>'


@pytest.fixture
def ball(tmp_path):
    """Build a robot from its actuators and sensors. It observes the sensor `it`."""

    def build(actuator, sensor, **fields):
        path = tmp_path / "ball.xml"
        path.write_text(BALL.replace("ACTUATOR", actuator).replace("SENSOR", sensor))
        settings = {"root_joint": "planar", "sensors": ("it",), "angle_components": False, "touches_floor": False}
        return Robot(name="Ball", xml=str(path), **settings | fields)

    return build


@pytest.mark.parametrize(
    ("actuator", "sensor", "is_same"),
    [
        (SPEED, POSITION.format("arm"), True),
        (SPEED, POSITION.format("x"), False),
        (SPEED, POSITION.format("z"), False),
        (SPEED, '<jointvel name="it" joint="z"/>', True),
        (SPEED, ACCELERATION, True),
        (ARM_SERVO, ACCELERATION, True),
        (SERVO, ACCELERATION, False),
        (SERVO, '<gyro name="it" site="s"/>', True),
        (EAST, ACCELERATION, False),
        (MUSCLE, ACCELERATION, False),
    ],
)
def test_sensors_that_depend_on_the_place_are_not_measured_at_the_origin(ball, actuator, sensor, is_same):
    scene = build_scene(ball(actuator, sensor), {}, engine="mjx")
    data = types.SimpleNamespace(qpos=jnp.zeros(scene.robot_nq))
    assert (read_at_rest(scene, data) is not None) is is_same  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("actuator", "sensor"), [(SPEED, POSITION.format("z")), (SERVO, ACCELERATION)])
def test_they_begin_as_on_the_c_engine(ball, actuator, sensor):
    robot, key = ball(actuator, sensor), jax.random.key(0)
    found, wanted = (
        mjx_safety.make(EnvConfig(robot=robot), physics=engine).reset(key).obs for engine in ("mjx", "mujoco")
    )
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(wanted[0]) > 0.1 or np.abs(wanted[1]) > 0.1


def test_a_robot_that_starts_in_an_object_touches_it_from_the_start():
    """Keepouts of 0 allow it. Pillars of 0.5 m fill much of the area."""
    pillars = Pillars(num=2, size=0.5, keepout=0.0)
    config = EnvConfig(robot=Point(keepout=0.0, start_yaw=0.0), pillars=pillars, extents=(-0.7, -0.7, 0.7, 0.7))
    keys = jax.random.split(jax.random.key(0), 16)
    found, wanted = (jax.vmap(mjx_safety.make(config, physics=engine).reset)(keys) for engine in ("mjx", "mujoco"))
    np.testing.assert_array_equal(found.cost, wanted.cost)
    assert 0 < jnp.mean(wanted.cost) < 1


@pytest.mark.parametrize(
    ("objects", "is_clear"),
    [
        ({}, True),
        ({"vases": Vases(num=1)}, True),
        ({"vases": Vases(num=1, keepout=0.0)}, False),  # its corners are at 0.141 m, the robot's at 0.158 m
        ({"vases": Vases(num=1, keepout=0.05)}, True),
        ({"pillars": Pillars(num=1), "vases": Vases(num=1, size=1.0)}, False),
        ({"push_box": PushBox()}, True),  # but for its corners
        ({"push_box": PushBox(size=0.3)}, False),
    ],
)
def test_keepouts_tell_whether_it_may_touch_one(objects, is_clear):
    robot = Point(keepout=0.25) if "vases" in objects and "pillars" not in objects else Point()
    assert starts_clear(build_scene(robot, objects, engine="mjx")) is is_clear


def test_all_presets_start_clear():
    """Their first reading takes no solver, so `reset` compiles in little time."""
    for env_id in mjx_safety.ENV_IDS:
        scene = mjx_safety.make(env_id, physics="mujoco").scene
        assert starts_clear(scene)


def test_an_arm_and_its_noise_count():
    """An Ant's legs span 0.16 m as it starts, and up to 0.28 m with noise on its joints."""
    ant = mjx_safety.Ant(keepout=0.0)
    near, far = ({"pillars": Pillars(num=1, size=0.1, keepout=keepout)} for keepout in (0.3, 0.4))
    assert not starts_clear(build_scene(ant, near, engine="mjx"))
    assert starts_clear(build_scene(ant, far, engine="mjx"))
    still = mjx_safety.Ant(keepout=0.0, joint_noise=0.0)
    assert starts_clear(build_scene(still, near, engine="mjx"))


def test_noise_brings_a_slide_beyond_its_range(ball):
    """The arm's range ends 0.01 m ahead, inside of the body. Noise of 0.5 m brings it out."""
    slide = ball(ARM_SERVO, POSITION.format("arm"), keepout=0.1, joint_noise=0.5)
    text = Path(slide.xml).read_text()
    Path(slide.xml).write_text(text.replace('name="arm" range="-1 1"', 'name="arm" type="slide" range="-0.01 0.01"'))
    pillars = {"pillars": Pillars(num=1, size=0.1, keepout=0.25)}
    assert not starts_clear(build_scene(slide, pillars, engine="mjx"))
