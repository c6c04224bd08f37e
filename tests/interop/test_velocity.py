"""The Velocity family through every adapter: the same worlds as `make`, costs included."""

import warnings

import jax
import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

import mjx_safety  # noqa: E402
import mjx_safety.interop.gymnasium  # noqa: E402  registers the ids
import mjx_safety.interop.safety_gymnasium as safety_gymnasium  # noqa: E402

ID = "SafetyHopperVelocity-v1"
STEPS = 5


@pytest.fixture(scope="module")
def world():
    return mjx_safety.make(ID, physics="mujoco", threshold=0.0)  # any way ahead costs


def actions(num=STEPS):
    return np.random.default_rng(0).uniform(-1, 1, (num, 3)).astype(np.float32)


def walk(world, state):
    """States after each step, by the functions of `make`."""
    states = []
    for action in actions():
        state = world.step(state, action)
        states.append(state)
    return states


def test_gymnasium(world):
    env = gymnasium.make(f"mjx_safety/{ID}", threshold=0.0)
    obs, info = env.reset(seed=3)
    assert obs in env.observation_space and env.observation_space.shape == (11,) and env.action_space.shape == (3,)
    assert set(info) >= {"cost", "cost_velocity"}
    for action, state in zip(actions(), walk(world, env.unwrapped.state), strict=True):
        obs, reward, terminated, truncated, info = env.step(action)
        np.testing.assert_allclose(obs, state.obs, rtol=1e-6)
        assert (reward, info["cost"], terminated) == (float(state.reward), float(state.cost), bool(state.terminated))
    assert not truncated


def test_gymnasium_in_batches():
    envs = gymnasium.make_vec(f"mjx_safety/{ID}", num_envs=3, vectorization_mode="vector_entry_point")
    obs, _ = envs.reset(seed=0)
    assert obs.shape == (3, 11) and len(np.unique(obs, axis=0)) == 3
    obs, reward, _, _, info = envs.step(np.zeros((3, 3), np.float32))
    assert obs.shape == (3, 11) and reward.shape == info["cost"].shape == (3,)


def test_safety_gymnasium(world):
    env = safety_gymnasium.make(ID, threshold=0.0)
    env.reset(seed=3)
    costs = []
    states = walk(world, env.unwrapped.state)
    for action, state in zip(actions(), states, strict=True):
        _, reward, cost, terminated, _, info = env.step(action)
        assert (reward, cost, terminated) == (float(state.reward), float(state.cost), bool(state.terminated))
        assert info["cost_sum"] == cost
        costs.append(cost)
    assert 0 < sum(costs), "no step ahead among them: the test shows nothing"


def test_brax_steps_the_world_of_make(world):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Brax's own
        pytest.importorskip("brax")
        from mjx_safety.interop import brax
    env = brax.wrap(world)
    state = jax.jit(env.reset)(jax.random.key(3))
    expected = world.reset(jax.random.key(3))
    np.testing.assert_array_equal(state.obs, expected.obs)
    step = jax.jit(env.step)
    for action, one in zip(actions(), walk(world, expected), strict=True):
        state = step(state, action)
        np.testing.assert_allclose(state.obs, one.obs, rtol=1e-6)
        assert (state.reward, state.metrics["cost"], state.done) == (one.reward, one.cost, one.terminated)
