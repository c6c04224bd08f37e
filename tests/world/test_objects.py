"""What each kind of object does in the C engine, all in one world: rests, stands fast, hovers, is touched, costs."""

import jax
import numpy as np
import pytest
from worlds import World

from mjx_safety import Boundary, Buttons, EnvConfig, Gremlins, Hazards, Pillars, Vases, Walls

FAR = {  # where nothing is met
    "hazards_pos": [(9, 0, 0.02)],
    "pillars_pos": [(9, 9, 0.5)],
    "buttons_pos": [(0, 9, 0.1)],
    "walls_pos": [(-9, 9, 0.5)],
    "vases_pos": [(-9, 0, 0.09996), (-9, -9, 0.09996)],
    "gremlins_pos": [(9, -9, 0.1)],
    "goal_pos": [(-5, -5, 0.16)],
}
NOSE = 0.15  # m, from the Point's centre


@pytest.fixture(scope="module")
def world():
    config = EnvConfig(
        hazards=Hazards(num=1, cost=2.0),
        vases=Vases(num=2, displace_cost=1.0),
        pillars=Pillars(num=1),
        buttons=Buttons(num=1),
        gremlins=Gremlins(num=1, travel=0.35),
        walls=Walls(num=1),
        boundary=Boundary(num=4, distance=3.0),
        extents=(-3.0, -3.0, 3.0, 3.0),
        indicator=False,
    )
    return World(config)


def scene(world, **changes):
    """The robot at the origin looking along +x, all that is not named far away."""
    fields = {"root_pos": (0, 0, 0.1), "root_quat": (1, 0, 0, 0), "vases_quat": (1, 0, 0, 0)}
    fields |= FAR | changes
    fields |= {"vases_start_pos": fields["vases_pos"], "gremlins_start_pos": fields["gremlins_pos"]} | changes
    return world.scene(**fields)


def drive(world, num_steps=60, **changes):
    return world.go(scene(world, **changes), (1, 0), num_steps)


def values(world, states, name):
    return np.array([world.cost(state, name) for state in states])


def xs(states):
    return np.array([state.data.qpos[0] for state in states])


def test_sources_stand_in_the_order_of_their_objects(world):
    assert world.env.cost_names == (
        *("hazards", "pillars", "buttons", "out_of_boundary"),
        *("vases_contact", "vases_velocity", "vases_displace", "gremlins"),
    )


def test_far_from_everything_nothing_costs(world):
    for state in drive(world):
        assert state.cost == 0 and not np.any(state.costs)


def test_the_cost_without_the_indicator_is_the_sum_of_its_sources(world):
    state = scene(world, hazards_pos=(0.1, 0, 0.02), root_pos=(0, 0, 0.1), vases_linvel=(0.3, 0, 0))
    assert world.cost(state, "hazards") == pytest.approx(2 * 0.1)
    assert world.cost(state, "vases_velocity") == pytest.approx(0.6)
    assert state.cost == pytest.approx(0.8)


def test_nothing_collides_with_hazards_and_goals(world):
    free, through = drive(world), drive(world, hazards_pos=(0.4, 0, 0.02), goal_pos=(0.6, 0, 0.16))
    np.testing.assert_allclose(xs(through), xs(free), atol=1e-6)


@pytest.mark.parametrize(
    "name, place, stop",
    [
        ("pillars", (1.0, 0, 0.5), 0.8 - NOSE),
        ("buttons", (0.9, 0, 0.1), 0.8 - NOSE),
        ("walls", (1.3, 0, 0.5), 0.8 - NOSE),
    ],
)
def test_what_is_fixed_stops_the_robot(world, name, place, stop):
    states = drive(world, num_steps=100, **{f"{name}_pos": [place]})
    x = xs(states)
    assert x.max() < stop + 0.03 and x[-1] == pytest.approx(stop, abs=5e-3)
    np.testing.assert_allclose(getattr(world.snapshot(states[-1]), f"{name}_pos"), [place])
    if name != "walls":
        costs = values(world, states, name)
        assert np.all(costs[x < stop - 5e-3][:30] == 0) and np.all(costs[-20:] >= 1)


def test_walls_are_without_cost(world):
    for state in drive(world, num_steps=80, walls_pos=(1.3, 0, 0.5)):
        assert state.cost == 0


