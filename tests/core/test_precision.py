"""The same shapes and types whatever a program has set: 64 bits, strict promotion of types, no promotion of ranks."""

import jax
import jax.numpy as jnp
import pytest

import mjx_safety
from mjx_safety import ENV_IDS, ENV_IDS_2019, agents
from mjx_safety.runs.training_options import default_options

B = 3
SAMPLE = ("SafetyPointGoal2-v0", "SafetyCarButton2-v0", "SafetyDoggoPush2-v0", "SafetyPointCircle2-v0")
OTHERS = [env_id for env_id in (*ENV_IDS, *ENV_IDS_2019) if env_id not in SAMPLE]


@pytest.fixture
def strict():
    """What a careful program sets, 64 bits included."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def world_types(env_id, physics):
    """Shapes and types of all that an environment and a batch of it return."""
    env = mjx_safety.make(env_id, physics=physics)
    venv = mjx_safety.vectorize(env, B, stagger=True)

    def run(key):
        first = env.reset(key)
        state = env.step(first, jnp.full(env.action_size, 0.3))
        snapshot = env.snapshot(state)
        states = venv.reset(key)
        after = venv.step(states, jnp.zeros((B, env.action_size)))
        return first, state, snapshot, env.restore(snapshot), env.reset_many(key, 2), states, after

    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), jax.eval_shape(run, jax.random.key(0)))


def check_world(env_id, physics):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        types = world_types(env_id, physics)
    assert types == world_types(env_id, physics)
    assert {dtype for _, dtype in jax.tree.leaves(types, is_leaf=lambda x: isinstance(x, tuple) and len(x) == 2)} == {
        *("float32", "int32", "bool", "key<fry>")
    }


@pytest.mark.parametrize("env_id", SAMPLE)
def test_environments_are_the_same(env_id):
    check_world(env_id, "mujoco")


@pytest.mark.slow
@pytest.mark.parametrize("env_id", OTHERS)
def test_all_environments_are_the_same(env_id):
    check_world(env_id, "mujoco")


@pytest.mark.slow
@pytest.mark.parametrize("env_id", SAMPLE)
def test_environments_are_the_same_on_mjx(env_id):
    check_world(env_id, "mjx")


def test_numbers_are_the_same_to_the_last_bit(strict):
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")
    key = jax.random.key(1)
    actions = jnp.array([0.5, -0.25])  # 64 bits
    assert actions.dtype == jnp.float64
    strict_obs = env.step(env.reset(key), actions).obs
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        obs = env.step(env.reset(key), jnp.array([0.5, -0.25])).obs
    assert strict_obs.dtype == jnp.float32 and (jax.device_get(strict_obs) == jax.device_get(obs)).all()


@pytest.mark.parametrize("algo", ["ppo-lag", "sac-lag", "cpo"])
def test_trainings_are_the_same(algo):
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")

    def train_types():
        training = default_options(algo, 8)
        venv = mjx_safety.vectorize(env, 8, stagger=True)
        start = jax.eval_shape(lambda: agents.init(venv, training.build(), jax.random.key(0)))
        after, metrics = jax.eval_shape(
            lambda state: agents.iterate(venv, training.build(), training.train, state), start
        )
        types = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), (start, after, metrics))
        assert types[0] == types[1]
        return types

    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        types = train_types()
    assert types == train_types()
