"""What MJX would leave out of a robot without a word is refused when its environment is made."""

import jax
import mujoco
import numpy as np
import pytest
from mujoco import mjx

import mjx_safety
from mjx_safety import EnvConfig, LocomotionConfig, Robot, Vases
from mjx_safety.sim.engines.mjx_gaps import GAPS, what_mjx_lacks, without_idle_parts

XML = """<mujoco><option timestep="0.002"/><worldbody>FLOOR<body name="robot" pos="0 0 0.1">
<joint name="x" type="slide" axis="1 0 0"/><joint name="y" type="slide" axis="0 1 0"/>
<joint name="z" type="hinge" axis="0 0 1"/><geom name="ball" type="sphere" size="0.1" density="1"/>
<body name="limb"><joint name="hip" axis="0 0 1"/><geom name="leg" size="0.05" pos="0 0 0.1" density="1"/></body>
</body></worldbody>
<actuator><motor name="swing" joint="hip" gear="0.01" ctrlrange="-1 1"/></actuator></mujoco>"""
FLOOR = '<geom name="floor" type="plane" size="3 3 0.1" contype="0" conaffinity="0"/>'


def after(text):
    return ("</mujoco>", f"{text}</mujoco>")


def cord(attribute):
    return after(f'<tendon><fixed name="cord" {attribute}="0 0.1"><joint joint="hip" coef="1"/></fixed></tendon>')


CASES = {
    "damping with several coefficients, which joint 'hip' has": ('name="hip"', 'name="hip" damping="0 0.1"'),
    "stiffness with several coefficients, which joint 'hip' has": ('name="hip"', 'name="hip" stiffness="0 0.1"'),
    "damping with several coefficients, which tendon 'cord' has": cord("damping"),
    "stiffness with several coefficients, which tendon 'cord' has": cord("stiffness"),
    "armature, which actuator 'swing' has": ('name="swing"', 'name="swing" armature="0.1"'),
    "damping, which actuator 'swing' has": ('name="swing"', 'name="swing" damping="0.1"'),
    "damping with several coefficients, which actuator 'swing' has": ('name="swing"', 'name="swing" damping="0 1"'),
    "actearly, which actuator 'swing' has": ("<motor", '<general dyntype="filter" dynprm="0.2" actearly="true"'),
    "limits of which both act at once, as the margin of joint 'hip' asks": (
        *('name="hip"', 'name="hip" range="-20 20" margin="0.5"'),
    ),
    "limits of which both act at once, as the margin of tendon 'cord' asks": after(
        '<tendon><fixed name="cord" range="-0.1 0.1" margin="0.2"><joint joint="hip" coef="1"/></fixed></tendon>'
    ),
    "<flag spring='disable'/>": ('<option timestep="0.002"/>', '<option><flag spring="disable"/></option>'),
    "<flag damper='disable'/>": ('<option timestep="0.002"/>', '<option><flag damper="disable"/></option>'),
    "surfacevel, which geom 'ball' has": ('name="ball"', 'name="ball" surfacevel="1 0 0 0 0 0"'),
    "adhesion, which geom 'leg' has": ('name="leg"', 'name="leg" adhesion="1"'),
    "adhesion, which pair 'own' has": after(
        '<contact><pair name="own" geom1="ball" geom2="leg" adhesion="1"/></contact>'
    ),
}
ROPE = after(
    '<tendon><spatial name="rope"><site site="hook"/><site site="tip"/></spatial></tendon>'
    '<sensor><force name="pull" site="tip"/></sensor>'
)
SITES = (
    *('<geom name="ball"', '<site name="hook" pos="0 0.1 0"/><geom name="ball"'),
    *('<geom name="leg"', '<site name="tip" pos="0.2 0 0.1"/><geom name="leg"'),
)
ALONE = {  # what only robots without objects may have
    "the integrator discrete": ("<option", '<option integrator="discrete"'),
    "noslip_iterations": ("<option", '<option noslip_iterations="3"'),
    "fluidshape, which geom 'leg' has": (
        *('name="leg"', 'name="leg" fluidshape="ellipsoid"'),
        *("<option", '<option density="1000"'),
    ),
}


