"""What every navigation environment promises, checked for all ids. One batch of each id serves all its tests."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import OUTCOMES, B, Batch, assert_same_snapshot, keys

from mjx_safety import BENCHMARK_IDS, NAVIGATION_IDS

T = 25  # random steps
ROBOTS = {  # entries of the robot, actions, s per step, nq, nv
    "Point": (12, 2, 0.02, 3, 3),
    "Car": (24, 2, 0.04, 13, 11),
    "Doggo": (56, 12, 0.1, 20, 19),
    "Ant": (40, 8, 0.1, 15, 14),
}
OBS_SIZES = {  # of Point, Car, Doggo, Ant
    "Goal0": (28, 40, 72, 56),
    "Goal1": (60, 72, 104, 88),
    "Goal2": (60, 72, 104, 88),
    "Button0": (44, 56, 88, 72),
    "Button1": (76, 88, 120, 104),
    "Button2": (76, 88, 120, 104),
    "Push0": (44, 56, 88, 72),
    "Push1": (76, 88, 120, 104),
    "Push2": (76, 88, 120, 104),
    "Circle0": (28, 40, 72, 56),
    "Circle1": (28, 40, 72, 56),
    "Circle2": (28, 40, 72, 56),
    "Run0": (12, 24, 56, 40),
}
LIDARS = {
    "Goal0": "goal",
    "Goal1": "goal hazards vases",
    "Goal2": "goal hazards vases",
    "Button0": "buttons goal",
    "Button1": "buttons goal hazards gremlins",
    "Button2": "buttons goal hazards gremlins",
    "Push0": "goal push_box",
    "Push1": "goal hazards pillars push_box",
    "Push2": "goal hazards pillars push_box",
    "Circle0": "circle",
    "Circle1": "circle",
    "Circle2": "circle",
    "Run0": "",
}
COSTS = {
    "Goal0": "",
    "Goal1": "hazards",
    "Goal2": "hazards vases_contact vases_velocity",
    "Button0": "",
    "Button1": "buttons hazards gremlins",
    "Button2": "buttons hazards gremlins",
    "Push0": "",
    "Push1": "hazards",
    "Push2": "hazards pillars",
    "Circle0": "",
    "Circle1": "out_of_boundary",
    "Circle2": "out_of_boundary",
    "Run0": "out_of_boundary",
}
MOVING = {  # free bodies besides the robot
    "Goal1": 1,
    "Goal2": 10,
    "Button1": 4,
    "Button2": 6,
    "Push0": 1,
    "Push1": 1,
    "Push2": 1,
}
EXTENTS = {  # m, half of the square where things are placed
    "Goal0": 1.0,
    "Goal1": 1.5,
    "Goal2": 2.0,
    "Button0": 1.0,
    "Button1": 1.5,
    "Button2": 1.8,
    "Push0": 1.0,
    "Push1": 1.5,
    "Push2": 2.0,
}


class Case(Batch):
    def __init__(self, env_id):
        super().__init__(env_id, T)
        self.env_id = env_id
        self.robot, self.level = re.fullmatch("Safety(Point|Car|Doggo|Ant)(.*)-v0", env_id).groups()

    @functools.cached_property
    def first(self):
        return self.world.snapshots(self.states[0])

    def places(self, snapshot, kind):
        """Centres [B, N, 2] m."""
        field = "root" if kind == "robot" else kind
        return np.asarray(getattr(snapshot, f"{field}_pos")).reshape(B, -1, 3)[..., :2]


@pytest.fixture(scope="module", params=NAVIGATION_IDS)
def case(request):
    return Case(request.param)


def test_the_27_of_the_benchmark_come_first():
    assert len(BENCHMARK_IDS) == 27 and NAVIGATION_IDS[:27] == BENCHMARK_IDS and len(NAVIGATION_IDS) == 52


def test_sizes_are_the_references(case):
    _, num_actions, dt, nq, nv = ROBOTS[case.robot]
    moving = MOVING.get(case.level, 0)
    assert case.env.obs_size == OBS_SIZES[case.level][list(ROBOTS).index(case.robot)]
    assert case.env.action_size == num_actions
    assert case.env.dt == pytest.approx(dt)
    assert case.env.cost_names == tuple(COSTS[case.level].split())
    assert case.env.episode_length == (500 if case.level.startswith(("Circle", "Run")) else 1000)
    assert (case.env.mj_model.nq, case.env.mj_model.nv) == (nq + 7 * moving, nv + 6 * moving)


def test_slices_cover_the_observation_in_order(case):
    slices = case.env.obs_slices
    sensors = case.env.config.robot.sensors
    assert sensors[:4] == ("accelerometer", "velocimeter", "gyro", "magnetometer")
    assert list(slices) == [*sensors, *(f"{kind}_lidar" for kind in LIDARS[case.level].split())]
    stops = [0, *(where.stop for where in slices.values())]
    assert [where.start for where in slices.values()] == stops[:-1]
    assert stops[-1] == case.env.obs_size
    assert slices[sensors[-1]].stop == ROBOTS[case.robot][0]


def test_an_episode_starts_at_rest_without_cost(case):
    first = case.states[0]
    for name in OUTCOMES:
        np.testing.assert_array_equal(getattr(first, name), 0, err_msg=name)
    np.testing.assert_array_equal(first.data.qvel, 0)
    np.testing.assert_array_equal(first.data.time, 0)
    np.testing.assert_allclose(case.first.root_pos[:, 2], case.env.config.robot.start_height)


def test_layouts_keep_all_distances(case):
    placed = {"robot": case.env.config.robot, **case.env.config.placed}
    places = np.concatenate([case.places(case.first, kind) for kind in placed], axis=1)
    keepout = np.concatenate([np.full(kind.num, kind.keepout) for kind in placed.values()])
    gap = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    needed = (keepout[:, None] + keepout) * (1 - np.eye(len(keepout)))
    assert np.all(gap >= needed - 1e-5)
    if case.level in EXTENTS:
        assert np.all(np.abs(places) <= EXTENTS[case.level] - keepout[:, None] + 1e-5)


def test_every_world_has_its_own_layout(case):
    for name in ("robot", *(set(case.env.config.placed) - {"circle", "boundary"})):
        places = case.places(case.first, name).reshape(B, -1)
        assert len(np.unique(places, axis=0)) == B, name


def test_random_steps_stay_in_bounds(case):
    last = case.states[-1]
    obs, reward, cost, costs = (
        np.stack([getattr(state, name) for state in case.states]) for name in ("obs", "reward", "cost", "costs")
    )
    for leaf in jax.tree.leaves((obs, reward, costs, last.data, last.places, last.memory)):
        assert np.all(np.isfinite(leaf))
    for kind in LIDARS[case.level].split():
        lidar = obs[..., case.env.obs_slices[f"{kind}_lidar"]]
        assert np.all((lidar >= 0) & (lidar <= 1)) and np.any(lidar > 0), kind
    assert np.all(costs >= 0)
    np.testing.assert_array_equal(cost, (costs.sum(-1) > 0).astype(np.float32))
    assert not np.any(last.terminated | last.truncated | last.placement_failed)
    np.testing.assert_array_equal(last.step_count, T)
    np.testing.assert_allclose(last.data.time, T * case.env.dt, rtol=1e-5)


def test_states_keep_their_shapes_and_types(case):
    first = case.states[0]
    shapes = {
        "obs": ((B, case.env.obs_size), "float32"),
        "reward": ((B,), "float32"),
        "cost": ((B,), "float32"),
        "costs": ((B, len(case.env.cost_names)), "float32"),
        "goal_met": ((B,), "bool"),
        "terminated": ((B,), "bool"),
        "truncated": ((B,), "bool"),
        "placement_failed": ((B,), "bool"),
        "blew_up": ((B,), "bool"),
        "step_count": ((B,), "int32"),
    }
    for name, (shape, dtype) in shapes.items():
        value = getattr(first, name)
        assert (value.shape, value.dtype.name) == (shape, dtype), name
    case.assert_same_forms()


def test_snapshots_survive_a_restore(case):
    assert_same_snapshot(case.world.snapshots(case.restored), case.last, 1e-5)
    state = case.states[-1]
    sensed = case.env.obs_slices[case.env.config.robot.sensors[-1]].stop
    np.testing.assert_allclose(case.restored.obs[:, sensed:], state.obs[:, sensed:], atol=1e-5)
    np.testing.assert_allclose(case.restored.costs, state.costs, atol=1e-5)
    np.testing.assert_array_equal(case.restored.cost, state.cost)
    for name in ("reward", "step_count", "goal_met", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(case.restored, name), 0, err_msg=name)


def test_a_restored_world_goes_on_as_the_original(case):
    actions = case.world.actions(B, seed=6)
    after, again = case.world.steps(case.states[-1], actions), case.world.steps(case.restored, actions)
    assert_same_snapshot(case.world.snapshots(again), case.world.snapshots(after), 1e-4)
    np.testing.assert_allclose(again.reward, after.reward, atol=1e-4)


def test_meeting_the_goal_gives_the_bonus_and_a_new_clear_goal(case):
    """Of the tasks that move a goal."""
    task = case.env.config.task
    if task.moves is None:
        return
    first, is_push = case.first, task.name == "Push"
    there = first.push_box_pos[:, 0] if is_push else first.root_pos
    goal = first.goal_pos.at[:, 0, :2].set(there[:, :2])
    memory = {"last_box_goal": jnp.abs(there - goal[:, 0])[:, 2]} if is_push else {"last_dist_goal": jnp.zeros(B)}
    before = case.world.restores(first.replace(goal_pos=goal, **memory), keys(2))
    after = case.world.steps(before, jnp.zeros((B, case.env.action_size)))
    assert np.all(after.goal_met) and not np.any(after.terminated)
    np.testing.assert_allclose(after.reward, 1.0, atol=0.05)
    snapshot = case.world.snapshots(after)
    goals = case.places(snapshot, "goal")
    assert len(np.unique(goals, axis=0)) == B
    for kind, settings in {"robot": case.env.config.robot, **case.env.config.placed}.items():
        gap = np.linalg.norm(case.places(snapshot, kind) - goals, axis=-1)
        assert kind == "goal" or np.all(gap >= settings.keepout + task.goal.keepout - 1e-5), kind
    following = case.world.steps(after, jnp.zeros((B, case.env.action_size)))
    assert not np.any(following.goal_met)
    assert np.all(np.abs(following.reward) < 0.05)


def test_each_function_is_traced_and_compiled_once(case):
    """After all of the above."""
    assert case.restored.step_count.shape == (B,)
    assert set(case.world.traces) == {"resets", "steps", "restores", "snapshots"}
    for name, count in case.world.traces.items():
        assert count == 1, name
        assert getattr(case.world, name)._cache_size() == 1, name
