"""Whole environments side by side: ended episodes start anew on fresh layouts and forget the old."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import B, assert_close, row, world_of

import mjx_safety
from mjx_safety import Button, EnvConfig

LENGTH = 4  # steps of an episode


@pytest.fixture(scope="module", params=["SafetyPointGoal1-v0", "SafetyPointButton1-v0"])
def run(request):
    """Batch states after reset and after each of LENGTH + 1 steps, and the world they are of."""
    venv = mjx_safety.vectorize(mjx_safety.make(request.param, physics="mujoco", episode_length=LENGTH), B)
    step, states = jax.jit(venv.step), [jax.jit(venv.reset)(jax.random.key(0))]
    for _ in range(LENGTH + 1):
        states.append(step(states[-1], jnp.full((B, 2), 0.5)))
    assert step._cache_size() == 1
    return world_of(request.param), states


@pytest.mark.thorough
def test_all_episodes_end_at_the_time_limit(run):
    _, states = run
    for index, state in enumerate(states):
        np.testing.assert_array_equal(state.truncated, index == LENGTH)
        assert not np.any(state.terminated)


def test_the_last_observation_is_that_of_the_old_world(run):
    world, states = run
    before = states[LENGTH - 1].env_state
    np.testing.assert_allclose(
        states[LENGTH].final_obs, world.steps(before, jnp.full((B, 2), 0.5)).obs, atol=1e-5, rtol=1e-5
    )
    assert not np.any(np.all(np.isclose(states[LENGTH].obs, states[LENGTH].final_obs), axis=-1))


def test_fresh_worlds_have_fresh_layouts_and_no_past(run):
    world, states = run
    first, fresh = states[0].env_state, states[LENGTH].env_state
    for kind in ("goal", "hazards"):
        places = np.concatenate([first.places.markers[kind], fresh.places.markers[kind]]).reshape(2 * B, -1)
        assert len(np.unique(places, axis=0)) == 2 * B
    for name in ("time", "qvel", "ctrl"):
        np.testing.assert_array_equal(getattr(fresh.data, name), getattr(first.data, name), err_msg=name)
    np.testing.assert_array_equal(fresh.step_count, 0)
    snapshots = world.snapshots(fresh)
    distance = np.linalg.norm(snapshots.root_pos[:, :2] - snapshots.goal_pos[:, 0, :2], axis=-1)
    np.testing.assert_allclose(fresh.memory.last_dist, distance, atol=1e-6)
    if world.env.config.task.name == "Button":
        np.testing.assert_array_equal(fresh.memory.timer, 0)


def test_what_is_observed_is_the_fresh_world(run):
    world, states = run
    snapshots = world.snapshots(states[LENGTH].env_state)
    restored = world.restores(snapshots, jax.random.split(jax.random.key(0), B))
    assert_close(restored.obs, states[LENGTH].obs, 1e-4)
    assert_close(restored.data.qacc_warmstart, states[LENGTH].env_state.data.qacc_warmstart, 1e-4)


def test_statistics_start_again(run):
    _, states = run
    last, after = states[LENGTH], states[LENGTH + 1]
    np.testing.assert_allclose(last.episode_return, sum(state.reward for state in states[1 : LENGTH + 1]), atol=1e-6)
    np.testing.assert_array_equal(last.episode_length, LENGTH)
    np.testing.assert_array_equal(after.episode_length, 1)
    np.testing.assert_array_equal(after.episode_return, after.reward)


@pytest.mark.parametrize("layouts", ["per_env", "fixed"])
def test_the_first_target_belongs_to_the_layout(layouts):
    """Worlds that keep their layout start every episode with the same target, as the reference's fixed layout does."""
    num, episodes = 4, 12
    env = mjx_safety.make(EnvConfig(task=Button(), layouts=layouts, episode_length=1), physics="mujoco")
    venv = mjx_safety.vectorize(env, num)
    step, states = jax.jit(venv.step), jax.jit(venv.reset)(jax.random.key(0))
    targets = []
    for _ in range(episodes):
        targets.append(np.asarray(states.env_state.memory.target))
        buttons = row(states.env_state, 0).data.mocap_pos
        states = step(states, jnp.zeros((num, 2)))
        np.testing.assert_array_equal(row(states.env_state, 0).data.mocap_pos, buttons)
        goals = states.env_state.places.markers["goal"][:, 0, :2]
        places = states.env_state.data.mocap_pos[jnp.arange(num), states.env_state.memory.target, :2]
        np.testing.assert_allclose(goals, places)
    by_world = np.stack(targets).T
    assert all(len(set(column)) == 1 for column in by_world)
    assert (len(set(by_world[:, 0])) == 1) == (layouts == "fixed")
