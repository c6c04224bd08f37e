"""Episodes: same key, same episode; how they end; actions that are none; physics that blows up."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import B, World, assert_close, assert_equal, plain, row, world_of

from mjx_safety import Button, EnvConfig, Goal, GoalArea

T = 8
AHEAD = jnp.array([1.0, 0.0])


@pytest.fixture(scope="module", params=["SafetyPointGoal1-v0", "SafetyPointButton1-v0"])
def world(request):
    return world_of(request.param)


@pytest.fixture(scope="module")
def goal1():
    return world_of("SafetyPointGoal1-v0")


@pytest.fixture(scope="module")
def short():
    """Three steps at most, and the end when the goal is met. A second goal has hardly any place to be."""
    goal = GoalArea(keepout=0.305, placements=((0.0, 0.0, 0.7, 0.7),))
    return World(EnvConfig(task=Goal(goal=goal), episode_length=3), continue_goal=False)


@pytest.fixture(scope="module")
def batch_run(world):
    """States after reset and each of T random steps, B worlds side by side."""
    keys, actions = jax.random.split(jax.random.key(0), B), world.actions(T, B)
    states = [world.resets(keys)]
    for t in range(T):
        states.append(world.steps(states[-1], actions[t]))
    return keys, actions, states


def assert_same_world(state, expected):
    """Flags exactly, numbers up to rounding: XLA adds in another order in a batch."""
    for name in ("key", "goal_met", "terminated", "truncated", "step_count", "cost"):
        assert_equal(getattr(state, name), getattr(expected, name))
    chex.assert_trees_all_close(plain(state), plain(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.thorough
def test_a_batch_equals_a_loop(world, batch_run):
    keys, actions, batch = batch_run
    for i in (0, B - 1):
        state = world.reset(keys[i])
        assert_same_world(state, row(batch[0], i))
        for t in range(T):
            state = world.step(state, actions[t, i])
            assert_same_world(state, row(batch[t + 1], i))


def test_the_same_key_gives_the_same_episode(world, batch_run):
    keys, actions, batch = batch_run
    state = world.resets(keys)
    assert_equal(state, batch[0])
    for t in range(T):
        state = world.steps(state, actions[t])
    assert_equal(state, batch[-1])


def test_one_world_traces_and_compiles_once(world, batch_run, key):
    state = world.reset(key)
    world.reset(jax.random.key(1))
    for _ in range(3):
        state = world.step(state, jnp.zeros(2))
    assert world.traces["reset"] == world.traces["step"] == 1
    assert world.reset._cache_size() == world.step._cache_size() == 1


def test_actions_may_be_numpy_arrays_without_a_second_trace(goal1, key):
    state = goal1.reset(key)
    assert_equal(goal1.step(state, np.ones(2, np.float32)), goal1.step(state, jnp.ones(2)))
    assert goal1.traces["step"] == 1


def test_methods_need_no_jit_of_the_callers(goal1, key):
    """Called as they are, they compile themselves and do the same."""
    state = goal1.env.reset(key)
    assert_close(plain(state), plain(goal1.reset(key)), 1e-5)
    assert state.obs.shape == (60,)


def test_an_environment_can_be_an_argument_of_a_compiled_function(goal1, key):
    reset = jax.jit(lambda env, key: env.reset(key))
    assert_close(plain(reset(goal1.env, key)), plain(goal1.reset(key)), 1e-5)
    reset(goal1.env.replace(config=goal1.env.config), key)
    assert reset._cache_size() == 1


def near_goal(world, distance, robot=(0.35, 0.35), **changes):
    """The robot looks at a goal `distance` m ahead of it."""
    changes = {"root_quat": (1, 0, 0, 0), "goal_pos": (robot[0] + distance, robot[1], 0.16), **changes}
    return world.scene(root_pos=(*robot, 0.1), **changes)


def test_episodes_are_truncated_exactly_at_their_length(short, key):
    state = short.reset(key)
    for count in (1, 2, 3):
        state = short.step(state, jnp.zeros(2))
        assert state.step_count == count
        assert bool(state.truncated) == (count == 3)
        assert not state.terminated


@pytest.mark.parametrize("steps_before", [0, 2])
def test_without_continuation_the_goal_terminates_and_wins_over_the_time_limit(short, steps_before):
    count = jnp.int32(steps_before)
    after = short.step(near_goal(short, 0.3003, robot=(-0.5, -0.5)).replace(step_count=count), AHEAD)
    assert after.goal_met and after.terminated and not after.truncated
    after = short.step(near_goal(short, 0.5).replace(step_count=count), AHEAD)
    assert not after.goal_met and not after.terminated and bool(after.truncated) == (steps_before == 2)


def test_without_continuation_the_last_observation_shows_the_goal_that_is_met(short):
    """The robot stands where alone goals may be, so a search would fail."""
    before = near_goal(short, 0.3003)
    after = short.step(before, AHEAD)
    assert after.goal_met and after.terminated and not after.placement_failed
    np.testing.assert_array_equal(short.snapshot(after).goal_pos, short.snapshot(before).goal_pos)


def test_without_continuation_the_target_button_stays():
    world = World(EnvConfig(task=Button(), continue_goal=False))
    place = {"root_pos": (0, 0, 0.1), "root_quat": (1, 0, 0, 0), "buttons_pos": [(0.24, 0, 0.1), *[(0, 3, 0.1)] * 3]}
    states = world.go(world.scene(**place, goal_button=0, buttons_timer=0), AHEAD, 20)
    after = next(state for state in states if state.goal_met)
    assert after.terminated and after.memory.target == 0 and after.memory.timer == 0


def test_an_episode_whose_next_goal_finds_no_place_terminates(short):
    """The robot stands where alone goals may be."""
    before = near_goal(short, 0.3003)
    assert not before.placement_failed
    env = short.env.replace(config=dataclasses.replace(short.env.config, continue_goal=True))
    after = jax.jit(env.step)(before, AHEAD)
    assert after.goal_met and after.reward > 1
    assert after.placement_failed and after.terminated and not after.truncated


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 2)])
def test_an_action_of_the_wrong_size_names_the_robot_and_its_size(goal1, key, shape):
    with pytest.raises(ValueError, match=r"Point takes \(2,\)") as error:
        goal1.env.step(goal1.reset(key), jnp.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("action", [(np.nan, 1.0), (np.inf, 0.0), (0.5, -np.inf)])
def test_an_action_that_is_no_number_acts_as_zero_control(goal1, key, action):
    state = goal1.reset(key)
    assert_equal(goal1.step(state, jnp.array(action)), goal1.step(state, jnp.zeros(2)))


def test_actions_are_clipped_to_the_controls_range(goal1, key):
    state = goal1.reset(key)
    assert_equal(goal1.step(state, jnp.array([7.0, -3.0])), goal1.step(state, jnp.array([1.0, -1.0])))


BLOW_UPS = [
    ("root_linvel", 1e11),
    ("root_linvel", 1e30),
    ("root_angvel", 1e30),
    ("vases_linvel", 1e11),
    ("vases_linvel", 1e30),
    ("vases_angvel", 1e30),
    ("vases_linvel", np.nan),
]


@pytest.mark.parametrize("field, value", BLOW_UPS)
@pytest.mark.filterwarnings("error")
def test_a_blow_up_ends_the_episode_with_a_penalty_and_a_cost(goal1, field, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file
    after = goal1.step(goal1.scene(**{field: value}), jnp.ones(2))
    assert after.reward == -10 and after.cost == 1
    assert after.terminated and not after.truncated and not after.goal_met
    assert after.blew_up and not goal1.step(goal1.scene(), jnp.ones(2)).blew_up
    assert np.all(np.isfinite(after.obs)) and np.all(np.isfinite(after.costs))


def test_one_world_that_blows_up_leaves_the_others_alone(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    states = world.resets(jax.random.split(jax.random.key(0), B))
    broken = states.replace(data=states.data.replace(qvel=states.data.qvel.at[1].set(1e30)))
    expected, after = (world.steps(s, jnp.full((B, 2), 0.5)) for s in (states, broken))
    np.testing.assert_array_equal(after.terminated, np.arange(B) == 1)
    np.testing.assert_array_equal(after.blew_up, after.terminated)
    for i in (0, 2, B - 1):
        assert_equal(row(after, i), row(expected, i))
