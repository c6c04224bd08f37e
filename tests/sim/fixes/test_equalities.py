"""The rows of connect and weld equalities have the reference of C, at any velocity."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx
from mujoco.mjx._src import constraint

from mjx_safety.sim.fixes.mjx_equalities import _MAKE, make_constraint, velocity_terms

XML = """<mujoco><option timestep="0.002"><flag contact="disable"/></option><worldbody>
<body name="robot" pos="0 0 1"><freejoint/><geom size="0.1"/><site name="eye" pos="0.1 0 0.05" euler="10 20 30"/>
  <body name="upper" pos="0.1 0 0"><joint type="ball"/><geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02"/>
    <body name="lower" pos="0.2 0 0"><joint axis="0 1 0"/><joint type="slide" axis="1 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0.1 0.2" size="0.02"/><site name="tip" pos="0 0.1 0.2" euler="0 40 0"/>
    </body>
  </body>
  <body name="other" pos="0 0.2 0"><joint axis="1 0 0"/><joint axis="0 0 1"/><geom size="0.05" pos="0 0 0.1"/></body>
</body>
<body name="driver" mocap="true"/>
<body name="driven"><freejoint/><geom size="0.05"/></body>
</worldbody>EQUALITY</mujoco>"""
TIES = {
    "connect": '<connect body1="lower" body2="other" anchor="0.1 0 0.05"/>',
    "connect sites": '<connect site1="tip" site2="eye"/>',
    "weld": '<weld body1="lower" body2="other" torquescale="0.7" anchor="0 0.1 0"/>',
    "weld sites": '<weld site1="tip" site2="eye"/>',
    "several": '<weld body1="upper" body2="other"/><connect body1="lower" body2="other" anchor="0 0 0"/>',
    "an inactive one": (
        '<connect body1="lower" body2="other" anchor="0 0 0"/><weld body1="lower" body2="robot" active="false"/>'
    ),
}


def pair(equalities, flags=""):
    """The model and its data in motion, in C and in MJX."""
    text = XML.replace("EQUALITY", f"<equality>{equalities}</equality>").replace("<flag ", f"<flag {flags} ")
    model = mujoco.MjModel.from_xml_string(text)
    data, random = mujoco.MjData(model), np.random.default_rng(0)
    mujoco.mj_integratePos(model, data.qpos, random.normal(size=model.nv), 0.1)
    data.qvel[:] = 2.0 * random.normal(size=model.nv)
    mujoco.mj_forward(model, data)
    put, moving = mjx.put_model(model), {name: jnp.array(getattr(data, name), jnp.float32) for name in ("qpos", "qvel")}
    return data, put, mjx.make_data(put).replace(**moving)


def forward(put, start):
    return jax.jit(lambda model, data: mjx.forward(model, data))(put, start)  # a new function, which JAX traces anew


@pytest.mark.parametrize("name", TIES)
def test_references_are_those_of_c(name):
    data, put, start = pair(TIES[name])
    with velocity_terms():
        found = forward(put, start)
    expected = np.sort(data.efc_aref[: data.ne])  # in MJX connect comes before weld, and rows that do not act are 0
    for make, tolerance in ((make_constraint, 1e-5), (_MAKE, None)):
        rows = np.asarray(jax.jit(make)(put, found)._impl.efc_aref)
        error = np.abs(np.sort(rows[rows != 0.0]) - expected).max() / np.abs(expected).max()
        assert error < tolerance if tolerance else error > 5e-4, f"{make} has the references {rows}"
    np.testing.assert_allclose(found.qacc, data.qacc, rtol=1e-3, atol=1e-3 * np.abs(data.qacc).max())


@pytest.mark.parametrize("flags", ["", 'equality="disable"'])
def test_driven_bodies_and_switched_off_equalities_stay_as_they_are(flags):
    _, put, start = pair('<weld body1="driver" body2="driven"/>' + TIES["connect"] * bool(flags), flags)
    full = forward(put, start)
    ours, its = make_constraint(put, full), _MAKE(put, full)
    np.testing.assert_array_equal(ours._impl.efc_aref, its._impl.efc_aref)
    assert ours._impl.efc_aref.size == (0 if flags else 6)


def test_mjx_gets_its_own_function_back():
    with velocity_terms():
        assert constraint.make_constraint is make_constraint
    assert constraint.make_constraint is _MAKE
