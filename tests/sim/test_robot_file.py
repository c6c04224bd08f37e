"""What a robot's file may change: its robot, never the floor, the objects and their welds."""

import re

import mujoco
import numpy as np
import pytest

from mjx_safety import Gremlins, Pillars, PushBox, Robot, Vases, Walls
from mjx_safety.sim.model import Engine, build_model, digest
from mjx_safety.sim.robot_file import fitting

OBJECTS = {
    "vases": Vases(num=1),
    "push_box": PushBox(),
    "gremlins": Gremlins(num=1),
    "pillars": Pillars(num=1),
    "walls": Walls(num=1),
}
ROOTS = {
    "planar": "<joint type='slide' axis='1 0 0'/><joint type='slide' axis='0 1 0'/><joint type='hinge' axis='0 0 1'/>",
    "free": "<freejoint/>",
}
BODY = "<body name='robot' pos='0 0 0.1'>"
XML = """<mujoco>
<worldbody><body name='robot' pos='0 0 0.1'>ROOT
<geom name='hull' type='capsule' size='0.1' fromto='-0.1 0 0 0.1 0 0' density='1'/><site name='s'/>
<body><joint name='hip' axis='0 0 1'/><geom type='capsule' size='0.05' fromto='0 0 0.1 0.1 0 0.1' density='1'/></body>
</body></worldbody>
<actuator><motor site='s' ctrlrange='-1 1'/></actuator>
<sensor><gyro name='gyro' site='s'/></sensor>
</mujoco>"""
DEFAULTS = {
    "inertia": "<geom shellinertia='true'/>",
    "mass": "<geom mass='3'/>",
    "density": "<geom density='9'/>",
    "quat": "<geom quat='.7071 0 .7071 0'/>",
    "euler": "<geom euler='0 90 0'/>",
    "ends": "<geom type='capsule' size='0.1' fromto='0 0 0 0 0 1'/>",
    "size": "<geom type='capsule' size='0.3 0.3 0.3'/>",
    "touch": "<geom contype='3' conaffinity='5' priority='2' condim='1' friction='0.1 0.2 0.3'/>",
    "contact": "<geom solref='0.5 1' solimp='0.1 0.2 0.3' solmix='5'/>",
    "belt": "<geom surfacevel='1 0 0 0 0 0'/>",
    "group": "<geom group='3'/>",
    "fluid": "<geom fluidshape='ellipsoid'/>",
    "joint": "<joint damping='9' armature='2' frictionloss='3'/>",
    "inactive weld": "<equality active='false'/>",
    "soft weld": "<equality solimp='0.1 0.2 0.01' solref='0.5 1'/>",
    "class": "<default class='b'><geom shellinertia='true' quat='.7071 0 .7071 0'/></default>",
}
FILES = {  # what else the file may say about all of it
    "aligned": "<compiler alignfree='true'/>",
    "fused": "<compiler fusestatic='true' discardvisual='true'/>",
    "angles": "<compiler angle='radian' eulerseq='zyx' inertiafromgeom='true' inertiagrouprange='0 5'/>",
    "memory": "<size memory='1K'/>",
    "more memory": "<size memory='30K'/>",
    "contacts": "<size njmax='1' nconmax='1'/>",
} | {name: f"<default>{text}</default>" for name, text in DEFAULTS.items()}
CELLS = ("id", "adr", "num", "rownnz", "colind")  # endings of fields that count the robot's parts too


@pytest.fixture
def build(tmp_path):
    """Build the model of a file among objects."""

    def build_text(text, root="planar", *, engine: Engine = "mujoco", **fields):
        path = tmp_path / "thing.xml"
        path.write_text(text.replace("ROOT", ROOTS[root]))
        settings = {"root_joint": root, "touches_floor": root == "free", "sensors": ("gyro",)} | fields
        robot = Robot(name="Thing", xml=str(path), **settings)
        return build_model(robot, OBJECTS, engine=engine)

    return build_text


def beginning(text):
    """The file with some lines at its beginning."""
    return XML.replace("<mujoco>", f"<mujoco>{text}")


def of_objects(model):
    """All that a model says about bodies, geoms, joints and welds outside of the robot."""
    robot = model.body("robot").id
    of_body = model.body_rootid != robot
    of_body[0] = False  # its mass is that of everything
    rows = {
        "body": of_body,
        "geom": model.body_rootid[model.geom_bodyid] != robot,
        "jnt": of_body[model.jnt_bodyid],
        "dof": of_body[model.dof_bodyid],
        "eq": np.ones(model.neq, bool),
    }
    names = [name for name in dir(model) if name.split("_")[0] in rows and "_" in name and not name.endswith(CELLS)]
    values = {name: getattr(model, name)[rows[name.split("_")[0]]] for name in names}
    values["qpos0"] = model.qpos0[model.jnt_qposadr[rows["jnt"]][0] :]
    floor = model.geom("floor").id
    values["geom_rgba"] = model.geom_rgba[rows["geom"] & (np.arange(model.ngeom) != floor)]
    return values


