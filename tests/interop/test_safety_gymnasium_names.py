"""The wrappers and vector classes of safety-gymnasium that other people's files import."""

import copy
import pickle

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

import mjx_safety.interop.safety_gymnasium as safety_gymnasium  # noqa: E402
from mjx_safety.interop.gymnasium import SafetyEnv  # noqa: E402
from mjx_safety.interop.safety_gymnasium import wrappers  # noqa: E402
from mjx_safety.interop.safety_gymnasium.vector.async_vector_env import SafetyAsyncVectorEnv  # noqa: E402

from .toy import Toy  # noqa: E402

B = 3


def world(episode_length=3):
    """One toy of six values; `config` is all that this interface asks for beside Gymnasium's."""

    class Configured(Toy):
        class config:  # noqa: N801
            indicator = True

    return safety_gymnasium.SixValues(SafetyEnv(Configured(episode_length)))


@pytest.mark.parametrize("kind", [SafetyAsyncVectorEnv, safety_gymnasium.vector.SafetySyncVectorEnv])
def test_misspelt_options_of_a_batch_are_refused(kind):
    with pytest.raises(TypeError, match="unexpected keyword argument 'contxt'"):
        kind([world] * B, contxt="fork")
    assert kind([world] * B, observation_space=None, action_space=None, copy=False).num_envs == B


def test_a_batch_of_worlds_with_wrappers_of_their_own():
    """As SafePO builds it."""
    envs = SafetyAsyncVectorEnv([lambda: wrappers.SafeRescaleAction(world(), -2.0, 2.0)] * B, context="fork")
    assert safety_gymnasium.vector.SafetyAsyncVectorEnv is SafetyAsyncVectorEnv
    obs, info = envs.reset(seed=0)
    assert obs.shape == (B, 2) and info["cost_sum"].tolist() == [0.0] * B
    singles = [world().reset(seed=seed)[0] for seed in range(B)]
    np.testing.assert_array_equal(obs, singles)
    np.testing.assert_array_equal(envs.reset(seed=[2, 1, 0])[0], singles[::-1])
    actions = np.tile([-1.0, 0.5], (B, 1))  # halved by the wrapper
    for count in range(1, 7):
        obs, reward, cost, terminated, truncated, info = envs.step(actions)
        ends = count % 3 == 0
        np.testing.assert_array_equal(cost, 1)
        np.testing.assert_array_equal(reward, 3 if ends else count % 3)
        np.testing.assert_array_equal(obs[:, 1], 0 if ends else count % 3)
        assert truncated.all() == ends and not terminated.any() and ("final_observation" in info) == ends
        if ends:
            np.testing.assert_array_equal(np.stack(info["final_observation"])[:, 1], 3)
            assert info["final_info"][0]["cost_low"] == 1.0 and info["_final_info"].all()
    with pytest.raises(ValueError, match="there are 2 seeds for 3 worlds"):
        envs.reset(seed=[1, 2])


def test_one_world_as_a_batch_of_one():
    env = wrappers.SafeUnsqueeze(wrappers.SafeAutoResetWrapper(world(episode_length=2)))
    obs, _ = env.reset(seed=0)
    assert obs.shape == (1, 2)
    env.step(np.zeros((1, 2)))
    obs, reward, cost, terminated, truncated, info = env.step(np.zeros(2))
    assert [value.shape for value in (reward, cost, terminated, truncated)] == [(1,)] * 4
    assert truncated[0] and obs[0, 1] == 0 and info["final_observation"][0, 1] == 2


@pytest.mark.parametrize("batch", [False, True])
def test_observations_are_normalised(batch):
    env = SafetyAsyncVectorEnv([lambda: world(50)] * B) if batch else world(50)
    normal = wrappers.SafeNormalizeObservation(env)
    assert isinstance(normal, wrappers.SafeNormalizeObservation)
    normal.reset(seed=0)
    seen = np.array([normal.step(np.zeros((B, 2) if batch else 2))[0] for _ in range(40)])
    ages = seen.reshape(-1, 2)[:, 1]
    assert np.abs(ages).max() < 3 and ages[-1] == pytest.approx(1.7, abs=0.2)  # the end of a ramp, in spreads


