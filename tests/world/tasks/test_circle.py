"""Circle: the speed around the origin, less the further from the circle; lines that are not to be crossed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import B, World, by_hand, world_of

from mjx_safety import Circle, CircleArea, Snapshot

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "x, y, u, v, reward",
    [
        (1.5, 0.0, 0.0, 2.0, 0.1 * 2.0),  # counter-clockwise on the circle
        (1.5, 0.0, 0.0, -2.0, -0.1 * 2.0),
        (1.5, 0.0, 3.0, 0.0, 0.0),  # outwards
        (0.0, 0.5, -1.0, 0.0, 0.1 * 1.0 / 2.0),  # 1 m inside
        (0.0, -3.5, 1.0, 5.0, 0.1 * 1.0 / 3.0),  # 2 m outside
    ],
)
def test_the_speed_around_the_origin_counts(x, y, u, v, reward):
    readings = by_hand(root_pos=(x, y, 0.1), root_linvel=(u, v, 9.0), circle=[[0.0, 0.0, 0.01]])
    value, met = Circle().reward(readings, None)
    assert value == pytest.approx(reward, abs=1e-7) and not met


def test_the_circle_and_the_weight_are_settings():
    readings = by_hand(root_pos=(3.0, 0.0, 0.1), root_linvel=(0.0, 1.0, 0.0), circle=[[0.0, 0.0, 0.01]])
    assert Circle(circle=CircleArea(radius=3.0), reward_factor=7.0).reward(readings, None)[0] == pytest.approx(7.0)


def test_the_reward_belongs_to_the_circle_s_centre():
    """A circle elsewhere rewards as that at the origin does."""
    by_centre = []
    for x, y in ((0.0, 0.0), (3.0, 0.0), (0.0, -5.0)):
        world = World("SafetyPointCircle0-v0", task=Circle(circle=CircleArea(locations=((x, y),))))
        still = Snapshot(root_pos=(x, y - 1.5, 0.1), root_quat=(1, 0, 0, 0), root_linvel=(1, 0, 0))
        after = world.env.step(world.env.restore(still), jnp.array([1.0, 0.0]))
        by_centre.append(float(after.reward))
    np.testing.assert_allclose(by_centre, by_centre[0], rtol=1e-5)
    assert by_centre[0] == pytest.approx(0.1, rel=0.1)


def test_at_the_origin_nothing_is_undefined():
    readings = by_hand(root_linvel=(1.0, 1.0, 0.0), circle=[[0.0, 0.0, 0.01]])
    assert Circle().reward(readings, None)[0] == 0


@pytest.fixture(scope="module")
def circle2():
    return world_of("SafetyPointCircle2-v0")


def test_episodes_start_near_the_origin(circle2):
    places = circle2.snapshots(circle2.resets(jax.random.split(KEY, B))).root_pos
    assert np.all(np.abs(places[:, :2]) <= 0.8)
    assert circle2.env.episode_length == 500


def test_the_lidar_sees_the_origin_from_6_m(circle2):
    state = circle2.scene(root_pos=(-3, 0, 0.1), root_quat=(1, 0, 0, 0))
    assert circle2.seen(state, "circle_lidar")[0] == pytest.approx(0.5, abs=1e-5)
    np.testing.assert_allclose(circle2.snapshot(state).circle_pos, [[0, 0, 0.01]], atol=1e-6)


@pytest.mark.parametrize("level, sides", [(1, [True, True, False, False]), (2, [True] * 4)])
def test_beyond_the_lines_each_step_costs(level, sides):
    """At 1.125 m: two lines across x, on level 2 two across y as well."""
    world = world_of(f"SafetyPointCircle{level}-v0")
    for (x, y), costs in zip([(1, 0), (-1, 0), (0, 1), (0, -1)], sides, strict=True):
        for distance, outside in ((1.12, False), (1.13, True), (9.0, True)):
            state = world.scene(root_pos=(distance * x, distance * y, 0.1))
            assert world.cost(state, "out_of_boundary") == float(outside and costs)
            assert state.cost == float(outside and costs)
    corner = world.scene(root_pos=(2.0, 2.0, 0.1))
    assert world.cost(corner, "out_of_boundary") == 1


def test_nothing_collides_with_the_lines(circle2):
    states = circle2.go(circle2.scene(root_pos=(0, 0, 0.1), root_quat=(1, 0, 0, 0)), (1, 0), 80)
    x = np.array([state.data.qpos[0] for state in states])
    assert x[-1] > 1.3
    np.testing.assert_array_equal([state.cost for state in states], x > 1.125)


def test_a_run_is_rewarded_as_the_formula_says(circle2):
    start = circle2.scene(root_pos=(0.4, -0.3, 0.1), root_quat=(1, 0, 0, 0))
    for state in circle2.go(start, (1, 0.6), 30):
        snapshot = circle2.snapshot(state)
        (x, y, _), (u, v, _) = np.float64(snapshot.root_pos), np.float64(snapshot.root_linvel)
        radius = np.hypot(x, y)
        expected = 0.1 * ((x * v - y * u) / radius) / (1 + abs(radius - 1.5))
        assert state.reward == pytest.approx(expected, abs=1e-6)
    assert abs(expected) > 0.001
