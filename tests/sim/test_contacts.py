"""Contacts between robot and objects: as many points as MuJoCo lists, limbs included, each with its own object."""

import jax
import mujoco
import numpy as np
import pytest
from worlds import close_by

import mjx_safety
from mjx_safety import Buttons, Car, Doggo, EnvConfig, Gremlins, Pillars, Point, Push, Vases, Walls

B = 24  # posed worlds


def listed(env, data):
    """Contact points of the robot with each solid object [K], from MuJoCo's own list."""
    model, full = env.mj_model, mujoco.MjData(env.mj_model)
    full.qpos, full.qvel = data.qpos, data.qvel
    full.mocap_pos, full.mocap_quat = data.mocap_pos, data.mocap_quat
    mujoco.mj_forward(model, full)
    root, bodies = model.body("robot").id, [model.body(name).id for name in env.scene.solid_bodies]
    counts = np.zeros(len(bodies))
    for contact in full.contact:
        first, second = (model.geom_bodyid[geom] for geom in contact.geom)
        if model.body_rootid[second] == root:
            first, second = second, first
        if model.body_rootid[first] == root and second in bodies and contact.dist <= 0:
            counts[bodies.index(second)] += 1
    return counts


@pytest.mark.parametrize("robot", [Point(), Car(), Doggo()], ids=lambda robot: robot.name)
def test_contact_points_are_those_that_mujoco_lists(robot):
    env = mjx_safety.make(
        EnvConfig(
            robot=robot,
            task=Push(),
            vases=Vases(num=3),
            pillars=Pillars(num=1),
            buttons=Buttons(num=2),
            gremlins=Gremlins(num=2),
            walls=Walls(num=1),
            indicator=False,
        ),
        physics="mujoco",
    )
    snapshots, keys = close_by(env, B), jax.random.split(jax.random.key(0), B)
    states = jax.jit(jax.vmap(env.restore))(snapshots, keys)
    expected = np.stack([listed(env, jax.tree.map(lambda leaf, i=i: leaf[i], states.data)) for i in range(B)])
    start = 0
    for name in env.scene.solid_kinds:
        num = env.config.objects[name].num
        counts = expected[:, start : start + num].sum(axis=-1)
        assert np.any(counts > 0) and (np.any(counts == 0) or name in ("vases", "push_box", "walls")), name
        source = {"vases": "vases_contact"}.get(name, name)
        if source in env.cost_names:
            np.testing.assert_array_equal(states.costs[:, env.cost_names.index(source)], counts, err_msg=name)
        start += num
