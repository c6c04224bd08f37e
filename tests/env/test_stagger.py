"""Staggered worlds of the package: an observation of the time belongs to the step at which the world starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety

T, B = 20, 8


@pytest.mark.parametrize(("layouts", "profile"), [("per_episode", "1.0.0"), ("per_env", "2019")])
def test_the_remaining_time_is_that_of_the_counter(layouts, profile):
    extras = ("qpos", "remaining", "ctrl")
    env = mjx_safety.make(
        "SafetyPointGoal0-v0", physics="mujoco", extras=extras, episode_length=T, layouts=layouts, profile=profile
    )
    batch, part = mjx_safety.vectorize(env, B, stagger=True), env.obs_slices["remaining"]
    states, step = jax.jit(batch.reset)(jax.random.key(0)), jax.jit(batch.step)
    assert len(np.unique(states.env_state.step_count)) > 3
    others = np.delete(states.obs, part.start, axis=1)
    unstaggered = jax.jit(mjx_safety.vectorize(env, B).reset)(jax.random.key(0))
    np.testing.assert_array_equal(others, np.delete(unstaggered.obs, part.start, axis=1))
    for _ in range(T):
        np.testing.assert_allclose(states.obs[:, part.start], states.env_state.step_count / T, atol=1e-7)
        states = step(states, jnp.zeros((B, 2)))
    assert not np.any(states.partial & ~states.done)
