"""Facts about a robot that its file, its start or the observation contradict are refused before anything is built."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import Ant, EnvConfig, Goal, GoalArea, Point, Push, PushBox, Robot, Vases
from mjx_safety.sim.robot_file import read_robot

XML = """<mujoco><compiler angle="radian"/><worldbody><body name="robot" pos="0 0 0.1">
<joint name="x" type="slide" axis="1 0 0"/><joint name="y" type="slide" axis="0 1 0"/>
<joint name="turn" type="hinge" axis="0 0 1"/><geom type="sphere" size="0.1"/><site name="s"/>
<body name="arm" pos="0 0 0.2"><joint name="hip" axis="0 0 1" range="-0.5 1.5707963" limited="true"/>
<body name="hand" pos="0 0 0.2"><joint name="wrist" type="ball" range="0 1" limited="true"/>
<geom size="0.02" pos="0 0 0.1" contype="0" conaffinity="0"/></body>
<geom size="0.02" contype="0" conaffinity="0"/></body></body></worldbody>
<actuator><motor name="turn" joint="turn" gear="0.01" ctrlrange="-1 1"/></actuator>
<sensor><velocimeter name="velocimeter" site="s"/><jointpos name="hip" joint="hip"/>
<framepos name="place" objtype="site" objname="s"/><subtreecom name="centre" body="robot"/>
NAMES</sensor></mujoco>"""
NAMES = ("goal_lidar", "goal_comp", "vases_lidar", "box_lidar", "push_box_lidar", "remaining", "dynamics", "com")


@pytest.fixture
def robot(tmp_path):
    """An arm on wheels, with sensors of many names."""

    def build(**fields):
        path = tmp_path / "arm.xml"
        path.write_text(XML.replace("NAMES", "".join(f'<gyro name="{name}" site="s"/>' for name in NAMES)))
        return Robot(**{"name": "Arm", "xml": str(path), "root_joint": "planar", "sensors": ("velocimeter",)} | fields)

    return build


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_robot_has_a_name(name):
    with pytest.raises(ValueError, match=rf"Robot\.name is {name!r}; it must be a name"):
        Point(name=name)


@pytest.mark.parametrize("sensors", [None, 3, "gyro", ("",), (3,), ({},)])
def test_sensors_are_a_tuple_of_names(sensors):
    with pytest.raises(ValueError, match=r"Robot\.sensors is .*; it must be a tuple of names of sensors"):
        Point(sensors=sensors)


def test_no_sensor_is_observed_twice():
    with pytest.raises(ValueError, match=r"Robot\.sensors is .*; it must be a tuple of names, each only once"):
        Point(sensors=("gyro", "velocimeter", "gyro"))


@pytest.mark.parametrize("heights", [None, "gyro", ({},), {"gyro"}])
def test_heights_are_a_tuple_of_names(heights):
    with pytest.raises(ValueError, match=r"Robot\.heights is .*; it must be a tuple of names among `sensors`"):
        Point(heights=heights)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("goal_lidar", {}),
        ("goal_comp", {"task": Goal(goal=GoalArea(compass=True))}),
        ("vases_lidar", {"vases": Vases(num=1)}),
        ("box_lidar", {"task": Push(), "profile": "2019"}),
        ("push_box_lidar", {"task": Push(), "profile": "2019"}),
        ("push_box_lidar", {"task": Push()}),
        ("remaining", {"extras": ("remaining",)}),
        ("dynamics", {"randomize": {"mass": (0.9, 1.1), "observed": True}}),
    ],
)
def test_a_sensor_has_not_the_name_of_another_entry(robot, name, fields):
    config = EnvConfig(robot=robot(sensors=("velocimeter", name)), **fields)
    with pytest.raises(ValueError, match=rf"robot Arm has a sensor named '{name}', as another entry of the obs"):
        mjx_safety.make(config, physics="mujoco")


def test_names_that_no_other_entry_has_are_free(robot):
    unseen = Push(goal=GoalArea(observed=False), push_box=PushBox(observed=False))
    env = mjx_safety.make(EnvConfig(robot=robot(sensors=NAMES), task=unseen), physics="mujoco")
    assert env.entry_sizes == dict.fromkeys(NAMES, 3) and env.obs_size == 24


# -- heights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sensor", "kind"), [("velocimeter", "velocimeter"), ("hip", "jointpos")])
def test_only_a_position_has_a_height(robot, sensor, kind):
    with pytest.raises(ValueError, match=rf"robot Arm has a sensor '{sensor}' of type {kind} among heights"):
        read_robot(robot(sensors=("velocimeter", "hip"), heights=(sensor,)))


@pytest.mark.parametrize("sensor", ["place", "centre"])
def test_positions_have_heights(robot, sensor):
    read_robot(robot(sensors=(sensor,), heights=(sensor,)))


# -- the start ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lowest", [0.1, 1.0, jnp.array([0.05, 0.2])])
def test_an_episode_does_not_end_where_it_starts(lowest):
    with pytest.raises(ValueError, match=r"Robot\.lowest is .*; it must be below start_height, which is 0\.1 m"):
        Point(lowest=lowest)


@pytest.mark.parametrize("lowest", [None, 0.0, -1.0, 0.099, np.float32(0.05), jnp.array([0.05, 0.02])])
def test_lowest_may_be_any_height_below_the_start(lowest):
    assert Point(lowest=lowest).num == 1


def test_lowest_may_be_traced():
    assert jax.jit(lambda lowest: 2 * Ant(lowest=lowest).lowest)(0.05) == pytest.approx(0.1)


HALF = (np.cos(0.6), np.sin(0.6), 0.0, 0.0)  # a turn by 1.2 rad


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        ((1.6, 1, 0, 0, 0), r"joint 'hip' to \[-0\.5, 1\.5708\]; start_joints puts it at 1\.6"),
        ((-9, 1, 0, 0, 0), r"joint 'hip' to \[-0\.5, 1\.5708\]; start_joints puts it at -9"),
        ((0, *HALF), r"joint 'wrist' to \[0, 1\]; start_joints puts it at 1\.2"),
        ((0, *(-value for value in HALF)), r"joint 'wrist' to \[0, 1\]; start_joints puts it at 1\.2"),
        ((0, 0, 0, 3, 0), r"joint 'wrist' to \[0, 1\]; start_joints puts it at 3\.14159"),
    ],
)
def test_joints_start_within_their_ranges(robot, pose, words):
    with pytest.raises(ValueError, match=rf"robot Arm limits its {words}"):
        read_robot(robot(start_joints=pose))


@pytest.mark.parametrize("pose", [(1.5707963, 5, 0, 0, 0), (-0.5, np.cos(0.5), 0, np.sin(0.5), 0), (0, 0, 0, 0, 0)])
def test_joints_may_start_at_the_ends_of_their_ranges(robot, pose):
    read_robot(robot(start_joints=pose))


def test_the_first_joints_of_a_free_robot_are_its_own():
    read_robot(Ant())
    with pytest.raises(ValueError, match=r"robot Ant limits its joint 'hip_1' to \[-0\.7, 0\.7\].* at 0\.8"):
        read_robot(Ant(start_joints=(0.8, *Ant().start_joints[1:])))
