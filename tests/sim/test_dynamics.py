"""The constants of a model that follow from its masses, held against MuJoCo's own `mj_setConst`."""

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import mjx_safety
from mjx_safety import Randomize
from mjx_safety.sim import dynamics
from mjx_safety.sim.lone_robot import LoneRobot

WIDE = Randomize(mass=(0.3, 3.0), friction=(0.5, 2.0), gain=(0.5, 1.5), damping=(0.5, 2.0))
ROBOTS = ("PointGoal2", "CarPush2", "DoggoGoal2", "AntButton1", "HalfCheetahVelocity", "HumanoidVelocity")
WITH_TENDON = """
<mujoco><worldbody>
  <geom name="floor" type="plane" size="3 3 .1"/>
  <body name="robot" pos="0 0 1"><freejoint/><geom size=".1"/>
    <body pos=".2 0 0"><joint name="a" axis="0 1 0"/><geom size=".05"/>
      <body pos=".2 0 0"><joint name="b" axis="0 1 0" armature=".01"/><geom size=".05"/></body></body>
    <body pos="-.2 0 0"><joint name="c" type="ball"/><geom size=".05" pos=".1 0 0"/></body></body>
</worldbody>
<tendon><fixed limited="true" range="-1 1"><joint joint="a" coef="1"/><joint joint="b" coef="-2"/></fixed></tendon>
</mujoco>"""


@pytest.mark.parametrize("name", [*ROBOTS, "tendon"])
def test_what_follows_from_masses_is_what_mujoco_computes(name):
    if name == "tendon":
        scene = LoneRobot(model=mujoco.MjModel.from_xml_string(WITH_TENDON))
    else:
        scene = mjx_safety.make(f"Safety{name}-v0", physics="mujoco").scene
    drawn = dynamics.draw(WIDE, scene, jax.random.key(1))
    varied = dynamics.varied_fields(scene, scene.model, drawn, jnp)
    derived = dynamics.derived_fields(scene, scene.model, drawn, varied["body_mass"])
    model = copy.copy(scene.model)
    for field, value in varied.items():
        getattr(model, field)[:] = np.asarray(value)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    assert len(derived) == 3 + (name == "tendon")
    for field, value in derived.items():
        np.testing.assert_allclose(value, getattr(model, field), rtol=1e-4, err_msg=field)
    assert dynamics.size(scene) == len(dynamics.flat(drawn))


def test_an_inverse_without_a_library():
    half = np.random.default_rng(0).normal(size=(20, 20))
    matrix = half @ half.T + np.eye(20)
    np.testing.assert_allclose(dynamics.inverse_of(jnp.float32(matrix)), np.linalg.inv(matrix), atol=1e-4)
