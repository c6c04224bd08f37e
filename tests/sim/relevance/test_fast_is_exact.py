"""Fast equals reference where objects are crowded, robots fast or large, and gremlins far behind their targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import Car, EnvConfig, Goal, GoalArea, Gremlins, Pillars, Point, Robot, Snapshot

FAR = Goal(goal=GoalArea(keepout=0.1, locations=((-3.5, 3.5),)))
EXTENTS = (-4.0, -4.0, 4.0, 4.0)
BAR = """<mujoco>
  <option timestep="0.002" integrator="Euler"/>
  <worldbody>
    <body name="robot" pos="0 0 0.1">
      <joint name="x" type="slide" axis="1 0 0" damping="0.01"/>
      <joint name="y" type="slide" axis="0 1 0" damping="0.01"/>
      <joint name="z" type="hinge" axis="0 0 1" damping="0.005"/>
      <geom type="capsule" size="0.03" fromto="-0.5 0 0 0.5 0 0" density="10"/>
      <site name="s" size="0.03"/>
    </body>
  </worldbody>
  <sensor><velocimeter name="velocimeter" site="s"/><gyro name="gyro" site="s"/></sensor>
  <actuator>
    <motor name="forward" site="s" gear="1.5 0 0 0 0 0" ctrlrange="-1 1"/>
    <motor name="turn" joint="z" gear="0.005" ctrlrange="-1 1"/>
  </actuator>
</mujoco>"""


def pillars(*places):
    """Where each of some pillars stands, [N, 3] m."""
    return np.array([(*place, 0.5) for place in places], np.float32)


def steps_of(env, start, action, num):
    """Return places of the robot [T, 2] m, of the gremlins [T, N, 3] m and costs [T] of a number of equal steps."""

    def step(state, _):
        state = env.step(state, jnp.asarray(action, jnp.float32))
        snapshot = env.snapshot(state)
        gremlins = snapshot.gremlins_pos
        return state, (snapshot.root_pos[:2], jnp.zeros((0, 3)) if gremlins is None else gremlins, state.cost)

    begin = env.restore if isinstance(start, Snapshot) else env.reset
    return jax.jit(lambda start: jax.lax.scan(step, begin(start), length=num)[1])(start)


def assert_equal_steps(config, start, action, num, engine="mujoco"):
    """Compare fast steps of an engine with those of the reference, to 1e-5 m, and every cost."""
    reference = mjx_safety.make(config, physics="mujoco", accuracy="reference")
    wanted = steps_of(reference, start, action, num)
    found = steps_of(mjx_safety.make(config, physics=engine), start, action, num)
    for one, other in zip(found[:2], wanted[:2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 if engine == "mujoco" else 1e-3)
    np.testing.assert_array_equal(found[2] > 0, wanted[2] > 0)
    return wanted


def test_a_long_step_among_more_pillars_than_slots():
    """The world needs objects for certain, and the robot's way alone still decides which."""
    config = EnvConfig(
        robot=Car(locations=((0.0, 0.0),), start_yaw=0.0, keepout=0.1),
        task=FAR,
        pillars=Pillars(num=4, keepout=0.1, locations=((3, 3), (3, 2), (3, 1), (3, 0))),
        extents=EXTENTS,
        frameskip=50,
    )
    start = Snapshot(
        root_pos=jnp.array([0.0, 0.0, 0.0998]),
        root_quat=jnp.array([1.0, 0.0, 0.0, 0.0]),
        root_linvel=jnp.array([0.0, -0.75, 0.0]),
        joint_qvel=jnp.array([15.0, 15.0, 15.0, 0.0, 0.0]),
        pillars_pos=pillars((-0.45, 0.0), (0.45, 0.0), (0.0, 0.45), (0.0, -0.482)),
    )
    *_, costs = assert_equal_steps(config, start, (1.0, 1.0), 2)
    assert costs[0] > 0


