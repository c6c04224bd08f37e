"""What can be differentiated, and what is said where it cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety

ACTION = jnp.array([0.05, 0.1])


def in_motion(env):
    """A state after two steps straight ahead. Where the robot turns, it sticks and slips, and rounding soon decides."""
    state, step = env.reset(jax.random.key(0)), jax.jit(env.step)
    for _ in range(2):
        state = step(state, jnp.array([1.0, 0.0]))
    return state


def reward(env, state):
    """The reward of a step as a function of its action."""
    return lambda action: env.step(state, action).reward


def differences(function, width=0.003):
    """Central differences at `ACTION`."""
    return [(function(ACTION + h) - function(ACTION - h)) / (2 * width) for h in width * jnp.eye(2)]


@pytest.mark.parametrize("differentiate", [jax.grad, jax.jacfwd])
def test_the_c_engine_has_no_derivatives_and_says_so(differentiate):
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")
    with pytest.raises(ValueError, match="no derivatives on physics='mujoco', which computes outside of JAX; use"):
        differentiate(reward(env, in_motion(env)))(ACTION)


def test_restore_on_the_c_engine_says_so_too():
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")
    snapshot = env.snapshot(env.reset(jax.random.key(0)))
    with pytest.raises(ValueError, match="no derivatives on physics='mujoco', which computes outside of JAX; use"):
        jax.grad(lambda pos: env.restore(snapshot.replace(root_pos=pos)).obs.sum())(snapshot.root_pos)


@pytest.mark.slow
def test_settings_of_the_program_around_it_change_no_derivative():
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mjx")
    state = env.reset(jax.random.key(0))
    expected = jax.jacfwd(lambda action: env.step(state, action).reward)(ACTION)
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = jax.jacfwd(lambda action: env.step(state, action).reward)(ACTION)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


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
    state = in_motion(env)
    function = jax.jit(reward(env, state))
    slopes = jax.jit(jax.jacfwd(function))(ACTION)
    np.testing.assert_allclose(slopes, differences(function), rtol=0.02)
    np.testing.assert_allclose(slopes, [-0.0026710, -0.0023816], rtol=1e-3)
    in_c = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")
    in_c_reward = jax.jit(reward(in_c, in_c.restore(env.snapshot(state))))
    np.testing.assert_allclose(slopes, differences(in_c_reward), rtol=0.02)
    with pytest.raises(ValueError, match="no reverse-mode derivatives"):
        jax.grad(function)(ACTION)


@pytest.mark.slow
def test_slopes_of_many_states_are_those_of_differences():
    """Against central differences of two widths. Where these disagree, sticking turns to slipping between them."""
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mjx")
    key, action_key = jax.random.split(jax.random.key(0))
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(key, 32))
    for held in jax.random.uniform(action_key, (6, 32, 2), minval=-0.9, maxval=0.9):
        states, before, actions = jax.jit(jax.vmap(env.step))(states, held), states, held

    def velocity(action, state):
        after = env.snapshot(env.step(state, action))
        return jnp.append(after.root_linvel[:2], after.root_angvel[2])

    slopes = jax.jit(jax.vmap(jax.jacfwd(velocity)))(actions, before)  # [32, velocity, action]
    evaluate = jax.jit(jax.vmap(velocity))
    wide, narrow = (
        jnp.stack([(evaluate(actions + h, before) - evaluate(actions - h, before)) / (2 * width) for h in steps], -1)
        for width, steps in ((1e-3, 1e-3 * jnp.eye(2)), (3e-4, 3e-4 * jnp.eye(2)))
    )
    smooth = np.abs(wide - narrow) <= 0.01 * np.abs(wide) + 2e-3
    right = np.abs(slopes - wide) <= 0.02 * np.abs(wide) + 4e-3
    assert smooth.mean(axis=0).min() > 0.5, smooth.mean(axis=0)
    assert right[smooth].mean() > 0.98, (slopes[smooth & ~right], wide[smooth & ~right])
    assert np.abs(wide[:, 2, 1]).max() > 1.0, "the turning torque turns"
