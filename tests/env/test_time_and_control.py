"""Settings of the builder for time and control: frameskip, left-out physics steps, noisy actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import World

import mjx_safety
from mjx_safety import (
    Car,
    EnvConfig,
    Goal,
    GoalArea,
)

N = 64  # worlds, for what is drawn at random


def keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


@pytest.fixture(scope="module")
def noisy():
    """States after each of some steps of N worlds with a random number of physics steps and noisy controls."""
    world = World(EnvConfig(frameskip=8, frameskip_prob=0.75, action_noise=0.1))
    states = [world.resets(keys(N))]
    for _ in range(12):
        states.append(world.steps(states[-1], jnp.tile(jnp.array([0.95, 2.0]), (N, 1))))
    return world.env, states


def test_the_number_of_physics_steps_is_binomial(noisy):
    env, states = noisy
    time = np.stack([state.data.time for state in states])
    counts = np.diff(time, axis=0) / 0.002
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-2)
    counts = np.round(counts).astype(int).ravel()
    assert counts.min() >= 0 and counts.max() == 8 and len(set(counts)) >= 5
    assert counts.mean() == pytest.approx(6.0, abs=0.2)  # 5 standard errors of 768 draws
    assert counts.var() == pytest.approx(1.5, abs=0.5)
    assert env.dt == pytest.approx(0.002 * 8 * 0.75)
    assert states[-1].step_count[0] == 12


def test_worlds_draw_their_own_numbers_of_physics_steps(noisy):
    _, states = noisy
    counts = np.round(np.diff([state.data.time for state in states], axis=0) / 0.002)
    assert len(np.unique(counts, axis=0)) == len(counts) and len(np.unique(counts, axis=1).T) > N / 2


def test_controls_are_noisy_after_they_were_clipped(noisy):
    _, states = noisy
    noise = np.stack([state.data.ctrl for state in states[1:]]) - np.array([0.95, 1.0])
    assert noise.std(axis=(0, 1)) == pytest.approx(0.1, abs=0.015)
    assert noise.mean(axis=(0, 1)) == pytest.approx(0.0, abs=0.02)
    assert np.all(noise.max(axis=(0, 1)) > 0.1)  # and not clipped again
    assert abs(np.corrcoef(noise.reshape(-1, 2).T)[0, 1]) < 0.2


def test_physics_steps_are_left_out_on_mjx_as_on_the_c_engine():
    """From the same states, which all engines share."""
    config = EnvConfig(frameskip=4, frameskip_prob=0.5, task=Goal(goal=GoalArea(observed=False)))
    first = World(config).resets(keys(8))
    runs = []
    for physics in ("mujoco", "mjx"):
        states, step = [first], jax.jit(jax.vmap(mjx_safety.make(config, physics=physics).step))
        for _ in range(3):
            states.append(step(states[-1], jnp.ones((8, 2))))
        runs.append(jax.tree.map(lambda *leaves: np.stack(leaves), *(state.data for state in states)))
    np.testing.assert_allclose(runs[1].time, runs[0].time, atol=1e-7)
    np.testing.assert_allclose(runs[1].qpos, runs[0].qpos, atol=1e-5)
    assert len(np.unique(runs[0].time[-1])) > 2


@pytest.mark.parametrize("frameskip", [1, 5])
def test_frameskip_sets_the_length_of_a_step(frameskip):
    world = World(EnvConfig(robot=Car(), frameskip=frameskip))
    assert world.env.dt == pytest.approx(0.004 * frameskip)
    state = world.step(world.reset(jax.random.key(0)), jnp.zeros(2))
    assert state.data.time == pytest.approx(0.004 * frameskip)