@pytest.mark.parametrize("batch", [False, True])
def test_statistics_are_found_below_other_wrappers(batch):
    """As SafePO reads and saves them."""
    env = SafetyAsyncVectorEnv([lambda: world(50)] * B) if batch else world(50)
    normal = wrappers.SafeNormalizeObservation(env)
    outer = wrappers.SafeNormalizeCost(wrappers.SafeNormalizeReward(normal))
    outer = outer if batch else wrappers.SafeUnsqueeze(outer)
    outer.reset(seed=0)
    outer.step(np.zeros((B, 2) if batch else 2))
    assert outer.obs_rms is normal.obs_rms and outer.obs_rms.count == pytest.approx(2 * B if batch else 2, abs=1e-3)
    assert not hasattr(normal, "return_rms") and not hasattr(outer, "no_such_name")
    with pytest.raises(AttributeError, match="has no attribute 'task', nor has what it wraps"):
        outer.task  # noqa: B018


def test_arguments_of_normalisers_have_the_reference_s_order():
    for kind in (wrappers.SafeNormalizeReward, wrappers.SafeNormalizeCost):
        normal = kind(world(), 0.5)
        assert (normal.gamma, normal.epsilon) == (0.5, 1e-8)
    assert wrappers.SafeNormalizeObservation(world(), 0.5).epsilon == 0.5
    with pytest.raises(TypeError, match="gamma"):
        wrappers.SafeNormalizeObservation(world(), gamma=0.5)


def test_actions_are_rescaled():
    env = wrappers.SafeRescaleAction(world(), -2.0, [2.0, 6.0])
    np.testing.assert_array_equal(env.action(np.array([1.0, 6.0])), [0.5, 1.0])
    np.testing.assert_array_equal(env.action(np.array([-2.0, 2.0])), [-1.0, 0.0])
    assert env.action_space == gymnasium.spaces.Box(np.float32(-2), np.array([2, 6], np.float32))
    for low, high in ((1.0, -1.0), (0.0, np.inf)):
        with pytest.raises(ValueError, match="they must be finite and ascending"):
            wrappers.SafeRescaleAction(world(), low, high)


def test_what_a_batch_of_worlds_cannot_have_is_said():
    with pytest.raises(ValueError, match="env_fns is empty"):
        SafetyAsyncVectorEnv([])
    halved = lambda: wrappers.SafeRescaleAction(world(), -2.0, 2.0)  # noqa: E731
    with pytest.raises(ValueError, match=r"need the same action_space, and these have Box\(-1.* and Box\(-2"):
        SafetyAsyncVectorEnv([world, halved])
    envs = SafetyAsyncVectorEnv([world] * B)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions have shape \(2, 2\); 3 worlds take \(3, 2\)"):
        envs.step(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"seed is 0\.5; it must be a whole number"):
        envs.reset(seed=0.5)


def test_a_batch_of_worlds_is_asked_and_changed_by_name():
    envs = SafetyAsyncVectorEnv([world] * B)
    assert envs.call("set_seed", 3) == (None,) * B
    first, again = envs.reset()[0], envs.reset(seed=[3] * B)[0]
    np.testing.assert_array_equal(first, again)
    envs.set_attr("mark", [1, 2, 3])
    assert envs.get_attr("mark") == (1, 2, 3)
    envs.set_attr("mark", 4)
    assert envs.get_attr("mark") == (4, 4, 4)
    with pytest.raises(ValueError, match="there are 2 values of 'mark' for 3 worlds"):
        envs.set_attr("mark", [1, 2])


def test_rewards_and_costs_are_scaled_by_their_spread():
    env = wrappers.SafeNormalizeCost(wrappers.SafeNormalizeReward(world(60)))
    env.reset(seed=0)
    steps = [env.step(np.array([-1.0, 0.0])) for _ in range(50)]
    assert 0 < steps[-1][1] < 1 and 0 < steps[-1][2] < 1  # of raw rewards near 50 and costs of 1


def test_limits_and_interfaces():
    env = wrappers.SafeTimeLimit(world(9), 2)
    env.reset(seed=0)
    assert [env.step(np.zeros(2))[4] for _ in range(2)] == [False, True]
    made = safety_gymnasium.make("SafetyPointGoal0-v0", physics="mujoco", disable_env_checker=True)
    assert wrappers.SafeTimeLimit(made, 2).spec.max_episode_steps == 2
    five = wrappers.SafetyGymnasium2Gymnasium(world())
    five.reset(seed=0)
    values = five.step(np.array([-1.0, 0.0]))
    assert len(values) == 5 and values[4]["cost"] == 1.0
    six = wrappers.with_gymnasium_wrappers(world(), gymnasium.wrappers.ClipAction)
    six.reset(seed=0)
    assert six.step(np.array([-9.0, 0.0]))[2] == 1.0


