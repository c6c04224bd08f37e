"""Run: progress along a corridor in the direction of -y, exact over a long distance; its two lines."""

import itertools

import jax
import numpy as np
import pytest
from worlds import B, by_hand, world_of

from mjx_safety import Run
from mjx_safety.world.tasks.run import RunMemory

KEY = jax.random.key(0)


def progress(before, now):
    """Sheet 3.3, in double precision."""
    far = np.array([0.0, -1000.0])
    return np.linalg.norm(np.subtract(before[:2], far)) - np.linalg.norm(np.subtract(now[:2], far))


@pytest.mark.parametrize(
    "before, now",
    [
        ((0.0, 16.5, 0.1), (0.0, 16.49, 0.1)),
        ((0.1, 16.5, 0.1), (0.1003, 16.4997, 0.1)),
        ((-0.2, -30.0, 0.1), (-0.21, -29.99, 0.3)),
        ((0.5, 0.0, 0.1), (0.4, 0.0, 0.1)),
    ],
)
def test_progress_towards_the_far_point_counts_to_the_last_micrometre(before, now):
    reward, met = Run().reward(by_hand(root_pos=now), RunMemory(last_pos=by_hand(root_pos=before).root_pos))
    assert reward == pytest.approx(60.0 * progress(np.float32(before), np.float32(now)), abs=60 * 1e-6) and not met


def test_the_robot_is_remembered_where_it_was():
    task = Run(reward_factor=1.0)
    memory = task.init(by_hand(root_pos=(0.0, 1.0, 0.1)), KEY)
    now = by_hand(root_pos=(0.0, 0.5, 0.1))
    assert task.reward(now, memory)[0] == pytest.approx(0.5, abs=1e-6)
    assert task.reward(now, task.advance(now, memory, False, KEY))[0] == 0


@pytest.fixture(scope="module")
def run0():
    return world_of("SafetyPointRun0-v0")


def test_episodes_start_at_the_end_of_the_corridor(run0):
    places = run0.snapshots(run0.resets(jax.random.split(KEY, B))).root_pos
    assert np.all(np.abs(places[:, 0]) <= 0.2) and len(np.unique(places[:, 0])) == B
    np.testing.assert_allclose(places[:, 1], 16.5)
    assert run0.env.episode_length == 500


def test_a_run_is_rewarded_as_the_formula_says(run0):
    states = [run0.scene(root_pos=(0.1, 16.5, 0.1), root_quat=(np.sqrt(0.5), 0, 0, -np.sqrt(0.5)))]
    states += run0.go(states[0], (1, 0.1), 40)
    places = [np.float64(run0.snapshot(state).root_pos) for state in states]
    rewards = [60 * progress(*pair) for pair in itertools.pairwise(places)]
    np.testing.assert_allclose([state.reward for state in states[1:]], rewards, atol=2e-4)
    assert np.sum(rewards) > 20


def test_its_reward_is_not_clipped(run0):
    snapshot = run0.snapshot(run0.scene(root_pos=(0, 0, 0.1)))
    state = run0.step(run0.restore(snapshot.replace(last_root_pos=np.float32([0, 1, 0.1]))), np.zeros(2, np.float32))
    assert state.reward == pytest.approx(60.0, rel=1e-3)


@pytest.mark.parametrize("x, cost", [(0.0, 0), (0.49, 0), (0.51, 1), (-0.51, 1)])
def test_beyond_the_corridor_each_step_costs(run0, x, cost):
    assert run0.scene(root_pos=(x, -40, 0.1)).cost == cost