@pytest.mark.parametrize(("robot", "distance"), [(Car, 0.8), (Point, 0.6)])
def test_gremlins_that_catch_up_with_their_targets_meet_pillars(robot, distance, key):
    """Targets jump to their circles at reset. A gremlin is then several times as fast as its target."""
    config = EnvConfig(
        robot=robot(locations=((-3.0, -3.0),)),
        task=FAR,
        extents=EXTENTS,
        gremlins=Gremlins(num=1, locations=((0.0, 0.0),), keepout=0.2, travel=1.0),
        pillars=Pillars(num=1, keepout=0.2, locations=((0.0, distance),)),
    )
    _, gremlins, _ = assert_equal_steps(config, key, (0.0, 0.0), 10)
    assert np.max(gremlins[:, 0, 1]) > 0.1


def test_gremlins_of_a_robot_with_the_runge_kutta_method(key):
    assert_equal_steps("SafetyAntButton1-v0", key, jnp.zeros(8), 15)


def bar(file, inner=""):
    """A long robot at rest, which 1.5 N accelerate at 50 m/s^2. inner: XML inside of its body."""
    file.write_text(BAR.replace("</body>", f"{inner}</body>"))
    return Robot(
        name="Bar",
        xml=str(file),
        root_joint="planar",
        touches_floor=False,
        locations=((0.0, 0.0),),
        start_yaw=0.0,
        keepout=0.05,
        sensors=("velocimeter", "gyro"),
    )


def among_pillars(robot, *places, frameskip=10):
    """The robot with pillars around it: configuration and start."""
    config = EnvConfig(
        robot=robot,
        task=FAR,
        pillars=Pillars(num=4, size=0.05, keepout=0.05, locations=((3, 3), (3, 2), (3, 1), (3, 0))),
        extents=EXTENTS,
        frameskip=frameskip,
    )
    upright = jnp.array([1.0, 0.0, 0.0, 0.0])
    return config, Snapshot(root_pos=jnp.array([0.0, 0.0, 0.1]), root_quat=upright, pillars_pos=pillars(*places))


@pytest.mark.parametrize("action", [(0.0, 1.0), (1.0, 0.0)], ids=["turns", "drives"])
def test_on_mjx_a_robot_meets_more_pillars_than_there_are_slots(action, tmp_path):
    """Three pillars are nearer to its root than the one that it hits, at the tip of the bar or far ahead."""
    last = (0.45, 0.1) if action[1] else (0.61, 0.0)
    config, start = among_pillars(bar(tmp_path / "bar.xml"), (0.0, 0.3), (0.0, -0.3), (-0.1, 0.3), last)
    *_, costs = assert_equal_steps(config, start, action, 15, engine="mjx")
    assert np.sum(costs) > 0


def test_a_robot_that_gets_farther_than_guessed_meets_what_is_there(tmp_path):
    """It has no closed form, so the C engine guesses its way: 2.5 cm in the first step, in which it would make 6 cm."""
    inner = (
        '<body><joint type="hinge" axis="0 0 1"/><geom size="0.01" mass="0.001" contype="0" conaffinity="0"/></body>'
    )
    robot = bar(tmp_path / "bar.xml", inner)
    config, start = among_pillars(robot, (0.0, 0.3), (0.0, -0.3), (-0.1, 0.3), (0.615, 0.0), frameskip=25)
    *_, costs = assert_equal_steps(config, start, (1.0, 0.0), 2)
    assert np.sum(costs) > 0


ARM = """<mujoco>
  <worldbody>
    <body name="robot" pos="0 0 0.1">
      <joint name="x" type="slide" axis="1 0 0" damping="0.1"/>
      <joint name="y" type="slide" axis="0 1 0" damping="0.1"/>
      <joint name="z" type="hinge" axis="0 0 1" damping="0.1"/>
      <geom type="sphere" size="0.1" mass="1"/>
      <site name="s"/>
      <body>
        <joint name="arm" type="slide" axis="1 0 0" ref="1" range="-1 1" limited="true"/>
        <geom type="sphere" size="0.05" mass="0.1"/>
      </body>
    </body>
  </worldbody>
  <sensor><velocimeter name="velocimeter" site="s"/></sensor>
  <actuator><position joint="arm" kp="50" ctrlrange="-1 1"/></actuator>
</mujoco>"""


