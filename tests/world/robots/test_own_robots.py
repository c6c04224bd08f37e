"""Robots of a user's own: what does not make one is refused where the model is built, by name."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import Car, EnvConfig, Pillars, Point, Robot, Vases

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


def test_a_root_that_mujoco_fuses_with_the_world_is_refused(tmp_path):
    """As that of a URDF is, which has no joint of its own."""
    path = tmp_path / "thing.urdf"
    path.write_text("<robot name='thing'><link name='robot'/></robot>")
    with pytest.raises(ValueError, match=r"thing\.urdf of robot Point has a body 'robot' without joints, which MuJoCo"):
        build(Point(xml=str(path)))


@pytest.mark.parametrize("robot", [Car(root_joint="planar"), Point(root_joint="free")])
def test_a_robot_without_the_root_joint_it_names_is_refused(robot):
    with pytest.raises(ValueError, match=f"(?i)robot {robot.name}.*{robot.root_joint}"):
        build(robot)


def test_a_robot_whose_actuators_have_no_range_is_refused(model):
    """Clipped to no range at all, it would never move."""
    with pytest.raises(ValueError, match=r"(?i)robot Point.*forward"):
        build(Point(xml=model(UNLIMITED)))


def test_a_sensor_with_the_name_of_an_extra(model):
    """It is an entry of the observation like any other, but not beside the extra."""
    sensor = '<sensor><framepos name="com" objtype="site" objname="robot"/>'
    robot = Point(xml=model(POINT_XML.replace("<sensor>", sensor)), sensors=("velocimeter", "com"))
    env = build(robot)
    state = env.step(env.reset(jax.random.key(0)), jnp.zeros(2))
    np.testing.assert_allclose(state.obs[env.obs_slices["com"]][:2], env.snapshot(state).root_pos[:2], atol=0.2)
    with pytest.raises(ValueError, match=r"Point.* has a sensor named 'com', as that of extras 'com' is; rename it"):
        mjx_safety.make(EnvConfig(robot=robot, extras=("com",)), physics="mujoco")


# -- a robot of its own ------------------------------------------------------------------------------------------------

XML = """<mujoco><option timestep="0.002"/>
<worldbody><body name="robot" pos="0 0 0.1">
<joint name="x" type="slide" axis="1 0 0" damping="0.01"/><joint name="y" type="slide" axis="0 1 0" damping="0.01"/>
<joint name="z" type="hinge" axis="0 0 1" damping="0.005"/>
<geom name="ball" type="sphere" size="0.1" density="1"/><site name="s"/></body></worldbody>
<actuator><motor name="forward" site="s" gear="0.01 0 0 0 0 0" ctrlrange="-1 1"/>
<motor name="turn" joint="z" gear="0.01" ctrlrange="-1 1"/></actuator>
<sensor><velocimeter name="velocimeter" site="s"/></sensor></mujoco>"""
LAGGING = ("<motor", '<general dyntype="filter" dynprm="0.2"')


def ball(xml, **fields):
    settings = {"root_joint": "planar", "touches_floor": False, "sensors": ("velocimeter",)} | fields
    return Robot(name="Ball", xml=xml, **settings)


def with_body(text):
    return ("<worldbody>", f"<worldbody>{text}")


def in_robot(text):
    return ('<site name="s"/>', f'<site name="s"/>{text}')


def before_sensors(text):
    return ("<sensor>", f"{text}<sensor>")


LIMB = '<body name="limb"><joint name="hip"/><geom name="leg" size="0.05" pos="0 0 0.1" density="1"/></body>'
MESSAGES = {
    # bodies and joints
    "no body named 'robot'": ('body name="robot"', 'body name="thing"'),
    "joints at its body 'fan' outside": with_body('<body name="fan"><joint/><geom size=".1"/></body>'),
    "a mocap body 'target'": with_body('<body name="target" mocap="true"><geom size=".1" contype="0"/></body>'),
    "inside another": (
        '<body name="robot" pos="0 0 0.1">',
        '<body name="outer"><body name="robot" pos="0 0 0.1">',
        "</body></worldbody>",
        "</body></body></worldbody>",
    ),
    "other axes than slide x": ('axis="1 0 0"', 'axis="1 1 0"'),
    "ref, pos or range": ('name="x"', 'name="x" ref="1"'),
    "ref, pos or range at": ('name="x"', 'name="x" range="-1 1" limited="true"'),
    "at pos": ('pos="0 0 0.1"', 'pos="1 0 0.1"'),
    "'robot' turned": ('pos="0 0 0.1"', 'pos="0 0 0.1" euler="0 0 90"'),
    "start_height is 0.1 m": ('pos="0 0 0.1"', 'pos="0 0 0.3"'),
    "in the floor, but touches_floor is False": ('size="0.1"', 'size="0.15"'),
    "m into the floor, but touches_floor is False": in_robot(
        '<body name="arm"><joint axis="0 1 0"/><geom type="capsule" size=".02" fromto=".1 0 0 .3 0 0"/></body>'
    ),
    # geoms
    "a solid geom 'fence' outside": with_body('<geom name="fence" type="box" size="1 .1 .1"/>'),
    "a solid geom 'floor' outside": with_body('<geom name="floor" type="plane" size="1 1 .1"/>'),
    "geom 'ball' that cannot touch": ('name="ball"', 'name="ball" contype="2" conaffinity="2"'),
    "margin or gap at its geom 'ball'": ('name="ball"', 'name="ball" margin="0.01"'),
    "does not fit into the scene": in_robot(
        '<body name="vases0"><geom size=".01" contype="0" conaffinity="0"/></body>'
    ),
    # ties
    "to the world by its equality 'rope'": (
        "<sensor>",
        '<equality><connect name="rope" body1="robot" anchor="0 0 0"/></equality><sensor>',
    ),
    "to the world by its equality 'rail'": before_sensors(
        '<equality><joint name="rail" joint1="x" polycoef="0 0 0 0 0"/></equality>'
    ),
    "to the world by its equality 'gear'": (
        *in_robot(LIMB),
        *before_sensors('<equality><joint name="gear" joint1="hip" joint2="z"/></equality>'),
    ),
    "to the world by its equality number 0": before_sensors(
        '<equality><joint joint1="x" joint2="y" active="false"/></equality>'
    ),
    "by a tendon": before_sensors('<tendon><fixed stiffness="1"><joint joint="x" coef="1"/></fixed></tendon>'),
    "by stiffness or springref": ('name="x"', 'name="x" stiffness="5"'),
    "stiffness or springref at": ('name="x"', 'name="x" stiffness="0 0 5"'),
    "springref at its root joints": ('name="z"', 'name="z" springref="1"'),
    "with springyield, whose rest length": in_robot(LIMB.replace("/>", ' stiffness="1" springyield="0.1"/>', 1)),
    "to the world by a tendon": (
        "<worldbody>",
        '<worldbody><site name="hook" pos="0 0 1"/>',
        "<sensor>",
        '<tendon><spatial><site site="hook"/><site site="s"/></spatial></tendon><sensor>',
    ),
    # actuators and sensors
    "no actuator": (
        '<motor name="forward" site="s" gear="0.01 0 0 0 0 0" ctrlrange="-1 1"/>',
        "",
        '<motor name="turn" joint="z" gear="0.01" ctrlrange="-1 1"/>',
        "",
    ),
    "a ctrlrange beyond 1e+10 at its actuator 'forward'": ('ctrlrange="-1 1"/>\n', 'ctrlrange="0 1e30"/>\n'),
    "actuator 'forward' of type user": ("<motor", '<general dyntype="user" actdim="1"'),
    "an actuator 'forward' with 2 controls; each": (
        '<motor name="forward" site="s" gear="0.01 0 0 0 0 0" ctrlrange="-1 1"/>',
        '<pid name="forward" joint="x" kp="1" input="pos vel" ctrlrange="-1 1"/>',
    ),
    "an actuator 'drive' with 0 controls; each": (
        "<actuator>",
        '<actuator><dcmotor name="drive" joint="x" motorconst="0.1" resistance="1" input="none"/>',
    ),
    "a delay at its actuator 'forward'": ("<motor", '<motor delay="0.01" nsample="8"'),
    "'eye' of type rangefinder": ("</sensor>", '<rangefinder name="eye" site="s"/></sensor>'),
    "'energy' of type e_kinetic": ("</sensor>", '<e_kinetic name="energy"/></sensor>'),
    "'far' at a site outside of the body 'robot', which does not": (
        *with_body('<site name="post" pos="1 0 0" size="2"/>'),
        *("</sensor>", '<touch name="far" site="post"/></sensor>'),
    ),
    "'north' at a site outside of": (
        *with_body('<site name="post"/>'),
        *("</sensor>", '<magnetometer name="north" site="post"/></sensor>'),
    ),
    "'all' of a subtree": ("</sensor>", '<subtreecom name="all" body="world"/></sensor>'),
    # options
    "<option timestep> to 0; it must be": ('timestep="0.002"/>', 'timestep="0"/>'),
    "<option timestep> to -0.002; it must be": ('timestep="0.002"/>', 'timestep="-0.002"/>'),
    "<option integrator> to discrete, which": ("<option", '<option integrator="discrete"'),
    "<option tolerance> above 1e-06": (
        'timestep="0.002"/>',
        'timestep="0.002" tolerance="1e-3"><flag island="disable"/></option>',
    ),
    "<option gravity>": ("<option", '<option gravity="0 0 -1"'),
    "<option wind>": ("<option", '<option wind="1 0 0"'),
    "<option noslip_iterations>": ("<option", '<option noslip_iterations="3"'),
    "<numeric max_contact_points>": before_sensors('<custom><numeric name="max_contact_points" data="1"/></custom>'),
    "its actuators would never act": (
        'timestep="0.002"/>',
        'timestep="0.002"><flag actuation="disable"/></option>',
    ),
    "<flag refsafe>": ('timestep="0.002"/>', 'timestep="0.002"><flag refsafe="disable"/></option>'),
    "<flag diagexact>": ('timestep="0.002"/>', 'timestep="0.002"><flag diagexact="enable"/></option>'),
    "<flag speculative>": ('timestep="0.002"/>', 'timestep="0.002"><flag speculative="enable"/></option>'),
    "<flag contact>": ('timestep="0.002"/>', 'timestep="0.002"><flag contact="disable"/></option>'),
    "<flag sleep>": ('timestep="0.002"/>', 'timestep="0.002"><flag sleep="enable"/></option>'),
    "cannot be read": ("<option", "<opsion"),
    "cannot be read: ": ('type="sphere"', 'type="cube"'),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_what_no_scene_can_vouch_for_is_refused(model, message):
    text, edits = XML, MESSAGES[message]
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(ValueError) as error:
        mjx_safety.make(EnvConfig(robot=ball(model(text)), vases=Vases(num=1)), physics="mujoco")
    assert message in str(error.value) and "thing.xml of robot Ball" in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"self_contacts": (("ball", "hat"),)}, "no geom named 'hat', which self_contacts names"),
        ({"start_height": 0.2}, "start_height is 0.2 m"),
    ],
)
def test_a_value_that_does_not_fit_its_file_is_refused(model, fields, message):
    with pytest.raises(ValueError, match=message):
        build(ball(model(XML), **fields))


def test_a_robot_that_blows_up_leaves_no_log(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unstable = XML.replace('<motor name="turn" joint="z" gear="0.01"', '<velocity name="turn" joint="z" kv="-1"')
    assert unstable != XML
    build(ball(model(unstable)))
    assert not (tmp_path / "MUJOCO_LOG.TXT").exists()


KNEE = '<body><joint name="knee" axis="0 0 1" stiffness="1" springref="0.1"/><geom size="0.02" density="1"/></body>'
INNER = {
    "an equality": before_sensors('<equality><joint joint1="hip" joint2="knee"/></equality>'),
    "a fixed tendon": before_sensors('<tendon><fixed stiffness="1"><joint joint="hip" coef="1"/></fixed></tendon>'),
    "drag": ('name="x"', 'name="x" frictionloss="0.1" armature="0.1"'),
}


@pytest.mark.parametrize("part", INNER)
def test_what_acts_within_the_robot_or_holds_no_place_is_allowed(model, part):
    limbs = LIMB.replace("</body>", f"{KNEE}</body>").replace('name="hip"', 'name="hip" axis="0 0 1"')
    text = XML.replace(*in_robot(limbs)).replace(*INNER[part])
    assert build(ball(model(text))).action_size == 2


@pytest.mark.parametrize("spring", ['stiffness="5"', 'stiffness="0 5"'])
def test_springs_of_a_free_root_are_refused(model, spring):
    before, after = XML.split('<joint name="x"')[0], XML.split('damping="0.005"/>')[1]
    text = f'{before}<joint type="free" {spring}/>{after}'.replace('joint="z"', 'site="s"')
    with pytest.raises(ValueError, match="to a place by stiffness or springref at its root joints"):
        build(ball(model(text), root_joint="free", touches_floor=True))


def test_a_free_robot_needs_the_floor():
    with pytest.raises(ValueError, match="has a free joint, so it needs the floor: touches_floor must be True"):
        build(Car(touches_floor=False))


def test_what_mjx_lacks_is_refused_by_it_alone(model):
    xml = model(XML.replace('timestep="0.002"', 'timestep="0.002" solver="PGS"'))
    assert build(ball(xml)).action_size == 2
    sentence = "robot Ball cannot run on mjx: MJX lacks the solver PGS; use physics='mujoco'"
    with pytest.raises(ValueError, match=sentence):
        mjx_safety.make(EnvConfig(robot=ball(xml)), physics="mjx")


def test_defaults_of_the_file_are_not_those_of_the_objects(model):
    defaults = '<default><geom contype="1" conaffinity="0" friction="0.1" margin="0" solref="0.5 1"/></default>'
    plain, own = (
        mjx_safety.make(EnvConfig(robot=ball(model(text)), vases=Vases(num=1)), physics="mujoco").mj_model
        for text in (XML, XML.replace("<worldbody>", defaults + "<worldbody>"))
    )
    assert own.geom("ball").friction[0] == 0.1
    for name in ("floor", own.geom(own.body("vases0").geomadr[0]).id):
        for field in ("contype", "conaffinity", "friction", "solref", "margin"):
            np.testing.assert_array_equal(getattr(own.geom(name), field), getattr(plain.geom(name), field))


# -- actions -----------------------------------------------------------------------------------------------------------


def test_actions_are_scaled_to_the_control_ranges(model):
    xml = model(XML.replace('ctrlrange="-1 1"/>\n', 'ctrlrange="0 10"/>\n'))
    env = build(ball(xml))
    state = env.reset(jax.random.key(0))

    def control(*action):
        return np.asarray(jax.jit(env.step)(state, jnp.array(action)).data.ctrl)

    np.testing.assert_allclose(control(-1.0, -1.0), [0.0, -1.0])
    np.testing.assert_allclose(control(0.0, 0.25), [5.0, 0.25])
    np.testing.assert_allclose(control(3.0, 1.0), [10.0, 1.0])
    np.testing.assert_allclose(control(jnp.nan, 1.0), [0.0, 0.0])


# -- actuators with a state --------------------------------------------------------------------------------------------


def lagging(model):
    return ball(model(XML.replace(*LAGGING)))


def test_a_step_depends_on_its_state_alone(model):
    env = build(lagging(model))
    assert env.mj_model.na == 2
    start, action = env.reset(jax.random.key(0)), jnp.array([1.0, 0.5])
    step = jax.jit(env.step)
    first = step(start, action)
    assert 0 < first.data.act[0] < 1  # rises towards 1 in 0.2 s
    np.testing.assert_allclose(first.data.act, (1 - (1 - 0.002 / 0.2) ** 10) * action, rtol=1e-5)
    for _ in range(3):
        step(first, action)
        np.testing.assert_array_equal(step(start, action).obs, first.obs)
    again = env.reset(jax.random.key(1))
    np.testing.assert_array_equal(again.data.act, 0)
    np.testing.assert_allclose(step(again, action).data.act, first.data.act)


def test_activations_are_part_of_a_snapshot(model):
    env = build(lagging(model))
    state = env.step(env.reset(jax.random.key(0)), jnp.ones(2))
    snapshot = env.snapshot(state)
    np.testing.assert_array_equal(snapshot.act, state.data.act)
    after, again = (env.step(start, jnp.zeros(2)) for start in (state, env.restore(snapshot)))
    np.testing.assert_allclose(again.data.act, after.data.act, rtol=1e-6)
    np.testing.assert_allclose(again.data.qvel, after.data.qvel, atol=1e-6)
    with pytest.raises(ValueError, match=r"snapshot.act has shape \(1,\); this environment's is \(2,\)"):
        env.restore(snapshot.replace(act=jnp.zeros(1)))
    assert mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco").restore(mjx_safety.Snapshot()).data.act.shape == (
        0,
    )


@pytest.mark.slow
def test_activations_move_alike_on_all_engines(model):
    """In a batch large enough for worlds that are solved for the robot alone, and with more vases than slots."""
    config = EnvConfig(robot=lagging(model), vases=Vases(num=6), pillars=Pillars(num=1), extents=(-3, -3, 3, 3))
    envs = [mjx_safety.make(config, physics=physics) for physics in ("mujoco", "mjx")]
    states = [jax.vmap(envs[0].reset)(jax.random.split(jax.random.key(0), 32))] * 2
    steps = [jax.jit(jax.vmap(env.step)) for env in envs]
    for index in range(5):
        actions = jax.random.uniform(jax.random.key(index), (32, 2), minval=-1, maxval=1)
        states = [step(state, actions) for step, state in zip(steps, states, strict=True)]
        np.testing.assert_allclose(states[1].data.act, states[0].data.act, atol=1e-5)
    np.testing.assert_allclose(states[1].data.qpos[:, :3], states[0].data.qpos[:, :3], atol=1e-4)
    assert np.abs(states[0].data.act).max() > 0.1


# -- the forms of its sensors ------------------------------------------------------------------------------------------

RAIL = '<body><joint name="rail" type="slide" axis="1 0 0"/><geom size=".02" pos="0 0 .1" density="1"/></body>'


def test_lengths_stay_and_quaternions_become_matrices(model):
    """Among these sensors only the hinge's has an angle."""
    sensors = (
        '<jointpos name="length" joint="rail"/><jointpos name="angle" joint="z"/>'
        '<framequat name="orientation" objtype="body" objname="robot"/>'
    )
    text = XML.replace(*in_robot(RAIL)).replace("<sensor>", f"<sensor>{sensors}")
    names = ("length", "angle", "orientation")
    env = build(ball(model(text), sensors=names, start_yaw=0.5))
    assert {name: env.entry_sizes[name] for name in names} == {"length": 1, "angle": 2, "orientation": 9}
    snapshot = env.snapshot(env.reset(jax.random.key(0))).replace(joint_qpos=jnp.array([0.3]))
    s, c = np.sin(0.5), np.cos(0.5)
    np.testing.assert_allclose(env.restore(snapshot).obs[:12], [0.3, s, c, c, -s, 0, s, c, 0, 0, 0, 1], atol=1e-6)
    plain = build(ball(model(text), sensors=names, angle_components=False))
    assert {name: plain.entry_sizes[name] for name in names} == {"length": 1, "angle": 1, "orientation": 4}
