"""Small slips in the arguments of `reset` and `step`, each told in one sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import world_of

import mjx_safety

ID = "SafetyPointGoal0-v0"


@pytest.fixture(scope="module")
def world():
    return world_of(ID)


@pytest.mark.parametrize("key", [0, np.int64(3), jnp.zeros(3), [0, 1]])
def test_what_is_no_key_is_refused(world, key):
    with pytest.raises(ValueError, match="as its key; it takes one typed PRNG key"):
        world.env.reset(key)
    with pytest.raises(ValueError, match="as its key; it takes one typed PRNG key"):
        mjx_safety.vectorize(world.env, 2).reset(key)


def test_many_keys_are_for_vmap(world):
    with pytest.raises(ValueError, match=r"reset got key<fry>\[3\] as its key.*jax.vmap\(env.reset\)"):
        world.env.reset(jax.random.split(jax.random.key(0), 3))


def test_an_old_style_key_is_the_typed_one(world):
    old, new = jax.random.key_data(jax.random.key(4)), jax.random.key(4)
    np.testing.assert_array_equal(world.reset(old).obs, world.reset(new).obs)


@pytest.mark.parametrize("action", [[1.0, 0.2], (1.0, 0.2)])
def test_a_list_is_no_action(world, action):
    state = world.reset(jax.random.key(0))
    with pytest.raises(ValueError, match=r"action is a (list|tuple); Point takes \(2,\)"):
        world.env.step(state, action)
    with pytest.raises(ValueError, match=r"action is a list; 2 worlds take \(2, 2\)"):
        mjx_safety.vectorize(world.env, 2).step(None, [[0.0, 0.0]] * 2)


def test_a_batch_takes_an_action_for_each_world(world):
    with pytest.raises(ValueError, match=r"action has shape \(2,\); 3 worlds take \(3, 2\)"):
        mjx_safety.vectorize(world.env, 3).step(None, jnp.zeros(2))


def test_the_number_of_worlds_is_a_whole_one(world):
    assert mjx_safety.vectorize(world.env, np.int64(2)).num_envs == 2
    for num in (0, 2.5, None):
        with pytest.raises(ValueError, match=r"num_envs is .*; it must be "):
            mjx_safety.vectorize(world.env, num)


def test_an_environment_may_be_a_static_argument(world):
    state = world.reset(jax.random.key(0))
    step = jax.jit(lambda env, state: env.step(state, jnp.zeros(2)).obs, static_argnums=0)
    np.testing.assert_allclose(step(world.env, state), world.step(state, jnp.zeros(2)).obs, atol=1e-6)
    assert repr(world.env) == "Env(Point, Goal, mujoco: 1 goal)"


def test_an_environment_can_be_made_while_something_is_traced():
    def obs(key):
        env = mjx_safety.make(ID, physics="mujoco")
        return env.step(env.reset(key), jnp.zeros(2)).obs

    assert jax.eval_shape(obs, jax.random.key(0)).shape == (28,)