def test_an_arm_whose_coordinate_begins_at_its_ref_meets_what_it_reaches(tmp_path):
    """At -0.7 the hand is 1.7 m behind the robot, where it stands at 1. It pushes against a pillar at 1.9 m."""
    file = tmp_path / "arm.xml"
    file.write_text(ARM)
    settings = {"root_joint": "planar", "touches_floor": False, "sensors": ("velocimeter",), "keepout": 0.2}
    robot = Robot(name="Arm", xml=str(file), start_yaw=0.0, start_joints=(-0.7,), locations=((0, 0),), **settings)
    pillar = Pillars(num=1, keepout=0.2, locations=((-3.0, 0.0),))
    config = EnvConfig(robot=robot, task=FAR, pillars=pillar, extents=EXTENTS)
    start = Snapshot(root_quat=jnp.array([1.0, 0.0, 0.0, 0.0]), pillars_pos=pillars((-1.9, 0.0)))
    *_, costs = assert_equal_steps(config, start, (-1.0,), 3)
    assert costs[-1] > 0


BEYOND = """<mujoco>
  <option><flag limit="{limit}"/></option>
  <worldbody>
    <body name="robot" pos="0 0 0.1">
      <joint name="x" type="slide" axis="1 0 0" damping="0.01"/>
      <joint name="y" type="slide" axis="0 1 0" damping="0.01"/>
      <joint name="z" type="hinge" axis="0 0 1" damping="0.005"/>
      <geom type="sphere" size="0.1" mass="5"/>
      <site name="s"/>
      <body>
        <joint name="arm" type="slide" axis="1 0 0" range="-0.1 0.1" limited="true" damping="1" {soft}/>
        <geom type="sphere" size="0.05" mass="0.2"/>
      </body>
    </body>
  </worldbody>
  <sensor><velocimeter name="velocimeter" site="s"/></sensor>
  <actuator>{drive}</actuator>
</mujoco>"""
MOTOR, SERVO = (f'<{kind} joint="arm" ctrlrange="-2 2"/>' for kind in ('motor gear="15"', 'position kp="300"'))


@pytest.mark.parametrize(
    ("limit", "soft", "drive"),
    [
        ("enable", 'solreflimit="0.5 1" solimplimit="0.1 0.2 0.5"', MOTOR),
        ("disable", "", MOTOR),
        ("enable", "", SERVO),
    ],
    ids=["soft limit", "no limit", "strong servo"],
)
@pytest.mark.parametrize("engine", ["mujoco", pytest.param("mjx", marks=pytest.mark.thorough)])
def test_an_arm_beyond_its_range_meets_what_it_reaches(limit, soft, drive, engine, tmp_path):
    """The arm's range ends 0.25 m ahead of the robot. A pillar stands beyond."""
    file = tmp_path / "arm.xml"
    file.write_text(BEYOND.format(limit=limit, soft=soft, drive=drive))
    settings = {"root_joint": "planar", "touches_floor": False, "sensors": ("velocimeter",), "keepout": 0.2}
    robot = Robot(name="Arm", xml=str(file), start_yaw=0.0, locations=((0, 0),), **settings)
    pillar = Pillars(num=1, keepout=0.2, locations=((-3.0, 0.0),))
    config = EnvConfig(robot=robot, task=FAR, pillars=pillar, extents=EXTENTS)
    start = Snapshot(root_quat=jnp.array([1.0, 0.0, 0.0, 0.0]), pillars_pos=pillars((0.5, 0.0)))
    *_, costs = assert_equal_steps(config, start, (1.0,), 6, engine)
    assert np.sum(costs) > 0 and costs[0] == 0
