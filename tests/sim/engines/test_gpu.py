"""On an accelerator: its engines against the C engine on the CPU beside it, and a whole training iteration."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import agents

pytestmark = pytest.mark.gpu
B, T = 64, 2  # more steps would show how chaotic the servo of the turn is


def needs(engine):
    if engine == "warp" and (jax.default_backend() != "gpu" or importlib.util.find_spec("warp") is None):
        pytest.skip("needs an NVIDIA GPU and the extra 'warp'")


def run(env):
    """Positions [T, B, nq], observations and costs of B worlds under the same actions."""

    @jax.jit
    def all_steps(key):
        states = env.reset_many(key, B)
        actions = jax.random.uniform(jax.random.key(1), (T, B, env.action_size), minval=-1.0, maxval=1.0)

        def step(states, action):
            states = jax.vmap(env.step)(states, action)
            return states, (states.data.qpos, states.obs, states.cost)

        return jax.lax.scan(step, states, actions)[1]

    with jax.default_matmul_precision("highest"):
        return [np.asarray(x) for x in all_steps(jax.random.key(0))]


@pytest.mark.parametrize("engine", ["mjx", "warp"])
@pytest.mark.parametrize("env_id", ["SafetyPointGoal2-v0", "SafetyPointButton1-v0"])
def test_a_device_steps_worlds_as_the_c_engine_does(engine, env_id):
    needs(engine)
    with jax.default_device(jax.devices("cpu")[0]):
        expected = run(mjx_safety.make(env_id, physics="mujoco"))
    found = run(mjx_safety.make(env_id, physics=engine))
    apart = np.abs(found[0] - expected[0]).max(axis=(0, 2))
    assert np.quantile(apart, 0.75) < 1e-4, "some worlds begin next to an object"
    np.testing.assert_array_equal(found[2], expected[2])


@pytest.mark.parametrize("engine", ["mjx", "warp"])
def test_a_training_iteration_runs_on_the_device(engine):
    needs(engine)
    venv = mjx_safety.vectorize(mjx_safety.make("SafetyPointGoal1-v0", physics=engine), B, stagger=True)
    algorithm, config = agents.cpo(agents.CPOConfig()), agents.TrainConfig(unroll_length=16)
    state = jax.jit(lambda: agents.init(venv, algorithm, jax.random.key(0)))()
    step = jax.jit(lambda state: agents.iterate(venv, algorithm, config, state))
    for _ in range(2):
        state, metrics = step(state)
    assert all(bool(jnp.all(jnp.isfinite(value))) for value in metrics.values())
    assert {leaf.devices().pop().platform for leaf in jax.tree.leaves(state.params)} == {jax.default_backend()}
