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


def test_a_step_takes_a_state_of_its_own(world):
    state, action, batch = world.reset(jax.random.key(0)), jnp.zeros(2), mjx_safety.vectorize(world.env, 2)
    for wrong in (state.obs, (state,), {"obs": state.obs}, None):
        with pytest.raises(ValueError, match=r"step got a \w+ as its state; it takes a State"):
            world.env.step(wrong, action)
        with pytest.raises(ValueError, match=r"step got a .* as its states; it takes the VecState of its own 2 worlds"):
            batch.step(wrong, jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"snapshot got a .* as its state; it takes a State"):
        world.env.snapshot(state.obs)
    for wrong in (state, {"root_pos": jnp.zeros(3)}):
        with pytest.raises(ValueError, match=r"restore got a .*; it takes a Snapshot"):
            world.env.restore(wrong)
    states = jax.eval_shape(mjx_safety.vectorize(world.env, 3).reset, jax.random.key(0))
    with pytest.raises(ValueError, match="step got a VecState of 3 as its states"):
        jax.eval_shape(batch.step, states, jnp.zeros((2, 2)))


def test_a_state_of_another_environment_is_refused(world):
    for changes, name in (
        ({"hazards": mjx_safety.Hazards(num=2)}, "obs"),
        ({"vases": mjx_safety.Vases(num=2)}, "obs"),
        ({"lidar": mjx_safety.Lidar(num_bins=4)}, "obs"),
    ):
        other = mjx_safety.make(ID, physics="mujoco", **changes)
        foreign = jax.eval_shape(other.reset, jax.random.key(0))
        with pytest.raises(ValueError, match=f"step got a state whose {name} has shape .*; it takes one state"):
            jax.eval_shape(world.env.step, foreign, jnp.zeros(2))
    few, many = (
        mjx_safety.make(ID, physics="mujoco", hazards=mjx_safety.Hazards(num=num, keepout=0.1)) for num in (2, 3)
    )
    with pytest.raises(ValueError, match=r"whose hazards has shape \(2, 3\), and this environment's has \(3, 3\)"):
        jax.eval_shape(many.step, jax.eval_shape(few.reset, jax.random.key(0)), jnp.zeros(2))
    batch = jax.eval_shape(jax.vmap(world.env.reset), jax.random.split(jax.random.key(0), 3))
    with pytest.raises(ValueError, match=r"jax.vmap\(env.step\)"):
        jax.eval_shape(world.env.step, batch, jnp.zeros(2))


@pytest.mark.parametrize("action", [jnp.zeros(2, jnp.complex64), jax.random.split(jax.random.key(0), 2)])
def test_an_action_is_of_real_numbers(world, action):
    with pytest.raises(ValueError, match="it must be an array of real numbers"):
        world.env.step(world.reset(jax.random.key(0)), action)


def test_what_is_no_environment_is_refused(world):
    with pytest.raises(ValueError, match="vectorize got a str; it takes an environment"):
        mjx_safety.vectorize(ID, 2)
    with pytest.raises(ValueError, match="register got a EnvConfig for 'Mine-v0'; it takes a function"):
        mjx_safety.registry.register("Mine-v0", world.env.config)
    with pytest.raises(ValueError, match="unknown physics None; choose from"):
        mjx_safety.make(ID, physics=None)
    with pytest.raises(ValueError, match="reset_many got 0 worlds; it takes at least 1"):
        world.env.reset_many(jax.random.key(0), 0)
    with pytest.raises(ValueError, match="vectorize got the class Env; it takes an environment"):
        mjx_safety.vectorize(type(world.env), 2)


@pytest.mark.parametrize("num", [2.0, "2", True, None, -1])
def test_many_worlds_are_a_whole_number(world, num):
    with pytest.raises(ValueError, match=r"reset_many got .* worlds; it takes at least 1, a whole number"):
        world.env.reset_many(jax.random.key(0), num)