@pytest.mark.parametrize("engine", ["mujoco", "mjx", "warp"])
@pytest.mark.parametrize("root", ["planar", "free"])
def test_a_file_does_not_change_the_objects(build, engine, root):
    plain = of_objects(build(XML, root, engine=engine))
    assert {"body_mass", "body_inertia", "geom_quat", "eq_active0", "eq_solimp", "dof_damping"} <= set(plain)
    for name, text in FILES.items():
        own = of_objects(build(beginning(text), root, engine=engine))
        for field, value in plain.items():
            np.testing.assert_array_equal(own[field], value, err_msg=f"{name}: {field}")


@pytest.mark.parametrize("default", DEFAULTS)
def test_the_objects_are_as_their_settings_say(build, default):
    model = build(beginning(f"<default>{DEFAULTS[default]}</default>"))
    mass = 0.2**3 * 0.001  # kg, of a cube with an edge of 0.2 m
    np.testing.assert_allclose(model.body("vases0").mass, mass)
    np.testing.assert_allclose(model.body("vases0").inertia, mass * 0.2**2 / 6)
    np.testing.assert_array_equal(model.geom("floor").quat, [1, 0, 0, 0])
    np.testing.assert_array_equal(model.geom("floor").pos, 0)
    np.testing.assert_array_equal(model.geom("floor").friction, [1, 0.005, 0.0001])
    np.testing.assert_array_equal(model.eq_active0, 1)
    np.testing.assert_array_equal(model.eq_solimp, [[0.9, 0.95, 0.001, 0.5, 2]])


def test_a_default_place_is_not_that_of_the_floor(build):
    text = beginning("<default><geom pos='0 0 2'/></default>")
    text = re.sub("type='capsule' (size='[^']*') fromto='[^']*'", r"\1 pos='0 0 0'", text)
    model = build(text)
    np.testing.assert_array_equal(model.geom("floor").pos, 0)
    np.testing.assert_array_equal(model.geom_pos[model.body("vases0").geomadr], 0)


def test_defaults_still_shape_the_robot(build):
    text = beginning("<default><geom shellinertia='true' friction='0.3'/><joint damping='9'/></default>")
    model = build(text, "free")
    hull, hip = model.geom("hull"), model.joint("hip")
    assert hull.friction[0] == 0.3
    np.testing.assert_array_equal(model.dof_damping[hip.dofadr], 9)
    np.testing.assert_allclose(model.body("robot").mass, 0.08 * np.pi, rtol=1e-6)  # a shell of 1 kg/m^2


@pytest.mark.parametrize("text", ["<equality active='false'/>", "<equality solimp='0.1 0.2 0.01'/>"])
def test_gremlins_hover_whatever_the_file_says(build, text):
    """0.1 m above their start, less 0.6 mm.

    There the weld's impedance d is 0.934, and its pull d k gap balances the gravity that it leaves, (1 - d) / d g. Its
    stiffness k is 1 / (0.95 * 0.02 s * 1.5)^2.
    """
    model = build(beginning(f"<default>{text}</default>"))
    data = mujoco.MjData(model)
    data.mocap_pos[0] = [2, 2, 0.2]
    data.qpos[model.joint(model.body("gremlins0").jntadr[0]).qposadr[0] :][:3] = [2, 2, 0.1]
    mujoco.mj_step(model, data, 2000)
    np.testing.assert_allclose(data.body("gremlins0").xpos, [2, 2, 0.1994], atol=1e-5)


