"""Goal: distances in the plane, the bonus at the radius, nothing for the jump to the next goal; the reference's run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import by_hand, world_of

from mjx_safety import Goal, GoalArea

KEY = jax.random.key(0)


def test_progress_counts_in_the_plane():
    task = Goal(reward_distance=2.0)
    memory = task.init(by_hand(goal=[[3.0, 4.0, 0.16]]), KEY)
    assert memory.last_dist == pytest.approx(5.0)
    reward, met = task.reward(by_hand(root_pos=(3.0, 0.0, 7.0), goal=[[3.0, 4.0, 0.16]]), memory)
    assert reward == pytest.approx(2.0 * (5.0 - 4.0)) and not met


@pytest.mark.parametrize("distance, met", [(0.2999, True), (0.3, True), (0.3001, False)])
def test_the_goal_is_met_at_its_radius(distance, met):
    task = Goal()
    readings = by_hand(goal=[[distance, 0.0, 0.16]])
    assert bool(task.reward(readings, task.init(readings, KEY))[1]) == met
    assert bool(Goal(goal=GoalArea(size=0.1)).reward(readings, task.init(readings, KEY))[1]) is False


def test_the_jump_to_the_next_goal_is_not_rewarded():
    task, moved = Goal(), by_hand(goal=[[0.0, 2.0, 0.16]])
    memory = task.advance(moved, task.init(by_hand(goal=[[0.3, 0.0, 0.16]]), KEY), jnp.bool_(True), KEY)
    assert task.reward(moved, memory)[0] == 0


@pytest.fixture(scope="module")
def run():
    """Sheet 9.5: from (-1, 0) straight ahead to the goal at (1.2, 0), past a hazard at (0, 0.1)."""
    world = world_of("SafetyPointGoal1-v0")
    hazards = np.full((8, 3), 9.0)
    hazards[0] = (0.0, 0.1, 0.02)
    start = world.scene(
        root_pos=(-1, 0, 0.1),
        root_quat=(1, 0, 0, 0),
        hazards_pos=hazards,
        vases_pos=(9, -9, 0.1),
        goal_pos=(1.2, 0, 0.16),
    )
    return world, [start, *world.go(start, (1, 0), 91)]


def test_hazards_cost_what_they_do_in_the_reference(run):
    world, states = run
    costs = np.array([world.cost(state, "hazards") for state in states])
    expected = {50: 0.0073927531, 53: 0.0674471158, 56: 0.0996764887, 59: 0.0767120725, 62: 0.0169309869}
    for step, cost in expected.items():
        assert costs[step] == pytest.approx(cost, abs=1e-5), step
    assert np.all(costs[:50] == 0) and np.all(costs[50:63] > 0) and np.all(costs[63:] == 0)
    np.testing.assert_array_equal([state.cost for state in states], costs > 0)


def test_progress_is_the_references(run):
    _, states = run
    xs = {50: -0.164613, 53: -0.087007, 56: -0.008050, 59: 0.072110, 62: 0.153344, 89: 0.917044}
    rewards = {50: 0.025540, 53: 0.026027, 56: 0.026460, 59: 0.026846, 62: 0.027189, 89: 1.029005}
    for step, x in xs.items():
        assert states[step].data.qpos[0] == pytest.approx(x, abs=1e-5), step
        assert states[step].reward == pytest.approx(rewards[step], abs=1e-5), step


def test_the_goal_is_met_when_it_is_in_the_reference(run):
    world, states = run
    np.testing.assert_array_equal([bool(state.goal_met) for state in states], np.arange(92) == 89)
    before, after = (world.snapshot(states[step]).goal_pos for step in (88, 89))
    assert np.all(before[0, :2] != after[0, :2]) and before[0, 2] == after[0, 2]
    distance = np.linalg.norm(world.snapshot(states[89]).root_pos[:2] - after[0, :2])
    closeness = world.seen(states[89], "goal_lidar").max()  # the observation already shows the next goal
    assert closeness == pytest.approx(max(0.0, 1 - distance / 3), abs=1e-5)
    assert abs(states[90].reward) < 0.03


def test_lidar_and_compass_are_the_references():
    """Sheet 9.4, through the whole environment."""
    world = world_of("SafetyPointGoal1-v0")
    yaw = {"root_pos": (0, 0, 0.1), "root_quat": (np.cos(0.15), 0, 0, np.sin(0.15))}
    hazards = np.full((8, 3), 9.0)
    hazards[:3] = [(1, 0, 0.02), (0.5, 0.5, 0.02), (0.9, 0.1, 0.02)]
    state = world.scene(**yaw, hazards_pos=hazards, goal_pos=(-1.2, 0.7, 0.16), vases_pos=(0, -2.9, 0.1))
    expected = {
        "hazards_lidar": {0: 0.58388046, 1: 0.76429774, 2: 0.18041728, 14: 0.50929582, 15: 0.69815383},
        "goal_lidar": {5: 0.53691853, 6: 0.47856931, 4: 0.05834923},
        "vases_lidar": {11: 0.03333333, 10: 0.02546479, 12: 0.00786854},
    }
    for name, bins in expected.items():
        lidar = [bins.get(index, 0.0) for index in range(16)]
        np.testing.assert_allclose(world.seen(state, name), lidar, atol=1e-5, err_msg=name)
