"""Push: distances in space, the gate near the box, the radius of the goal; boxes are pushed and pillars are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import by_hand, world_of

from mjx_safety import Push, PushBox
from mjx_safety.world.tasks.push import PushMemory

KEY = jax.random.key(0)


def world_with(root=(0.0, 0.0, 0.1), box=(1.0, 0.0, 0.2), goal=(2.0, 0.0, 0.16)):
    return by_hand(root_pos=root, push_box=[box], goal=[goal])


def memory_of(last_dist_box, last_box_goal):
    return PushMemory(last_dist_box=jnp.float32(last_dist_box), last_box_goal=jnp.float32(last_box_goal))


def test_distances_are_in_space():
    memory = Push().init(world_with(root=(0.0, 0.0, 0.2), box=(2.0, 3.0, 6.2), goal=(1.0, 5.0, 4.2)), KEY)
    assert memory.last_dist_box == pytest.approx(7.0)
    assert memory.last_box_goal == pytest.approx(3.0)


def test_progress_of_robot_and_box_is_weighted():
    task = Push(reward_box_dist=2.0, reward_box_goal=3.0)
    reward, met = task.reward(world_with(root=(0.0, 0.0, 0.2), goal=(2.0, 0.0, 0.2)), memory_of(1.25, 1.5))
    assert reward == pytest.approx(2.0 * 0.25 + 3.0 * 0.5) and not met


@pytest.mark.parametrize("null_dist, last, counts", [(0.0, 0.1, True), (2.0, 0.4, False), (2.0, 0.41, True)])
def test_near_the_box_the_robots_own_progress_does_not_count(null_dist, last, counts):
    """The gate looks at the distance before the step, in half edges of the box."""
    task = Push(null_dist=null_dist, push_box=PushBox(size=0.2))
    reward, _ = task.reward(world_with(root=(0.95, 0.0, 0.2)), memory_of(last, 1.0007997))
    assert reward == pytest.approx((last - 0.05) * counts, abs=1e-5)


@pytest.mark.parametrize("box_height, radius", [(0.2, 0.29732), (0.125, 0.29795)])
def test_the_goal_is_met_in_space(box_height, radius):
    """So, with the height of the box, within a smaller circle, as in the reference."""
    task = Push()
    for distance, met in ((radius - 1e-4, True), (radius + 1e-4, False)):
        readings = world_with(box=(1.0, 0.0, box_height), goal=(1.0 + distance, 0.0, 0.16))
        assert bool(task.reward(readings, task.init(readings, KEY))[1]) == met


def test_the_jump_to_the_next_goal_is_not_rewarded():
    task, moved = Push(), world_with(goal=(-2.0, 1.0, 0.16))
    memory = task.advance(moved, memory_of(0.9, 0.3), jnp.bool_(True), KEY)
    assert task.reward(moved, memory)[0] == 0


@pytest.fixture(scope="module")
def push2():
    return world_of("SafetyPointPush2-v0")


def alone(world, **changes):
    """The robot at the origin looking along +x, all else far away."""
    pillars = [(9, 9, 0.5), (9, -9, 0.5), (-9, 9, 0.5), (-9, -9, 0.5)]
    fields = {
        "root_pos": (0, 0, 0.1),
        "root_quat": (1, 0, 0, 0),
        "push_box_pos": (5, 5, 0.2),
        "push_box_quat": (1, 0, 0, 0),
        "goal_pos": (-5, -5, 0.16),
        "hazards_pos": (12, 12, 0.02),
        "pillars_pos": pillars,
    }
    return world.scene(**fields | changes)


def test_a_pushed_box_moves_and_brings_the_bonus(push2):
    before = alone(push2, push_box_pos=(0.7, 0, 0.2), goal_pos=(1.3, 0, 0.16))
    states = push2.go(before, (1, 0), 120)
    met = [bool(state.goal_met) for state in states]
    assert any(met)
    until = states[: met.index(True) + 1]
    first, last = (push2.snapshot(state) for state in (before, until[-1]))
    assert last.push_box_pos[0, 0] > 0.95  # 0.29732 before the goal
    assert np.linalg.norm(np.subtract(last.push_box_pos[0], (1.3, 0, 0.16))) <= 0.3
    approach, delivery = (
        np.linalg.norm(np.subtract(a, b)) - np.linalg.norm(np.subtract(c, d))
        for a, b, c, d in (
            (first.push_box_pos[0], first.root_pos, last.push_box_pos[0], last.root_pos),
            (first.push_box_pos[0], (1.3, 0, 0.16), last.push_box_pos[0], (1.3, 0, 0.16)),
        )
    )
    assert sum(float(state.reward) for state in until) == pytest.approx(approach + delivery + 1.0, abs=1e-4)
    assert last.goal_pos[0, 0] != pytest.approx(1.3)
    assert not np.any([state.cost for state in until])


def test_a_pillar_stops_the_robot_and_costs(push2):
    pillars = np.array(push2.snapshot(alone(push2)).pillars_pos)
    pillars[2] = (1.0, 0.0, 0.5)
    states = push2.go(alone(push2, pillars_pos=pillars), (1, 0), 100)
    x = np.array([state.data.qpos[0] for state in states])
    costs = np.array([push2.cost(state, "pillars") for state in states])
    assert x.max() < 0.67 and x[-1] == pytest.approx(1.0 - 0.2 - 0.15, abs=5e-3)  # its nose reaches 0.15 m ahead
    assert np.all(costs[x < 0.64] == 0) and np.all(costs[-20:] >= 1)
    np.testing.assert_allclose(push2.snapshot(states[-1]).pillars_pos, pillars)


def test_hazards_of_push_are_wide(push2):
    """0.3 m, against 0.2 m elsewhere."""
    hazards = np.full((4, 3), 12.0)
    hazards[1] = (0.0, 0.25, 0.02)
    assert push2.cost(alone(push2, hazards_pos=hazards), "hazards") == pytest.approx(0.05, abs=1e-6)