@pytest.mark.parametrize("num", [np.int64(2), jnp.int32(2)])
def test_many_worlds_may_be_a_number_of_numpy_or_jax(world, num):
    obs = jax.eval_shape(lambda key: world.env.reset_many(key, num).obs, jax.random.key(0))
    assert obs.shape == (2, world.env.obs_size)


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        (
            "cost_budget",
            ("a", float("nan"), -1.0, 0, True, [1.0, 2.0], jnp.ones(3), 1j),
            "a number above 0, or 2 of",
        ),
        ("stagger", ("no", 1, None), "True or False"),
        ("keep_blow_up", ("no", 0), "True or False"),
        ("autoreset", ("never", None), "one of same_step, next_step, disabled"),
    ],
)
def test_a_wrong_choice_of_vectorize_is_refused_by_name(world, name, values, allowed):
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name} is .*; it must be .*{allowed}"):
            mjx_safety.vectorize(world.env, 2, **{name: value})


def test_a_budget_may_be_a_number_or_one_per_world(world):
    for budget in (2, 2.5, np.float32(2), jnp.ones(2), float("inf")):
        assert mjx_safety.vectorize(world.env, 2, cost_budget=budget).cost_budget is budget
    jax.eval_shape(lambda budget: mjx_safety.vectorize(world.env, 2, cost_budget=budget).cost_budget, jnp.float32(1))


def test_the_number_of_worlds_is_a_whole_one(world):
    assert mjx_safety.vectorize(world.env, np.int64(2)).num_envs == 2
    for num in (0, 2.5, None, True):
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


NO_ARRAYS = ["key", np.array([None, None], object), np.array(["a", "b"]), np.random.default_rng(0), [0.0, "b"]]


@pytest.mark.parametrize("wrong", NO_ARRAYS, ids=["text", "objects", "texts", "generator", "list"])
def test_what_jax_takes_for_no_array_is_told_in_one_sentence(world, wrong):
    """Also inside of `jax.jit`, where it is a constant."""
    env, state, key = world.env, world.reset(jax.random.key(0)), jax.random.key(0)
    given, keyed = r"got an? .* as its", r"key(\[1\])?; it takes one typed PRNG key, such as jax\.random\.key\(0\)"
    snapshot = env.snapshot(state)
    for call, words in {
        (lambda: env.reset(wrong)): f"^reset {given} {keyed}",
        (lambda: env.reset_many(wrong, 2)): f"^reset_many {given} {keyed}",
        (lambda: env.restore(snapshot, wrong)): f"^restore {given} {keyed}",
        (lambda: env.step(state, wrong)): rf"^step {given} action(\[1\])?; it takes an array of real numbers",
        (lambda: env.step(wrong, jnp.zeros(2))): rf"^step {given} state(\[1\])?; it takes a State \(see `env\.reset`\)",
        (lambda: env.step(state.replace(reward=wrong), jnp.zeros(2))): rf"^step {given} state\.reward.*; it takes a",
        (lambda: env.snapshot(wrong)): rf"^snapshot {given} state(\[1\])?; it takes a State",
    }.items():
        for run in (call, jax.jit(call)):
            with pytest.raises(ValueError, match=words):
                run()
    velocity = mjx_safety.make("SafetyHopperVelocity-v1", physics="mujoco")
    with pytest.raises(ValueError, match=f"^reset {given} {keyed}"):
        velocity.reset(wrong)
    assert world.env.reset(key).obs.shape == (env.obs_size,)


def test_a_wrong_name_of_an_argument_and_an_error_of_a_task_stay_as_they_are(world):
    class Odd(mjx_safety.Goal):
        def reward(self, readings, memory):
            raise TypeError("of the task")

    with pytest.raises(TypeError, match="unexpected keyword argument 'seed'"):
        world.env.reset(seed=0)
    odd = mjx_safety.make(ID, physics="mujoco", task=Odd())
    with pytest.raises(TypeError, match="of the task"):
        jax.eval_shape(odd.step, jax.eval_shape(odd.reset, jax.random.key(0)), jnp.zeros(2))


def test_a_state_without_its_key_is_named(world):
    """NumPy holds no typed keys, so a state goes to the host without one."""
    state, action = world.reset(jax.random.key(0)), jnp.zeros(2)
    held = jax.device_get(state.replace(key=None))
    with pytest.raises(ValueError, match="step got a state whose key is None; it takes a state with a key"):
        world.env.step(held, action)
    again = world.env.step(held.replace(key=state.key), action)
    np.testing.assert_array_equal(again.obs, world.step(state, action).obs)
    assert world.env.snapshot(held).root_pos.shape == (3,)
