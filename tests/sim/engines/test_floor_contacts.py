"""On `mjx` every shape that MJX collides with a plane carries a robot on the floor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mujoco import mjx
from mujoco.mjx._src import collision_driver

import mjx_safety
from mjx_safety import EnvConfig, Robot
from mjx_safety.sim.model import _FLOOR_POINTS

XML = """<mujoco><asset><mesh name="wedge" vertex="-1 -1 -1 1 -1 -1 -1 1 -1 1 1 -1 0 0 1" scale="0.1 0.1 0.1"/></asset>
<worldbody><body name="robot" pos="0 0 0.11"><freejoint/><geom SHAPE/><site name="centre"/></body></worldbody>
<actuator><motor site="centre" gear="1 0 0 0 0 0" ctrlrange="-1 1"/></actuator></mujoco>"""
SHAPES = {"ellipsoid": 'type="ellipsoid" size="0.1 0.08 0.1"', "mesh": 'type="mesh" mesh="wedge"'}


@pytest.mark.parametrize("name", SHAPES)
def test_a_robot_stays_on_the_floor(name, tmp_path):
    path, heights = tmp_path / "robot.xml", []
    path.write_text(XML.replace("SHAPE", SHAPES[name]))
    robot = Robot(name="Lump", xml=str(path), root_joint="free", start_height=0.11, sensors=())
    for physics in ("mujoco", "mjx"):
        env = mjx_safety.make(EnvConfig(robot=robot), physics=physics)
        state = env.reset(jax.random.key(0))
        for _ in range(15):  # 0.3 s
            state = env.step(state, jnp.zeros(1))
        heights.append(state.data.qpos[2])
    np.testing.assert_allclose(heights[1], heights[0], atol=2e-3)
    assert 0.09 < heights[1] < 0.15


def test_every_shape_that_meets_a_plane_has_its_points():
    shapes = {second for first, second in collision_driver._COLLISION_FUNC if first == mjx.GeomType.PLANE}
    assert {int(shape) for shape in shapes} == {int(shape) for shape in _FLOOR_POINTS}
