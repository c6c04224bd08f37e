"""What the functions of `mjx_safety.viz` are given by mistake is named in one sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import world_of

import mjx_safety
from mjx_safety import viz

WORLD = world_of("SafetyPointGoal1-v0")
DRAW = {name: getattr(viz, name) for name in ("plot_lidar", "draw_top_view", "render")}


@pytest.fixture(scope="module")
def state():
    return jax.device_get(WORLD.reset(jax.random.key(0)).replace(key=None))


@pytest.mark.parametrize("name", DRAW)
def test_what_is_no_state_is_refused(name, state):
    states = jax.eval_shape(mjx_safety.vectorize(WORLD.env, 2).reset, jax.random.key(0))
    wrong = {"State, such as states.env_state of this VecState": states}
    wrong |= {f"State, such as one that env.step returned {i}": x for i, x in enumerate((state.obs, None, WORLD.env))}
    wrong |= {"State, such as one that env.step returned": mjx_safety.Snapshot(root_pos=jnp.zeros(3))}
    for takes, given in wrong.items():
        word = type(given).__name__
        with pytest.raises(ValueError, match=f"{name} got an? {word} as its state; it takes a {takes.rstrip(' 012')}$"):
            DRAW[name](WORLD.env, given)


@pytest.mark.parametrize("name", DRAW)
def test_what_is_no_environment_is_refused(name, state):
    for env, word in (
        *(("SafetyPointGoal1-v0", "a str"), (state.obs, "a ndarray"), (state, "a State")),
        *((mjx_safety.vectorize(WORLD.env, 2), "a VecEnv"), (type(WORLD.env), "the class Env")),
    ):
        with pytest.raises(ValueError, match=f"{name} got {word} as its env; it takes an environment of mjx_safety"):
            DRAW[name](env, state)


@pytest.mark.parametrize("name", DRAW)
def test_a_state_of_another_environment_is_refused(name, state):
    other = mjx_safety.make("SafetyPointGoal2-v0", physics="mujoco")
    with pytest.raises(ValueError, match=rf"{name} got a state whose costs has shape \(1,\), and this .* has \(3,\)"):
        DRAW[name](other, state)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state)
    with pytest.raises(ValueError, match=rf"{name} got a state whose costs has shape \(2, 1\), .* has \(2, 3\)"):
        DRAW[name](other, batch)


def test_the_heading_is_that_of_a_model_with_its_data(state):
    with pytest.raises(ValueError, match=r"heading got a Env and a State; it takes a mujoco\.MjModel"):
        viz.heading(WORLD.env, state)


@pytest.mark.parametrize("name", DRAW)
def test_what_has_no_place_is_not_drawn(name, state):
    lost = state.replace(data=state.data.replace(qpos=state.data.qpos * jnp.nan))
    with pytest.raises(ValueError, match=rf"{name} got a state whose data\.qpos is not finite"):
        DRAW[name](WORLD.env, lost)
    with pytest.raises(ValueError, match=rf"{name} got a state whose places\.markers\['goal'\] is not finite"):
        goal = state.places.markers | {"goal": np.full((1, 3), np.inf, np.float32)}
        DRAW[name](WORLD.env, state.replace(places=state.places.replace(markers=goal)))


@pytest.mark.parametrize("name", DRAW)
def test_nothing_is_drawn_inside_of_jit(name, state):
    with pytest.raises(ValueError, match=f"{name} got a traced state; it draws on the host"):
        jax.jit(lambda state: DRAW[name](WORLD.env, state))(state)


def test_options_of_another_type_are_named(state):
    with pytest.raises(ValueError, match="draw_top_view got axes of the type int; it takes Axes of matplotlib"):
        viz.draw_top_view(WORLD.env, state, axes=3)
    with pytest.raises(ValueError, match="halo is 'no'; it must be True or False"):
        viz.render(WORLD.env, state, halo="no")
