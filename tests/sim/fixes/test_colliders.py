"""The corrected colliders against MuJoCo's own contacts."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx
from mujoco.mjx._src import collision_driver
from mujoco.mjx._src.collision_types import GeomInfo

from mjx_safety.sim.fixes.mjx_colliders import corrected, plane_box, plane_capsule, plane_cylinder


def on_the_floor(shape, pos, turn):
    """C's model and data of one free geom on a plane. pos: m; turn: degrees."""
    pos, turn = (" ".join(map(str, values)) for values in (pos, turn))
    xml = f"""<mujoco><worldbody><geom type="plane" size="1 1 1"/><body pos="{pos}" euler="{turn}">
      <freejoint/><geom {shape}/></body></worldbody></mujoco>"""
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def infos_of(model, data):
    return [
        GeomInfo(jnp.asarray(data.geom_xpos[i]), jnp.asarray(data.geom_xmat[i].reshape(3, 3)), jnp.asarray(size))
        for i, size in enumerate(model.geom_size)
    ]


@pytest.mark.parametrize("tilt", [0.0, 5.0, 20.0, 29.0, 31.0, 60.0, 90.0])
def test_a_capsule_on_the_floor_touches_it_as_in_c(tilt):
    """Distances, places and, unless it stands upright, the tangents that friction follows. tilt: degrees."""
    model, data = on_the_floor('type="capsule" size="0.03 0.1"', (0.1, 0.2, 0.02), (tilt, 0, 40))
    dist, pos, frame = jax.jit(plane_capsule)(*infos_of(model, data))
    touching = np.flatnonzero(np.asarray(dist) <= 0)
    assert len(touching) == data.ncon > 0
    for ours, contact in zip(touching, data.contact, strict=True):
        np.testing.assert_allclose(dist[ours], contact.dist, atol=1e-6)
        np.testing.assert_allclose(pos[ours], contact.pos, atol=1e-6)
        if tilt:
            np.testing.assert_allclose(frame[ours].ravel(), contact.frame, atol=1e-5)


@pytest.mark.parametrize("turn", [(0, 0, 30), (8, 0, 0), (40, 3, 10), (20, 30, 40), (45, 35.26, 0)])
def test_a_box_on_the_floor_touches_it_with_every_corner_as_in_c(turn):
    """Among them an edge with corners at depths that differ by more than 1 mm. turn: degrees."""
    model, data = on_the_floor('type="box" size="0.2 0.16 0.2"', (0.1, 0.2, 0.15), turn)
    dist, pos, frame = jax.jit(plane_box)(*infos_of(model, data))
    touching = np.asarray(dist) <= 0
    assert touching.sum() == data.ncon > 0
    ours = sorted((*np.asarray(pos[i]), float(dist[i])) for i in np.flatnonzero(touching))
    theirs = sorted((*contact.pos, contact.dist) for contact in data.contact)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(frame[0].ravel(), data.contact[0].frame, atol=1e-6)


@pytest.mark.parametrize(
    ("turn", "height", "num_points"),
    [
        ((90, 0, 0), 0.09999, 2),  # a wheel that rolls
        ((86, 0, 20), 0.098, 2),  # more than MJX's own tolerance
        ((95, 10, 0), 0.0975, 2),
        ((70, 0, 30), 0.1, 1),  # on one rim
        ((0, 0, 10), 0.0199, 3),  # on a flat side
        ((180, 0, 0), 0.0199, 3),
        ((0.02, 0.03, 0), 0.0199, 3),
        ((0, 0, 0), 0.0201, 0),
    ],
)
def test_a_cylinder_on_the_floor_touches_it_as_in_c(turn, height, num_points):
    """turn: degrees; height: m."""
    model, data = on_the_floor('type="cylinder" size="0.1 0.02"', (0.1, 0.2, height), turn)
    dist, pos, frame = jax.jit(plane_cylinder)(*infos_of(model, data))
    touching = np.flatnonzero(np.asarray(dist) <= 0)
    assert len(touching) == data.ncon == num_points
    gaps = np.linalg.norm(np.column_stack([pos, dist])[touching][:, None] - contacts_in_c(data), axis=-1)
    assert np.all(gaps.min(axis=0, initial=np.inf) < 1e-5)
    if num_points:
        np.testing.assert_allclose(frame[0].ravel(), data.contact[0].frame, atol=1e-6)


def contacts_in_c(data):
    """Places and distances, [n, 4] m."""
    return np.column_stack([data.contact.pos, data.contact.dist])


TWO_CUBES = """<mujoco><option gravity="0 0 0"/><worldbody>
  <body pos="0 0 0.1"><freejoint/><geom type="box" size="0.1 0.1 0.1"/></body>
  <body pos="{place}" euler="0 0 {yaw}"><freejoint/><geom type="box" size="0.1 0.06 0.08"/></body>
</worldbody></mujoco>"""


@jax.jit
def contacts_of(model, data):
    return mjx.collision(model, mjx.kinematics(model, data))._impl.contact


@pytest.mark.parametrize(
    ("place", "yaw", "num_points"),
    [
        ("0.199 0.02 0.08", 0.0, 4),  # face on face
        ("0.2135 0.0 0.08", 20.0, 2),  # a vertical edge in a face
        ("0.02 0.2135 0.08", -70.0, 2),
        ("0.18 0.159 0.08", 0.0, 4),  # overlapping in part
        ("0.21 0.1 0.08", 0.0, 0),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_box_touches_another_in_as_many_points_as_in_c(place, yaw, num_points, is_first):
    """Each once, and halfway between the surfaces, whichever box owns the face that the others' points lie on."""
    model = mujoco.MjModel.from_xml_string(TWO_CUBES.format(place=place, yaw=yaw))
    if not is_first:
        model.geom_size[:] = model.geom_size[::-1]
        model.qpos0[:] = np.roll(model.qpos0, 7)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with corrected():
        contact = contacts_of(mjx.put_model(model), mjx.make_data(model))
    touching = np.flatnonzero(np.asarray(contact.dist) <= 0)
    assert len(touching) == data.ncon == num_points
    ours = np.column_stack([contact.pos, contact.dist])[touching]
    gaps = np.linalg.norm(ours[:, None] - contacts_in_c(data), axis=-1)
    assert np.all(gaps.min(axis=0, initial=np.inf) < 1e-4)  # MJX is that exact where edges coincide
    assert np.all(gaps.min(axis=1, initial=np.inf) < 1e-4)


def test_mjx_is_left_as_it_was():
    before = dict(collision_driver._COLLISION_FUNC)
    with corrected():
        changed = {key for key, function in collision_driver._COLLISION_FUNC.items() if function is not before[key]}
        assert len(changed) == 4
    assert collision_driver._COLLISION_FUNC == before