SWITCHES = {
    "boundmass": "0.1",
    "boundinertia": "0.01",
    "settotalmass": "5",
    "balanceinertia": "true",
    "inertiafromgeom": "false",
    "inertiagrouprange": "0 2",
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_switches_for_all_bodies_are_refused_by_name(build, switch):
    with pytest.raises(ValueError, match=rf"thing\.xml of robot Thing sets <compiler {switch}>, which would change"):
        build(beginning(f"<compiler {switch}='{SWITCHES[switch]}'/>"))


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("memory", ["1K", "30K"])
def test_the_memory_is_that_of_the_scene(build, root, memory):
    assert digest(build(beginning(f"<size memory='{memory}'/>"), root)) == digest(build(XML, root))


def test_a_fatal_error_names_the_file():
    robot = Robot(name="Thing", xml=__file__, root_joint="planar")
    with pytest.raises(ValueError, match="of robot Thing does not fit into the scene: out of memory"), fitting(robot):
        raise mujoco.FatalError("out of memory")


# -- the start ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("turn", ["euler='90 0 0'", "euler='0 0 1'", "quat='0.99999 0 0.0045 0'"])
def test_a_turned_body_is_refused(build, root, turn):
    with pytest.raises(ValueError, match="has its body 'robot' turned, but layouts place it upright"):
        build(XML.replace(BODY, BODY.replace(">", f" {turn}>")), root)


LONE = re.sub(r"<body><joint name='hip'.*\n", "<geom size='0.02' pos='0.05 0 0.1' density='9'/>", XML)
ALIGNED = {
    "align at its free joint": LONE.replace("ROOT", "<freejoint align='true'/>"),
    "<compiler alignfree>": LONE.replace("<mujoco>", "<mujoco><compiler alignfree='true'/>"),
}


@pytest.mark.parametrize("cause", ALIGNED)
def test_a_free_joint_that_moves_the_origin_is_refused(build, cause):
    """A layout places the origin of the body, at `start_height`."""
    with pytest.raises(ValueError, match=f"sets {cause}, which moves the origin of its body 'robot'"):
        build(ALIGNED[cause], "free")


@pytest.mark.parametrize("align", ["auto", "false", "true"])
def test_a_free_joint_whose_origin_stays_is_as_without_align(build, align):
    """An aligned one stays if the body has a child, or is symmetric."""
    root = f"<freejoint align='{align}'/>"
    assert digest(build(XML.replace("ROOT", root), "free")) == digest(build(XML, "free"))
    ball = LONE.replace("type='capsule' size='0.1' fromto='-0.1 0 0 0.1 0 0'", "size='0.1'")
    ball = ball.replace("0.05 0 0.1", "0 0 0")
    assert digest(build(ball.replace("ROOT", root), "free")) == digest(build(ball, "free"))
    if align != "true":
        assert digest(build(LONE.replace("ROOT", root), "free")) == digest(build(LONE, "free"))


def test_a_quaternion_and_its_negative_are_the_same_pose(build):
    assert build(XML.replace(BODY, BODY.replace(">", " quat='-1 0 0 0'>")), "free").nbody


@pytest.mark.parametrize(("height", "deep"), [(0.02, "0.08"), (0.0, "0.1"), (0.098, "0.002")])
def test_a_free_robot_that_starts_in_the_floor_is_refused(build, height, deep):
    with pytest.raises(ValueError, match=rf"of robot Thing starts {deep} m in the floor: raise start_height"):
        build(XML, "free", start_height=height)


@pytest.mark.parametrize("height", [0.0995, 0.1, 0.3])
def test_a_free_robot_that_starts_on_or_above_the_floor_is_not(build, height):
    """The height in the file plays no part."""
    assert build(XML.replace("0 0 0.1", "0 0 0"), "free", start_height=height).nbody


def test_a_planar_robot_that_touches_the_floor_must_not_lie_in_it(build):
    text = XML.replace("size='0.1'", "size='0.12'")
    with pytest.raises(ValueError, match=r"starts 0\.02 m in the floor: raise start_height"):
        build(text, touches_floor=True)
    with pytest.raises(ValueError, match=r"lies 0\.02 m in the floor, but touches_floor is False"):
        build(text)


ARM = "<body><joint axis='0 1 0'/><geom type='sphere' size='0.02' density='1' pos='0.2 0 0'/></body>"


@pytest.mark.parametrize(("angle", "deep"), [(0.0, None), (-0.3, None), (1.0, "0.088")])
def test_the_start_counts_with_its_joints(build, angle, deep):
    """The hand is 0.2 m long and turns about y: at 1 rad its middle is 0.168 m lower, so 0.068 + 0.02 m deep."""
    text = XML.replace("</body>\n</body>", f"</body>{ARM}</body>")
    fields = {"root": "free", "start_joints": (0.0, angle)}
    if deep is None:
        assert build(text, **fields).nbody
        return
    with pytest.raises(ValueError, match=rf"starts {deep} m in the floor"):
        build(text, **fields)


SLIDES = {  # joints of a ball of 0.05 m whose centre stands 0.1 m above the floor
    "a rail down to the floor": ("<joint type='slide' axis='0 0 1' range='-0.3 0' limited='true'/>", True),
    "a rail that ends above it": ("<joint type='slide' axis='0 0 1' range='-0.04 1' limited='true'/>", False),
    "a rail that begins at its ref": ("<joint type='slide' axis='0 0 1' ref='1' range='0.9 1' limited='true'/>", True),
    "an endless rail": ("<joint type='slide' axis='0 0 1'/>", True),
    "an endless level rail": ("<joint type='slide' axis='1 0 0'/>", False),
    "a level rail on a tilting arm": ("<joint axis='0 1 0' range='-5 5'/><joint type='slide' axis='1 0 0'/>", True),
    "a ball joint": ("<joint type='ball' pos='0.2 0 0'/>", True),
    "a stiff ball joint": ("<joint type='ball' pos='0.2 0 0' range='0 10' limited='true'/>", False),
}


@pytest.mark.parametrize("name", SLIDES)
def test_a_robot_that_any_joint_can_press_on_the_floor_touches_it(build, name):
    joints, is_deep = SLIDES[name]
    hand = f"<body>{joints}<geom type='sphere' size='0.05' density='1'/></body>"
    text = XML.replace("</body>\n</body>", f"</body>{hand}</body>")
    if not is_deep:
        assert build(text).nbody
        return
    with pytest.raises(ValueError, match=r"m into the floor, but touches_floor is False"):
        build(text)
