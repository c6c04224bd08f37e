"""`vectorize` names what is wrong with states of an own environment, and with the states and masks that it is given."""

import jax.numpy as jnp
import numpy as np
import pytest

from mjx_safety.env.vector import vectorize

from .test_vector import ToyEnv

pytestmark = pytest.mark.usefixtures("strict_ranks")


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("reward", lambda x: x[None], r"reward of shape \(1,\); for one world it must be \(\)"),
        ("costs", lambda x: x[0], r"costs of shape \(\); for one world it must be \(2,\)"),
        ("obs", lambda x: x[:1], r"obs of shape \(1,\); for one world it must be \(2,\)"),
        ("terminated", lambda x: x.astype(jnp.float32), "terminated of type float32; it must be bool"),
    ],
)
def test_a_state_of_wrong_shapes_is_refused_by_field(field, change, message, key):
    class Wrong(ToyEnv):
        def step(self, state, action):
            state = super().step(state, action)
            return state.replace(**{field: change(getattr(state, field))})

    class WrongFromTheStart(ToyEnv):
        def reset(self, key):
            state = super().reset(key)
            return state.replace(**{field: change(getattr(state, field))})

    venv = vectorize(Wrong(), 4)
    with pytest.raises(ValueError, match=rf"env\.step returns {message}"):
        venv.step(venv.reset(key), jnp.zeros((4, 1)))
    with pytest.raises(ValueError, match=rf"env\.reset returns {message}"):
        vectorize(WrongFromTheStart(), 4).reset(key)


@pytest.mark.parametrize("chosen", [jnp.array([0, 2, 3]), jnp.array([1.0, 0.0, 0.0]), [True, False, False], True])
def test_the_worlds_to_restart_are_a_mask(chosen, key):
    venv = vectorize(ToyEnv(), 3, autoreset="disabled")
    states = venv.reset(key)
    with pytest.raises(ValueError, match=r"restart got .* as the chosen worlds; it takes an array bool\[3\]"):
        venv.restart(states, states, chosen)


def test_restart_and_step_take_states_of_the_same_settings(key):
    venv = vectorize(ToyEnv(), 3, autoreset="disabled")
    states, mask, actions = venv.reset(key), np.array([True, False, False]), jnp.zeros((3, 1))
    with pytest.raises(ValueError, match=r"restart got a VecState of 2 as its states; it takes .* own 3 worlds"):
        venv.restart(states, vectorize(ToyEnv(), 2).reset(key), mask)
    with pytest.raises(ValueError, match="restart got a State as its states"):
        venv.restart(states.env_state, states.env_state, mask)
    with pytest.raises(ValueError, match="began with keep_blow_up=False; this VecEnv has keep_blow_up=True"):
        vectorize(ToyEnv(), 3, keep_blow_up=True).step(states, actions)
    assert venv.restart(states, states, mask).obs.shape == (3, 2)