@pytest.fixture
def config(tmp_path):
    """Settings of a ball with a limb, among objects or alone, whose file has some texts replaced."""

    def build(*edits, alone=False):
        path, text = tmp_path / "ball.xml", XML.replace("FLOOR", FLOOR if alone else "")
        for old, new in zip(edits[::2], edits[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        if alone:
            settings = {"threshold": 1.0, "frameskip": 5, "control_cost": 0.0, "reset_noise": 0.0}
            return LocomotionConfig(name="Ball", xml=str(path), travel=2, **settings)
        return EnvConfig(robot=Robot(name="Ball", xml=str(path), root_joint="planar", touches_floor=False, sensors=()))

    return build


def refused(settings, gap):
    assert mjx_safety.make(settings, physics="mujoco").action_size == 1
    with pytest.raises(ValueError, match=rf"robot Ball cannot run on mjx: MJX lacks {gap}; use physics='mujoco'"):
        mjx_safety.make(settings, physics="mjx")


@pytest.mark.parametrize("gap", CASES)
def test_gaps_are_refused_by_mjx_alone(config, gap):
    refused(config(*CASES[gap]), gap)


@pytest.mark.parametrize("gap", CASES | ALONE)
def test_gaps_of_robots_without_objects_too(config, gap):
    refused(config(*(CASES | ALONE)[gap], alone=True), gap)


def test_contacts_without_friction_on_elliptic_cones_are_refused(config):
    edits = ("<option", '<option cone="elliptic"', 'name="ball"', 'name="ball" condim="1" priority="1"')
    settings = config(*edits)
    with pytest.raises(ValueError, match=r"robot Ball cannot run on mjx: .*condim.*; use physics='mujoco'"):
        mjx_safety.make(settings, physics="mjx", vases=Vases(num=1))


def test_a_robot_without_gaps_has_none(config):
    model = mjx_safety.make(config(), physics="mujoco").mj_model
    assert what_mjx_lacks(model) is None


def test_every_gap_is_tried():
    """In CASES the words for it are those of a field."""
    for kind, words in GAPS.values():
        assert any(case.startswith(f"{words}, which {kind}") for case in CASES), words


def test_mjx_still_has_no_place_for_some_of_them():
    """Once it has, the gap may go."""
    missing = {"actuator_armature", "actuator_damping", "actuator_dampingpoly", "geom_surfacevel", "geom_adhesion"}
    assert missing <= set(GAPS) and not missing & set(mjx.Model.__dataclass_fields__)


def test_forces_between_bodies_lack_those_of_spatial_tendons(config):
    """C adds them. A robot without objects has no sensors, so it lacks them only in `cfrc_ext`."""
    refused(config(*SITES, *ROPE), "the forces of spatial tendons in sensors of type force and torque")
    settings = config(*SITES, *ROPE, alone=True)
    mjx_safety.make(settings, physics="mjx")
    with pytest.raises(ValueError, match=r"robot Ball cannot run on mjx: MJX lacks the forces .* in cfrc_ext; use"):
        mjx_safety.make(settings, physics="mjx", entries=("qpos", "cfrc_ext"))


@pytest.mark.parametrize("floor", ["", FLOOR.replace('contype="0"', "")])
def test_touch_is_0_where_nothing_can_touch(floor):
    """MJX fails in the first step of such a model: it joins the forces of no contacts."""
    text = XML.replace("FLOOR", floor).replace('<geom name="ball"', '<site name="skin" size="0.2"/><geom name="ball"')
    text = text.replace("</mujoco>", '<sensor><touch name="felt" site="skin"/></sensor></mujoco>')
    text = text.replace('name="leg"', 'name="leg" contype="0" conaffinity="0"')
    model = mujoco.MjModel.from_xml_string(text)
    put = without_idle_parts(mjx.put_model(model))
    felt = jax.jit(mjx.forward)(put, mjx.make_data(put)).sensordata
    np.testing.assert_array_equal(felt, 0.0)
    can_touch = put.sensor_needstage[0] == int(mujoco.mjtStage.mjSTAGE_ACC)
    assert can_touch == bool(floor)


def test_elliptic_cones_do_no_harm_where_nothing_can_touch(config):
    """MJX fails in the first step of such a model."""
    edits = ("<option", '<option cone="elliptic"', 'name="hip"', 'name="hip" range="-20 20"')
    ends = []
    for physics in ("mujoco", "mjx"):
        env = mjx_safety.make(config(*edits), physics=physics)
        state = env.restore(mjx_safety.Snapshot(joint_qvel=np.array([3.0])))
        ends.append(env.step(state, np.ones(1, np.float32)).data.qpos)
    np.testing.assert_allclose(*ends, atol=1e-5)
