"""Models of a user's own for velocity environments: what a step cannot simulate is refused by file and part."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import VELOCITY_IDS, LocomotionConfig
from mjx_safety.world.locomotion.robots import HOPPER

XML = """<mujoco><option timestep="0.01"/>
<worldbody>
<geom name="floor" type="plane" size="5 5 1"/>
<body name="robot" pos="0 0 1"><joint name="x" type="slide" axis="1 0 0"/><joint name="z" type="slide" axis="0 0 1"/>
<joint name="tilt" type="hinge" axis="0 1 0"/><geom name="box" type="box" size="0.2 0.1 0.1" mass="2"/><site name="s"/>
<body name="arm"><joint name="elbow" axis="0 1 0"/><geom name="hand" size="0.05" pos="0 0 0.3"/></body></body>
</worldbody>
<actuator><motor name="push" joint="x" ctrlrange="-4 4"/></actuator>
<sensor><accelerometer name="felt" site="s"/></sensor></mujoco>"""
SLIDE_X = '<joint name="x" type="slide" axis="1 0 0"/>'
SLIDE_Y = '<joint name="y" type="slide" axis="0 1 0"/>'
SLIDE_Z = '<joint name="z" type="slide" axis="0 0 1"/>'
TILT = '<joint name="tilt" type="hinge" axis="0 1 0"/>'
ROLL, TURN = (f'<joint name="other" type="hinge" axis="{axis}"/>' for axis in ("1 0 0", "0 0 1"))
FEW = '<custom><numeric name="max_contact_points" data="1"/></custom>'
LIFT = '<joint name="lift" type="slide" axis="0 0 1" armature="1"/>'
ROOT = SLIDE_X + SLIDE_Z + f"\n{TILT}"
FREE = (ROOT, '<freejoint name="root"/>', '<motor name="push" joint="x"', '<motor name="push" joint="elbow"')


def build(tmp_path, *edits, **fields):
    """An environment of the model with some parts replaced: old, new, old, new, ..."""
    text = XML
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        assert old in text, old
        text = text.replace(old, new, 1)
    (tmp_path / "thing.xml").write_text(text)
    settings = {"name": "Thing", "frameskip": 4, "threshold": 0.5, "control_cost": 0.0, "reset_noise": 0.0} | fields
    config = LocomotionConfig(xml=str(tmp_path / "thing.xml"), **settings)
    return mjx_safety.make(config, physics="mujoco")


def in_world(text):
    return ("</worldbody>", f"{text}</worldbody>")


def as_motor(element):
    return ('<motor name="push" joint="x" ctrlrange="-4 4"/>', element)


def after(element):
    return ("<sensor>", f"{element}<sensor>")


SPATIAL = '<tendon><spatial name="rope"><site site="hook"/><site site="s"/></spatial></tendon>'
MESSAGES = {
    "cannot be read: ": ("<option", "<opsion"),
    "has no body named 'robot'": ('name="robot"', 'name="thing"'),
    "has no geom named 'floor'": ('name="floor"', 'name="ground"'),
    # bodies
    "inside another": ('<body name="robot" pos="0 0 1">', '<body><body name="robot">', *in_world("</body>")),
    "joints at its body 'fan' outside": (
        '<body name="robot"',
        '<body name="fan"><joint/><geom size=".1" contype="0"/></body><body name="robot"',
    ),
    "joints at its body 'ball' outside": in_world('<body name="ball"><freejoint/><geom size=".1"/></body>'),
    "a mocap body 'target'": in_world('<body name="target" mocap="true"><geom size=".1" contype="0"/></body>'),
    "sets align at its free joint, which moves the origin of its body 'robot'": (
        *(ROOT, '<freejoint align="true"/>', '<body name="arm"><joint name="elbow" axis="0 1 0"/>', ""),
        *("</body></body>", "</body>", *as_motor('<motor name="push" site="s" ctrlrange="-4 4"/>')),
    ),
    # what no state holds
    "a delay at its actuator 'push'": as_motor(
        '<motor name="push" joint="x" ctrlrange="-4 4" delay=".01" nsample="8"/>'
    ),
    "a delay at its sensor 'felt'": ('name="felt"', 'name="felt" delay="0.01" nsample="4"'),
    "an actuator 'push' of type user": as_motor(
        '<general name="push" joint="x" ctrlrange="-4 4" dyntype="user" actdim="1"/>'
    ),
    "actuator 'push' of type user, which": as_motor(
        '<general name="push" joint="x" ctrlrange="-4 4" gaintype="user" biastype="user"/>'
    ),
    "an actuator 'push' with 2 controls; each": as_motor(
        '<pid name="push" joint="x" kp="1" input="pos vel" ctrlrange="-4 4"/>'
    ),
    "has a flex 'flag'": in_world(
        '<flexcomp name="flag" type="grid" count="3 3 1" spacing=".1 .1 .1" mass="1" radius=".01" dim="2">'
        '<pin id="0 1 2 3 4 5 6 7 8"/></flexcomp>'
    ),
    "<flag ipc>": (
        'timestep="0.01"/>',
        'timestep="0.01" integrator="discrete"><flag ipc="enable"/></option>',
    ),
    "<flag sleep>": ('timestep="0.01"/>', 'timestep="0.01"><flag sleep="enable"/></option>'),
    # the root
    "its joint 'z' is another": (SLIDE_X + SLIDE_Z, SLIDE_Z + SLIDE_X),
    "its joint 'x' is another": ('axis="1 0 0"', 'axis="-1 0 0"'),
    "begin with a slide along x, or a free joint": ('axis="1 0 0"', 'axis="0 1 0"'),
    "as travel=1 says: its joint 'x' is another": ('name="x" type="slide"', 'name="x" type="hinge"'),
    "its joint 'x' is ano": ('<body name="robot" pos="0 0 1">', '<body name="robot" euler="0 0 30">'),
    "it has 0 joints there": (ROOT, "", 'joint="x"', 'joint="elbow"'),
    "a slide 'y' at its body 'robot' that is neither": (SLIDE_Z, SLIDE_Y),
    "a free joint, whose place on the floor has 2 coordinates: travel=2": FREE,
    # forces at a place
    "a range at its joint 'x'": ('name="x"', 'name="x" limited="true" range="-1 1"'),
    "a stiffness at its joint 'x'": ('name="x"', 'name="x" stiffness="10"'),
    "a ref at its joint 'x'": ('name="x"', 'name="x" ref="1"'),
    "a solid geom 'wall' in the world": in_world('<geom name="wall" type="box" pos="2 0 1" size=".1 9 1"/>'),
    "a solid geom 'post' in the world": in_world('<body pos="2 0 0"><geom name="post" size=".1"/></body>'),
    "a solid geom 'slope' in the world": in_world('<geom name="slope" type="plane" size="9 9 1" euler="0 9 0"/>'),
    "a solid geom 'ghost' in the world": (
        *in_world('<geom name="ghost" pos="2 0 0" size=".1" contype="0" conaffinity="0"/>'),
        *after('<contact><pair geom1="ghost" geom2="box"/></contact>'),
    ),
    "a geom 'floor' that is no plane": ('type="plane" size="5 5 1"', 'type="box" size="5 5 1" pos="0 0 -1"'),
    "starts 0.1 m in the floor: raise its body 'robot'": ('pos="0 0 1"', 'pos="0 0 0"'),
    "a geom 'floor' that is not level": ('type="plane"', 'type="plane" euler="0 5 0"'),
    "equality 'rope'": after('<equality><connect name="rope" body1="robot" anchor="0 0 0"/></equality>'),
    "equality 'weld'": after('<equality><weld name="weld" body1="arm" body2="world"/></equality>'),
    "equality 'gear'": after('<equality><joint name="gear" joint1="elbow" joint2="x"/></equality>'),
    "tendon 'rope'": (*in_world('<site name="hook" pos="0 0 2"/>'), *after(SPATIAL)),
    "tendon 'belt'": after('<tendon><fixed name="belt"><joint joint="x" coef="1"/></fixed></tendon>'),
    "actuator 'servo' whose force": as_motor('<position name="servo" joint="x" kp="9" ctrlrange="-4 4"/>'),
    "actuator 'far' whose force": (
        *in_world('<site name="hook" pos="0 0 2"/>'),
        *as_motor('<motor name="far" site="s" refsite="hook" gear="1 0 0 0 0 0" ctrlrange="-4 4"/>'),
    ),
    # actuators
    "has no actuator": as_motor(""),
    "no ctrlrange for its actuator 'push'": as_motor('<motor name="push" joint="x"/>'),
    "<option actuatorgroupdisable>": ("<option", '<option actuatorgroupdisable="0"'),
    "<option timestep> to 0; it must be": ('timestep="0.01"', 'timestep="0"'),
    "<option timestep> to -0.01; it must be": ('timestep="0.01"', 'timestep="-0.01"'),
    "<flag actuation>": ('timestep="0.01"/>', 'timestep="0.01"><flag actuation="disable"/></option>'),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_what_no_step_can_simulate_is_refused(tmp_path, message):
    with pytest.raises(ValueError) as error:
        build(tmp_path, *MESSAGES[message])
    said = str(error.value)
    assert message in said and "thing.xml of robot Thing " in said
    assert len(said) - len(str(tmp_path)) < 250 and "\n" not in said


@pytest.mark.parametrize(
    ("edits", "fields", "message"),
    [
        ((SLIDE_Z, ""), {"healthy_height": (0.1, 2.0)}, "no slide along .z .*, which healthy_height needs"),
        (
            (SLIDE_Z, "", '<joint name="tilt" type="hinge" axis="0 1 0"/>', ""),
            {"healthy_height": (0.1, 2.0)},
            "no slide",
        ),
        (('axis="0 0 1"', 'axis="0 0 -1"'), {"healthy_height": (0.1, 2.0)}, "no slide along .z"),
        (('<joint name="tilt" type="hinge" axis="0 1 0"/>', ""), {"healthy_angle": (-1.0, 1.0)}, "no hinge .*_angle"),
        (FREE, {"travel": 2, "healthy_angle": (-1.0, 1.0)}, "no hinge .*, which healthy_angle needs"),
        ((SLIDE_Z, ""), {"healthy_angle": (-1.0, 1.0)}, "no hinge .* after a slide along .z"),
        ((TILT, TILT + ROLL), {"healthy_angle": (-1.0, 1.0)}, "no hinge about a horizontal axis as the only joint"),
        ((TILT, TURN), {"healthy_angle": (-1.0, 1.0)}, "no hinge about a horizontal axis"),
        (("<worldbody>", f"{FEW}<worldbody>"), {}, "sets <numeric max_contact_points>, which limits contacts on MJX"),
        (
            (TILT, f'{TILT[:-2]} pos="0.1 0 0"/>'),
            {},
            "a joint 'tilt' that moves the origin .* reads the first slides alone",
        ),
        ((TILT, TILT + LIFT), {}, "a joint 'lift' that moves the origin .* put the joint there, or take point='com'"),
        ((TILT, '<joint name="ball" type="ball" pos="0 0 0.1"/>'), {}, "a joint 'ball' that moves the origin"),
        ((), {"healthy_height": (2.0, 3.0)}, r"starts at 1, outside of healthy_height \(2.0, 3.0\), so each episode"),
        ((), {"healthy_angle": (0.1, 0.2)}, r"starts at 0, outside of healthy_angle \(0.1, 0.2\)"),
        ((SLIDE_X + SLIDE_Z, SLIDE_X, TILT, TILT + SLIDE_Z), {}, "a joint 'z' that moves the origin"),
        ((SLIDE_Z, SLIDE_Z + LIFT), {"healthy_height": (0.1, 2.0)}, "a joint 'lift' .* healthy_height reads the first"),
        (
            (TILT, f'{TILT[:-2]} pos="0.1 0 0"/>'),
            {"point": "com", "healthy_height": (0.1, 2.0)},
            "a joint 'tilt' that moves the origin .* healthy_height reads the first slide",
        ),
        ((), {"travel": 2}, "does not begin with slides along x and y, .* its joint 'z' is another"),
        (('name="felt"', 'name="com"'), {"point": "com"}, "a sensor named 'com', which this environment adds"),
        (
            ('timestep="0.01"/>', 'timestep="0.01"><flag sensor="disable"/></option>'),
            {"point": "com"},
            "<flag sensor>, but point='com'",
        ),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(tmp_path, edits, fields, message):
    with pytest.raises(ValueError, match=rf"thing\.xml of robot Thing .*{message}"):
        build(tmp_path, *edits, **fields)


@pytest.mark.parametrize(
    ("edits", "fields"),
    [
        ((), {"healthy_height": (-9.0, 9.0), "healthy_angle": (-9.0, 9.0)}),
        ((ROOT, SLIDE_X), {}),  # one coordinate, which is not observed
        ((ROOT, SLIDE_X + SLIDE_Y + SLIDE_Z), {"travel": 2, "healthy_height": (-9.0, 9.0)}),
        (FREE, {"travel": 2, "healthy_height": (-9.0, 9.0)}),
        ((TILT, f'{TILT[:-2]} pos="0.1 0 0"/>'), {"point": "com"}),
        ((TILT, f'{TILT[:-2]} pos="0 0.1 0"/>'), {"healthy_height": (-9.0, 9.0)}),  # the hinge's axis meets the origin
        ((SLIDE_Z, SLIDE_Z + LIFT), {}),  # the origin moves, but not its place
        ((TILT, '<joint name="ball" type="ball"/>'), {"healthy_height": (-9.0, 9.0)}),
        (as_motor('<velocity name="push" joint="x" kv="3" ctrlrange="-4 4"/>'), {}),
        (in_world('<geom name="flag" pos="2 0 1" size=".1" contype="0" conaffinity="0"/>'), {}),
        (
            ('name="z"', 'name="z" limited="true" range="-2 2" stiffness="1" ref="1"'),
            {},
        ),  # a height is everywhere alike
        (('type="plane" size="5 5 1"', 'type="plane" size="5 5 1" pos="0 0 -1" euler="0 0 40"'), {}),
    ],
)
def test_other_models_run(tmp_path, edits, fields):
    env = build(tmp_path, *edits, **fields)
    state = env.step(env.reset(jax.random.key(0)), jnp.ones(1))
    assert np.all(np.isfinite(state.obs)) and not state.terminated
    assert state.obs.shape == (env.obs_size,) == (env.mj_model.nq - env.config.travel + env.mj_model.nv,)


@pytest.mark.parametrize("env_id", VELOCITY_IDS)
def test_the_models_of_the_package_pass(env_id):
    mjx_safety.make(env_id, physics="mujoco")


@pytest.mark.parametrize("field", ["velocity_clip", "healthy_state"])
@pytest.mark.parametrize("value", [10**400, 1e39, 1e-60, 0.0, True, math.nan])
def test_bounds_are_numbers_in_single_precision(field, value):
    with pytest.raises(ValueError, match=f"LocomotionConfig.{field} is .*; it must be a number above 0 in single"):
        dataclasses.replace(HOPPER, **{field: value})
    assert getattr(dataclasses.replace(HOPPER, **{field: math.inf}), field) == math.inf
