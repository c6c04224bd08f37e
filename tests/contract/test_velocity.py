"""What every velocity environment promises, checked for all ids. One batch of each id serves all its tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import OUTCOMES, B, Batch, assert_close

import mjx_safety
from mjx_safety import VELOCITY_IDS
from mjx_safety.world.locomotion.robots import VERSION_0

T = 12  # random steps
FACTS = {  # entries of the observation, actions, s per step, nq, nv, threshold
    "HalfCheetah": (17, 6, 0.05, 9, 9, 3.2096),
    "Hopper": (11, 3, 0.008, 6, 6, 0.7402),
    "Walker2d": (17, 6, 0.008, 9, 9, 2.3415),
    "Swimmer": (8, 2, 0.04, 5, 5, 0.2282),
    "Ant": (27, 8, 0.05, 15, 14, 2.6222),
    "Humanoid": (376, 17, 0.015, 24, 23, 1.4149),
}


class Case(Batch):
    def __init__(self, env_id):
        super().__init__(env_id, T)
        self.robot, _, self.version = env_id.removeprefix("Safety").partition("Velocity-")


@pytest.fixture(scope="module", params=VELOCITY_IDS)
def case(request):
    return Case(request.param)


def test_sizes_are_the_references(case):
    obs_size, num_actions, dt, nq, nv, threshold = FACTS[case.robot]
    env = case.env
    assert (env.obs_size, env.action_size, env.episode_length) == (obs_size, num_actions, 1000)
    assert env.dt == pytest.approx(dt) and env.cost_names == ("velocity",)
    assert (env.mj_model.nq, env.mj_model.nv) == (nq, nv)
    older = VERSION_0[case.robot] if case.version == "v0" else {}
    assert env.config.threshold == older.get("threshold", threshold)


def test_slices_cover_the_observation_in_order(case):
    stops = [0, *(where.stop for where in case.env.obs_slices.values())]
    assert [where.start for where in case.env.obs_slices.values()] == stops[:-1] and stops[-1] == case.env.obs_size
    assert tuple(case.env.obs_slices) == case.env.config.entries


def test_an_episode_starts_near_the_models_pose_without_cost(case):
    first = case.states[0]
    for name in OUTCOMES:
        np.testing.assert_array_equal(getattr(first, name), 0, err_msg=name)
    noise = case.env.config.reset_noise
    shift = np.abs(np.asarray(first.data.qpos) - case.env.mj_model.qpos0)
    assert 0.5 * noise < shift.max() <= noise * (2 if case.env.config.travel == 2 else 1.001)  # quaternions: normalised
    assert len(np.unique(np.asarray(first.data.qvel)[:, 0])) == B


def test_random_steps_cost_what_their_speed_exceeds(case):
    config, dt = case.env.config, case.env.dt
    for before, after in zip(case.states, case.states[1:], strict=False):
        for leaf in jax.tree.leaves((after.obs, after.reward, after.costs, after.data, after.memory)):
            assert np.all(np.isfinite(leaf))
        moved = np.asarray(after.data.qpos - before.data.qpos)[:, : config.travel] / dt
        moved = np.pad(moved, ((0, 0), (0, 2 - config.travel))) + np.asarray(after.memory - before.memory) / dt
        speed = moved[:, 0] if config.direction == "ahead" else np.linalg.norm(moved, axis=-1)
        np.testing.assert_allclose(after.costs[:, 0], np.maximum(speed - config.threshold, 0), atol=2e-4)
        np.testing.assert_array_equal(after.cost, (after.costs[:, 0] > 0).astype(np.float32))
        paid = config.forward_reward * moved[:, 0] + config.healthy_reward
        spent = config.control_cost * np.sum(np.asarray(after.data.ctrl) ** 2, axis=-1)
        np.testing.assert_allclose(after.reward, paid - spent, atol=2e-3)
    np.testing.assert_array_equal(case.states[-1].step_count, T)


def test_states_keep_their_shapes_and_types(case):
    first = case.states[0]
    case.assert_same_forms()
    assert first.obs.dtype == first.reward.dtype == first.costs.dtype == jnp.float32
    assert (first.costs.shape, first.terminated.dtype.name) == ((B, 1), "bool")


def test_a_restored_world_goes_on_as_the_original(case):
    assert_close(case.world.snapshots(case.restored), case.last, 1e-6)
    np.testing.assert_array_equal(case.restored.step_count, 0)
    actions = case.world.actions(B, seed=6)
    after, again = case.world.steps(case.states[-1], actions), case.world.steps(case.restored, actions)
    assert_close(case.world.snapshots(again), case.world.snapshots(after), 1e-3)
    np.testing.assert_allclose(again.reward, after.reward, atol=1e-3)


def test_each_function_is_traced_and_compiled_once(case):
    """After all of the above."""
    assert case.restored.step_count.shape == (B,)
    for name, count in case.world.traces.items():
        assert count == 1, name
        assert getattr(case.world, name)._cache_size() == 1, name


def test_ended_worlds_start_afresh_in_a_batch(case):
    if case.robot not in ("Hopper", "Swimmer"):  # one that falls, one that does not
        return
    env = mjx_safety.make(case.env.config, physics="mujoco", episode_length=20)
    batch = mjx_safety.vectorize(env, 4)
    step = jax.jit(batch.step)
    states = jax.jit(batch.reset)(jax.random.key(0))
    ends = 0
    for index in range(60):
        states = step(states, jnp.ones((4, env.action_size)))
        ends += int(states.done.sum())
        assert np.all(np.asarray(states.episode_length) <= 20), index
        np.testing.assert_array_equal(states.env_state.step_count == 0, states.done)
    assert ends >= 12
