"""What can be differentiated, and what is said where it cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety

ACTION = jnp.array([0.05, 0.1])


def reward(env):
    """The reward of a step as a function of its action, from a state in motion."""
    state = env.reset(jax.random.key(0))
    step = jax.jit(env.step)
    for _ in range(5):
        state = step(state, jnp.array([1.0, 0.3]))
    return lambda action: env.step(state, action).reward


@pytest.mark.parametrize("differentiate", [jax.grad, jax.jacfwd])
def test_the_c_engine_has_no_derivatives_and_says_so(differentiate):
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")
    with pytest.raises(ValueError, match="no derivatives on physics='mujoco', which computes outside of JAX; use"):
        differentiate(reward(env))(ACTION)


def test_settings_can_be_differentiated_on_the_c_engine():
    """The reward's scale is not an input of the physics."""
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")
    state = env.reset(jax.random.key(0))
    slope = jax.grad(lambda env: env.step(state, jnp.array([1.0, 0.0])).reward, allow_int=True)(env)
    progress = env.step(state, jnp.array([1.0, 0.0])).reward
    np.testing.assert_allclose(slope.config.task.reward_distance, progress, rtol=1e-6)


@pytest.mark.slow
def test_mjx_has_forward_mode_and_says_so():
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mjx")
    function = jax.jit(reward(env))
    slopes = jax.jit(jax.jacfwd(function))(ACTION)
    finite = [(function(ACTION + h) - function(ACTION - h)) / 0.02 for h in 0.01 * jnp.eye(2)]
    np.testing.assert_allclose(slopes, finite, rtol=0.02)
    np.testing.assert_allclose(slopes, [-0.0022722, -0.0019699], rtol=1e-3)
    with pytest.raises(ValueError, match="no reverse-mode derivatives"):
        jax.grad(function)(ACTION)
