"""On mjx a capsule stands in for a fixed cylinder: where it stood, and only where the two are alike."""

import mujoco
import numpy as np
import pytest

import mjx_safety
from mjx_safety import Doggo, EnvConfig, Pillars, Point, settings
from mjx_safety.core.shapes import Shape
from mjx_safety.sim.model import build_model


@settings
class Pairs(Pillars):
    """Two cylinders side by side, of unequal height."""

    @property
    def shapes(self):
        return Shape("cylinder", (0.1, 0.5)), Shape("cylinder", (0.2, 0.3), (0.6, 0.0, -0.2))


@settings
class Lamps(Pillars):
    """Cylinders that hang in the air."""

    @property
    def height(self):
        return 1.0

    @property
    def shapes(self):
        return (Shape("cylinder", (0.2, 0.3)),)


def first_contact(engine, kind, y):
    """Largest x at which a Point that comes from +x touches an object at the origin, m."""
    model = build_model(Point(), {"pillars": kind}, engine=engine)
    data, pillar = mujoco.MjData(model), model.body("pillars0").id
    data.mocap_pos[0] = 0.0, 0.0, kind.height
    for x in np.arange(1.5, -1.5, -0.005):
        data.qpos[:3] = x, y, np.pi
        mujoco.mj_forward(model, data)
        if any(pillar in model.geom_bodyid[contact.geom] for contact in data.contact):
            return x
    return None


@pytest.mark.parametrize("y", [0.0, 0.25])
def test_each_cylinder_of_an_object_keeps_its_place(y):
    found = [first_contact(engine, Pairs(num=1), y) for engine in ("mujoco", "mjx")]
    assert 0.7 < found[0] < 0.96
    np.testing.assert_allclose(found[1], found[0], atol=0.006)


def test_pillars_as_high_as_the_root_are_met_where_they_stand():
    found = [first_contact(engine, Pillars(num=1, size=0.4, half_height=0.05), 0.0) for engine in ("mujoco", "mjx")]
    np.testing.assert_allclose(found[1], found[0], atol=0.006)


@pytest.mark.parametrize(
    ("robot", "pillars", "message"),
    [
        (Point(), Pillars(num=1, half_height=0.02), "pillars0 has a cylinder that is 0.04 m high, .* Point, 0.1 m"),
        (Doggo(), Pillars(num=1, half_height=0.1), "pillars0 has a cylinder that is 0.2 m high, .* Doggo, 0.22 m"),
        (Point(), Lamps(num=1), r"pillars0 has a cylinder 0\.7 m above the floor, .* stand on it"),
    ],
)
def test_other_cylinders_are_refused_on_mjx_alone(robot, pillars, message):
    config = EnvConfig(robot=robot, pillars=pillars)
    with pytest.raises(ValueError, match=message + "; use physics='mujoco'"):
        mjx_safety.make(config, physics="mjx")
    mjx_safety.make(config, physics="mujoco")
