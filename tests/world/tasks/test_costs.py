"""The sources of cost, each by its formula in the reference, on readings by hand."""

import numpy as np
import pytest
from worlds import by_hand

from mjx_safety import Boundary, Buttons, EnvConfig, Gremlins, Hazards, Pillars, Vases, Walls
from mjx_safety.world.tasks import costs


def test_hazards_cost_by_depth_at_the_centre():
    places = [[0.0, 0.15, 0.02], [0.0, -0.05, 0.02], [0.3, 0.0, 0.02], [0.2, 0.0, 0.02]]
    readings = by_hand(root_pos=(0.0, 0.0, 3.0), hazards=places)
    assert costs.hazards_cost(Hazards(num=4), readings) == pytest.approx(0.05 + 0.15, abs=1e-6)
    assert costs.hazards_cost(Hazards(num=4, size=0.35, cost=2.0), readings) == pytest.approx(
        2 * (0.2 + 0.3 + 0.05 + 0.15), abs=1e-6
    )


@pytest.mark.parametrize(
    "fn, kind, name",
    [
        (costs.vases_contact_cost, Vases(num=3, contact_cost=2.0), "vases"),
        (costs.pillars_cost, Pillars(num=3, cost=2.0), "pillars"),
        (costs.buttons_cost, Buttons(num=3, cost=2.0), "buttons"),
        (costs.gremlins_cost, Gremlins(num=3, contact_cost=2.0), "gremlins"),
    ],
)
def test_touching_costs_by_contact_points(fn, kind, name):
    assert fn(kind, by_hand(contacts={name: [0.0, 3.0, 1.0]})) == 8.0
    assert fn(kind, by_hand(contacts={name: [0.0, 0.0, 0.0]})) == 0.0


def test_moving_vases_cost_by_their_speed_in_space():
    readings = by_hand(linvel={"vases": [[0.3, 0.0, 0.4], [0.0, 0.0, -0.1], [0.0, 0.9e-4, 0.0], [0.0, 0.0, 0.0]]})
    assert costs.vases_velocity_cost(Vases(num=4, velocity_cost=2.0), readings) == pytest.approx(2 * 0.6)
    assert costs.vases_velocity_cost(Vases(num=4, velocity_threshold=0.2), readings) == pytest.approx(0.5)
    assert costs.vases_velocity_cost(Vases(num=4, velocity_threshold=0.0), readings) == pytest.approx(0.60009)


@pytest.mark.parametrize("speed, cost", [(0.9e-4, 0.0), (1e-4, 1e-4), (2e-4, 2e-4)])
def test_a_vase_moves_from_the_threshold_on(speed, cost):
    readings = by_hand(linvel={"vases": [[0.0, 0.0, speed]]})
    assert costs.vases_velocity_cost(Vases(), readings) == pytest.approx(cost)


def test_displaced_vases_cost_by_how_far_in_the_plane():
    start = {"vases": [[0.0, 0.0, 0.1], [1.0, 0.0, 0.1], [2.0, 0.0, 0.1]]}
    readings = by_hand(vases=[[0.3, 0.4, 0.5], [1.0009, 0.0, 0.1], [2.0, 0.0, 0.9]], start_pos=start)
    vases = Vases(num=3, displace_cost=2.0)
    assert costs.vases_displace_cost(vases, readings) == pytest.approx(1.0)
    everything = Vases(num=3, displace_cost=1.0, displace_threshold=0.0)
    assert costs.vases_displace_cost(everything, readings) == pytest.approx(0.5009, abs=1e-6)


@pytest.mark.parametrize("num, beyond_x, beyond_y", [(2, 1, 0), (4, 1, 1)])
def test_the_boundary_costs_beyond_its_lines(num, beyond_x, beyond_y):
    boundary = Boundary(num=num, distance=0.5, cost=3.0)
    for sign in (1, -1):
        assert costs.boundary_cost(boundary, by_hand(root_pos=(sign * 0.501, 0.0, 0.1))) == 3.0 * beyond_x
        assert costs.boundary_cost(boundary, by_hand(root_pos=(0.0, sign * 0.501, 0.1))) == 3.0 * beyond_y
        assert costs.boundary_cost(boundary, by_hand(root_pos=(sign * 0.499, sign * 0.499, 0.1))) == 0
    assert costs.boundary_cost(boundary, by_hand(root_pos=(9.0, 9.0, 0.1))) == 3.0


def test_costs_are_float32():
    kinds = {"hazards": Hazards(), "vases": Vases(displace_cost=1.0), "pillars": Pillars(), "gremlins": Gremlins()}
    kinds |= {"buttons": Buttons(), "boundary": Boundary()}
    one = [[1.0, 0.0, 0.1]]
    moving = {"vases": one}
    contacts = {name: [1.0] for name in ("vases", "pillars", "buttons", "gremlins")}
    readings = by_hand(hazards=one, vases=one, contacts=contacts, linvel=moving, start_pos=moving)
    for name, kind in kinds.items():
        for source, fn in costs.sources(name, kind).items():
            value = fn(kind, readings)
            assert (value.dtype, value.shape) == (np.float32, ()), source


def test_each_kind_has_its_sources():
    assert list(costs.sources("vases", Vases())) == ["vases_contact", "vases_velocity"]
    assert list(costs.sources("vases", Vases(displace_cost=0.1)))[2:] == ["vases_displace"]
    assert list(costs.sources("boundary", Boundary())) == ["out_of_boundary"]
    for name, kind in {"goal": EnvConfig().task.goal, "walls": Walls()}.items():
        assert costs.sources(name, kind) == {}
