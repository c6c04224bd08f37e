"""The corrected collider against MuJoCo's own contacts."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco.mjx._src.collision_types import GeomInfo

from mjx_safety.physics.colliders import plane_capsule


@pytest.mark.parametrize("tilt", [0.0, 5.0, 20.0, 29.0, 31.0, 60.0, 90.0])
def test_a_capsule_on_the_floor_touches_it_as_in_c(tilt):
    """Distances, places and, unless it stands upright, the tangents that friction follows. tilt: degrees."""
    xml = f"""<mujoco><worldbody><geom type="plane" size="1 1 1"/><body pos="0.1 0.2 0.02" euler="{tilt} 0 40">
      <freejoint/><geom type="capsule" size="0.03 0.1"/></body></worldbody></mujoco>"""
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    infos = [
        GeomInfo(jnp.asarray(data.geom_xpos[i]), jnp.asarray(data.geom_xmat[i].reshape(3, 3)), jnp.asarray(size))
        for i, size in enumerate(model.geom_size)
    ]
    dist, pos, frame = jax.jit(plane_capsule)(*infos)
    touching = np.flatnonzero(np.asarray(dist) <= 0)
    assert len(touching) == data.ncon > 0
    for ours, contact in zip(touching, data.contact, strict=True):
        np.testing.assert_allclose(dist[ours], contact.dist, atol=1e-6)
        np.testing.assert_allclose(pos[ours], contact.pos, atol=1e-6)
        if tilt:
            np.testing.assert_allclose(frame[ours].ravel(), contact.frame, atol=1e-5)