def test_worlds_of_five_values():
    """Under the reference's second name, and under the first. The costs are those of six values."""
    five = safety_gymnasium.gymnasium_make("SafetyPointGoal1Gymnasium-v0", physics="mujoco")
    same = safety_gymnasium.gymnasium_make("SafetyPointGoal1-v0", physics="mujoco", max_episode_steps=1)
    six = safety_gymnasium.make("SafetyPointGoal1-v0", physics="mujoco")
    obs = [env.reset(seed=3)[0] for env in (five, same, six)]
    np.testing.assert_array_equal(obs[0], obs[2])
    action = np.array([1.0, 0.2], np.float32)
    _, reward, terminated, truncated, info = five.step(action)
    assert (reward, info["cost"], terminated, truncated) == six.step(action)[1:5]
    assert same.step(action)[3]


def test_the_reference_s_arguments_of_make_are_taken():
    env = safety_gymnasium.make("SafetyPointGoal0-v0", None, True, False, True, physics="mujoco")
    assert env.autoreset and safety_gymnasium.make(env.spec.id, physics="mujoco").spec.id == env.spec.id
    idle = dict(autoreset=True, apply_api_compatibility=False, disable_env_checker=True)
    envs = safety_gymnasium.vector.make(env.spec.id, 2, asynchronous=False, **idle, physics="mujoco")
    assert envs.num_envs == 2
    with pytest.raises(ValueError, match="a batch of worlds draws no pictures, so it has no 'camera'"):
        safety_gymnasium.vector.make("SafetyPointGoal0-v0", 2, camera_name="track")


def test_vector_make_takes_wrappers():
    envs = safety_gymnasium.vector.make(
        "SafetyPointGoal0-v0", num_envs=2, wrappers=wrappers.SafeUnsqueeze, physics="mujoco"
    )
    assert envs.num_envs == 2 and isinstance(envs.envs[0], wrappers.SafeUnsqueeze)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize(
    "wrapper",
    [
        wrappers.SafeNormalizeObservation,
        wrappers.SafeNormalizeReward,
        wrappers.SafeNormalizeCost,
        lambda env: wrappers.SafeRescaleAction(env, -2.0, 2.0),
        lambda env: wrappers.SafeTimeLimit(env, 9),
        wrappers.SafeUnsqueeze,
    ],
)
def test_copies_go_on_alike(wrapper, again):
    env = wrapper(safety_gymnasium.make("SafetyPointGoal0-v0", physics="mujoco"))
    env.reset(seed=0)
    env.step(np.ones(2, np.float32))
    other = again(env)
    assert isinstance(other, type(env)) or isinstance(other, wrapper)
    for _ in range(2):
        mine, its = (each.step(np.ones(2, np.float32)) for each in (env, other))
        np.testing.assert_array_equal(mine[0], its[0])
        assert mine[1:3] == its[1:3]


def test_dict_observations_are_refused():
    def make():
        return safety_gymnasium.make("SafetyPointGoal0-v0", physics="mujoco", observation="dict")

    for build in (
        lambda: wrappers.SafeUnsqueeze(make()),
        lambda: wrappers.SafeNormalizeObservation(make()),
        lambda: SafetyAsyncVectorEnv([make]),
    ):
        with pytest.raises(ValueError, match='takes flat observations, and these are a Dict; use observation="flat"'):
            build()


def test_a_step_that_is_a_reset_has_a_cost():
    """As under Gymnasium's default autoreset, which resets in the step after the last one."""
    envs = gymnasium.vector.SyncVectorEnv([lambda: wrappers.SafetyGymnasium2Gymnasium(world(2))] * 2)
    envs.reset(seed=0)
    assert all("cost" in envs.step(np.zeros((2, 2)))[4] for _ in range(6))


def test_a_limit_of_time_begins_anew_when_the_world_resets_itself():
    env = wrappers.SafeTimeLimit(wrappers.SafeAutoResetWrapper(world(3)), 4)
    env.reset(seed=0)
    assert [env.step(np.zeros(2))[4] for _ in range(9)] == [False, False, True] * 3