def test_vases_settle_and_stay_without_cost(world):
    """Sheet 9.5: at this height, and slower than the threshold all the time."""
    states = world.go(scene(world), (0, 0), 50)
    for name in ("vases_contact", "vases_velocity", "vases_displace"):
        np.testing.assert_array_equal(values(world, states, name), 0)
    np.testing.assert_allclose(world.snapshot(states[-1]).vases_pos[:, 2], 0.0999563805, atol=2e-8)


def test_a_vase_costs_while_touched_while_moving_and_once_displaced(world):
    states = drive(world, num_steps=100, vases_pos=[(0.6, 0, 0.09996), FAR["vases_pos"][1]])
    touched, moving, displaced = (
        values(world, states, f"vases_{name}") for name in ("contact", "velocity", "displace")
    )
    first = int(np.argmax(touched > 0))
    assert xs(states)[first] == pytest.approx(0.5 - NOSE, abs=0.03)
    assert np.all(touched[:first] == 0) and np.all(moving[:first] == 0) and np.all(displaced[:first] == 0)
    assert moving[first] > 0.1 and np.all(touched == np.round(touched))
    places = np.array([world.snapshot(state).vases_pos[0] for state in states])
    gap = np.linalg.norm(places[:, :2] - (0.6, 0), axis=-1)
    np.testing.assert_allclose(displaced, np.where(gap >= 1e-3, gap, 0), atol=1e-5)
    speeds = np.array([np.linalg.norm(world.snapshot(state).vases_linvel[0]) for state in states])
    np.testing.assert_allclose(moving, np.where(speeds >= 1e-4, speeds, 0), atol=1e-5)
    assert displaced[-1] > 0.1


def test_a_restored_vase_knows_where_it_started(world):
    state = drive(world, num_steps=40, vases_pos=[(0.6, 0, 0.09996), FAR["vases_pos"][1]])[-1]
    snapshot = world.snapshot(state)
    np.testing.assert_allclose(snapshot.vases_start_pos[0], (0.6, 0, 0.09996), atol=1e-6)
    displaced = world.cost(state, "vases_displace")
    assert displaced > 0.01
    assert world.cost(world.restore(snapshot), "vases_displace") == pytest.approx(float(displaced), abs=1e-6)
    assert world.cost(world.restore(snapshot.replace(vases_start_pos=None)), "vases_displace") == 0


def test_a_vase_pushed_by_a_vase_costs_too(world):
    places = [(2, 0, 0.09996), (2.21, 0, 0.09996)]
    states = world.go(scene(world, vases_pos=places, vases_linvel=[(2, 0, 0), (0, 0, 0)]), (0, 0), 10)
    assert np.all(values(world, states, "vases_contact") == 0)
    speeds = np.array([np.linalg.norm(world.snapshot(state).vases_linvel, axis=-1) for state in states])
    assert speeds[:, 1].max() > 0.05
    np.testing.assert_allclose(values(world, states, "vases_velocity"), (speeds * (speeds >= 1e-4)).sum(-1), atol=1e-5)


def test_a_gremlin_costs_while_touched_and_pushes_back(world):
    """Sheet 2.3: it is no ghost and not light as a vase."""
    free = xs(drive(world, num_steps=100))
    states = drive(world, num_steps=100, gremlins_pos=(0.6, -0.19, 0.1))
    touched = values(world, states, "gremlins")
    first = int(np.argmax(touched > 0))
    assert 10 < first < 90 and np.all(touched[:first] == 0)
    assert xs(states)[-1] < free[-1] - 0.05
    np.testing.assert_allclose(xs(states)[:first], free[:first], atol=1e-5)


def test_the_boundary_costs_outside_and_stops_nothing(world):
    states = drive(world, root_pos=(2.9, 0, 0.1), num_steps=40)
    x = xs(states)
    assert x[0] < 3 < x[-1]
    np.testing.assert_array_equal(values(world, states, "out_of_boundary"), x > 3)


def test_headings_are_random_for_what_can_turn(world):
    states = world.resets(jax.random.split(jax.random.key(0), 8))
    snapshots = world.snapshots(states)
    for name in ("vases_quat", "gremlins_quat", "root_quat"):
        quats = np.asarray(getattr(snapshots, name)).reshape(-1, 4)
        assert len(np.unique(quats, axis=0)) == len(quats)
        np.testing.assert_allclose(quats[:, 1:3], 0)
        np.testing.assert_allclose(np.linalg.norm(quats, axis=-1), 1, atol=1e-6)
