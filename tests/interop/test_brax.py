"""Brax's interface: its own wrappers, ours that gives fresh layouts, and its PPO."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety

from . import toy
from .toy import Toy

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Brax's own
    pytest.importorskip("brax")
    from brax.envs.wrappers import training
    from brax.training import acting

    from mjx_safety.interop import brax as interop

B = 6


@pytest.fixture(autouse=True)
def old_keys():
    """Brax makes keys of the old kind."""
    before = jax.config.jax_legacy_prng_key
    jax.config.update("jax_legacy_prng_key", "allow")
    yield
    jax.config.update("jax_legacy_prng_key", before)


def run(env, keys, actions):
    """The first state and those after each step, stacked."""
    first = jax.jit(env.reset)(keys)
    step = jax.jit(lambda state: jax.lax.scan(lambda s, a: (env.step(s, a),) * 2, state, actions)[1])
    return first, step(first)


def keys(seed=0, num=B):
    return jax.random.split(jax.random.PRNGKey(seed), num)


def test_one_world_in_brax_s_terms():
    env = interop.wrap(Toy())
    assert (env.observation_size, env.action_size) == (2, 2)
    state = env.reset(jax.random.PRNGKey(0))
    same = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(state.obs, same.obs)
    assert state.done.shape == () and state.done.dtype == jnp.float32
    state.info["mine"], state.metrics["mine"] = jnp.int32(7), jnp.float32(7)
    state = env.step(state, jnp.array([-0.5, 0.25]))
    assert state.info["mine"] == state.metrics["mine"] == 7, "what wrappers keep is lost"
    assert (state.reward, state.done) == (1, 0)
    costs = {name: float(state.metrics[name]) for name in ("cost", "cost_low", "cost_high", "goals")}
    assert costs == {"cost": 1, "cost_low": 0.5, "cost_high": 0.25, "goals": 0}
    assert env.step(state, jnp.array([1.0, 0])).done == 1


def test_the_time_limit_is_left_to_the_wrappers():
    env = interop.wrap(Toy(episode_length=2))
    state = env.step(env.step(env.reset(jax.random.PRNGKey(0)), jnp.zeros(2)), jnp.zeros(2))
    assert (state.done, state.info["truncation"], state.info["time_out"]) == (0, 1, 1)


def test_brax_s_own_wrappers_take_it_and_freeze_its_layout():
    env = training.wrap(interop.wrap(Toy(episode_length=4)), episode_length=4)
    first, after = run(env, keys(), toy.actions(12, B))
    done = np.arange(1, 13) % 4 == 0
    np.testing.assert_array_equal(after.done, np.broadcast_to(done[:, None], (12, B)))
    np.testing.assert_array_equal(after.info["truncation"], after.done)
    np.testing.assert_array_equal(after.obs[..., 0], np.broadcast_to(first.obs[:, 0], (12, B)))


def test_fresh_layouts_keep_brax_s_books():
    """Entries that both kinds of wrapper have are equal, but for the layouts."""
    actions = toy.actions(14, B, fatal=0.1)
    env = interop.wrap(Toy(episode_length=4))
    _, its = run(training.wrap(env, episode_length=4), keys(), actions)
    first, ours = run(interop.wrap_for_training(env, episode_length=4), keys(), actions)
    assert np.sum(ours.done) > 20 and np.any(ours.done != ours.info["truncation"])
    for name in ("reward", "done"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(its, name))
    jax.tree.map(np.testing.assert_array_equal, ours.metrics, its.metrics)
    for name in ("steps", "truncation", "episode_done", "cost"):
        np.testing.assert_array_equal(ours.info[name], its.info[name], err_msg=name)
    for name, total in its.info["episode_metrics"].items():
        np.testing.assert_allclose(ours.info["episode_metrics"][name], total, rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(ours.obs[..., 1], its.obs[..., 1])
    done = np.asarray(ours.done, bool)
    layouts = np.concatenate([np.asarray(first.obs[:, 0]), np.asarray(ours.obs[..., 0])[done]])
    assert len(np.unique(layouts)) == len(layouts), "a layout came twice"


@pytest.mark.parametrize("make_keys", [jax.random.PRNGKey, jax.random.key])
def test_keys_decide_the_layouts(make_keys):
    env = interop.wrap_for_training(interop.wrap(Toy()), episode_length=4)
    layouts = [env.reset(jax.random.split(make_keys(seed), B)).obs[:, 0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(layouts[0], layouts[1])
    assert np.all(layouts[0] != layouts[2])


def test_brax_s_evaluator_reports_the_cost():
    env = interop.wrap_for_training(interop.wrap(Toy(episode_length=5)), episode_length=5)
    evaluator = acting.Evaluator(
        env,
        lambda _: lambda obs, key: (jnp.full((len(obs), 2), -0.5), {}),
        num_eval_envs=B,
        episode_length=5,
        action_repeat=1,
        key=jax.random.PRNGKey(0),
    )
    metrics = evaluator.run_evaluation(None, {})
    assert metrics["eval/episode_reward"] == 1 + 2 + 3 + 4 + 5
    assert metrics["eval/episode_cost"] == 5 and metrics["eval/episode_cost_low"] == 2.5
    assert metrics["eval/avg_episode_length"] == 5


def test_what_brax_cannot_have_is_said():
    env = interop.wrap(Toy(episode_length=4))
    with pytest.raises(ValueError, match="episode_length=1000, and the environment's is 4"):
        interop.wrap_for_training(env)
    with pytest.raises(ValueError, match="action_repeat is 2"):
        interop.wrap_for_training(env, episode_length=4, action_repeat=2)
    with pytest.raises(ValueError, match="randomization_fn"):
        interop.wrap_for_training(env, episode_length=4, randomization_fn=lambda sys: sys)
    for wrong, name in (
        (env, "a BraxEnv"),
        (mjx_safety.vectorize(Toy(), 2), "a VecEnv"),
        ("Id-v0", "a str"),
        (Toy, "the class Toy"),
    ):
        with pytest.raises(ValueError, match=f"wrap got {name}; it takes one world"):
            interop.wrap(wrong)
    with pytest.raises(ValueError, match="wrap_for_training got a Toy; it takes what"):
        interop.wrap_for_training(Toy(), episode_length=4)
    with pytest.raises(ValueError, match="the key of reset is of the type int"):
        env.reset(0)
    with pytest.raises(ValueError, match=r"reset got keys of shape \(\); it takes one per world"):
        interop.wrap_for_training(env, episode_length=4).reset(jax.random.PRNGKey(0))


def test_a_state_has_only_leaves_that_brax_can_cast():
    env = interop.wrap(mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco"))
    assert env.backend == "mujoco" and env.dt == pytest.approx(0.02)
    state = jax.eval_shape(interop.wrap_for_training(env).reset, keys())
    assert all(not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))
    after = jax.eval_shape(interop.wrap_for_training(env).step, state, jnp.zeros((B, 2)))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert [leaf.dtype for leaf in jax.tree.leaves(after)] == [leaf.dtype for leaf in jax.tree.leaves(state)]


def test_wrong_keys_and_states_are_named():
    env = interop.wrap(Toy(episode_length=4))
    batch = interop.wrap_for_training(env, episode_length=4)
    state, states, actions = env.reset(jax.random.key(0)), batch.reset(keys()), jnp.zeros((B, 2))
    for key, given in ((jnp.zeros(2), r"float32\[2\]"), (jnp.zeros(3, jnp.uint32), r"uint32\[3\]")):
        for reset in (env.reset, batch.reset):
            with pytest.raises(ValueError, match=f"the key of reset is {given}; it takes typed keys, or raw ones"):
                reset(key)
    for step in (env.step, batch.step):
        with pytest.raises(ValueError, match="step got a NoneType as its state; it takes the state of its own reset"):
            step(None, actions)
    with pytest.raises(ValueError, match="step got the state of a State; it takes a state of its own reset"):
        batch.step(state, actions)
    for wrong in (jnp.zeros((B + 1, 2)), jnp.float32(0), jnp.zeros(2)):
        with pytest.raises(ValueError, match="action has shape"):
            batch.step(states, wrong)


def test_a_wrapper_is_refused_where_it_would_be_lost():
    env = interop.wrap(Toy(episode_length=4))
    for lost in (training.EpisodeWrapper(env, 4, 1), interop.wrap_for_training(env, episode_length=4)):
        name = type(lost).__name__
        with pytest.raises(ValueError, match=f"wrap_for_training got a {name}; .* without another wrapper"):
            interop.wrap_for_training(lost, episode_length=4)
