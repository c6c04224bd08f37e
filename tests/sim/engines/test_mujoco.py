"""The C engine's own promises: copies, pickles, and no files in the user's folder."""

import copy
import pickle

import jax
import jax.numpy as jnp
import mujoco
import pytest
from worlds import assert_equal

import mjx_safety


@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_step_alike(again):
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")
    fresh = again(env)
    state = env.step(env.reset(jax.random.key(0)), jnp.ones(2))
    for other in (fresh, again(env)):  # before and after it has stepped
        assert_equal(other.step(state, jnp.ones(2)), env.step(state, jnp.ones(2)))
    assert_equal(again(state), state)


@pytest.mark.slow
@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_step_alike_on_mjx(again):
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mjx")
    state = env.step(env.reset(jax.random.key(0)), jnp.ones(2))
    assert_equal(again(env).step(state, jnp.ones(2)), env.step(state, jnp.ones(2)))


def test_a_blow_up_writes_no_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = mjx_safety.make("SafetyCarGoal0-v0", physics="mujoco")
    state = env.reset(jax.random.key(0))
    wild = state.replace(data=state.data.replace(qvel=state.data.qvel.at[0].set(1e30)))
    assert env.step(wild, jnp.ones(2)).terminated
    assert not list(tmp_path.iterdir()) and mujoco.get_mju_user_warning() is None


def test_a_program_s_own_handler_of_warnings_is_heard():
    heard = []
    mujoco.set_mju_user_warning(heard.append)
    try:
        env = mjx_safety.make("SafetyCarGoal0-v0", physics="mujoco")
        state = env.reset(jax.random.key(0))
        wild = state.replace(data=state.data.replace(qvel=state.data.qvel.at[0].set(1e30)))
        jax.block_until_ready(env.step(wild, jnp.ones(2)))
        assert heard
        assert mujoco.get_mju_user_warning() is not None
    finally:
        mujoco.set_mju_user_warning(None)
