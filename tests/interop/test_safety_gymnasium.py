"""safety-gymnasium's interface: six values, its names of costs, its ways to reset."""

import jax
import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from viz.recordings import needs_opengl  # noqa: E402

import mjx_safety.interop.safety_gymnasium as safety_gymnasium  # noqa: E402
from mjx_safety import Vases  # noqa: E402
from mjx_safety.interop.gymnasium import SafetyVectorEnv  # noqa: E402

from . import toy  # noqa: E402
from .toy import Toy  # noqa: E402

ID = "SafetyPointGoal1-v0"
STAND = np.zeros(2)


@pytest.fixture(scope="module")
def env():
    """Both kinds of cost of PointGoal1: a vase costs too."""
    return safety_gymnasium.make(ID, vases=Vases(num=1, contact_cost=1.0), episode_length=30)


@pytest.fixture(scope="module")
def toys():
    """A batch of toys; `config` is all that this interface asks beside Gymnasium's."""

    class Configured(Toy):
        class config:  # noqa: N801
            indicator = True

    return safety_gymnasium.SixValuesVector(SafetyVectorEnv(Configured(), 6))


FAR = (9, 9)


def place(env, **places):
    """Begin an episode with the robot at the origin and things at places [2] m."""
    env.reset(seed=0)
    snapshot = env.unwrapped.world.snapshot(env.unwrapped.state)
    changes = {}
    for name, xy in {"root": (0, 0), **places}.items():
        changes[f"{name}_pos"] = np.array(getattr(snapshot, f"{name}_pos"))
        changes[f"{name}_pos"][..., :2] = xy
    return env.reset(options={"snapshot": snapshot.replace(**changes)})


def test_a_loop_written_for_safety_gymnasium(env):
    """The loop of its README: sample, step, six values, reset at the end."""
    obs, info = env.reset(seed=1)
    assert obs.shape == env.observation_space.shape == (60,)
    assert info == {"cost_hazards": 0.0, "cost_vases_contact": 0.0, "cost_vases_velocity": 0.0, "cost_sum": 0.0}
    lengths, length = [], 0
    for _ in range(65):
        obs, reward, cost, terminated, truncated, info = env.step(env.action_space.sample())
        assert obs in env.observation_space and isinstance(reward, float) and cost in (0.0, 1.0)
        assert list(info)[-1] in ("cost_sum", "goal_met") and info["cost_sum"] == cost
        length += 1
        if terminated or truncated:
            lengths.append((length, terminated, truncated))
            obs, info = env.reset()
            length = 0
    assert lengths == [(30, False, True)] * 2


def test_costs_are_indicators_under_the_reference_s_names(env):
    place(env, hazards=(0.05, 0), vases=FAR)
    *_, info = env.step(STAND)
    raw = env.unwrapped.state.costs
    assert 1 < raw[0] < 2, "eight hazards at a depth of nearly their radius"
    assert info == {"cost_hazards": 1.0, "cost_vases_contact": 0.0, "cost_vases_velocity": 0.0, "cost_sum": 1.0}
    place(env, hazards=FAR, vases=(0.15, 0))
    _, _, cost, _, _, info = env.step(np.array([1.0, 0]))
    assert info["cost_hazards"] == 0 and info["cost_vases_contact"] == cost == 1


def test_without_indicator_costs_are_the_raw_values():
    env = safety_gymnasium.make(ID, indicator=False)
    place(env, hazards=(0.05, 0))
    _, _, cost, _, _, info = env.step(STAND)
    assert info["cost_hazards"] == info["cost_sum"] == cost == pytest.approx(8 * 0.15, abs=0.01)


def test_goal_met_is_there_when_the_goal_is(env):
    place(env, goal=(0.1, 0), hazards=FAR)
    _, reward, *_, info = env.step(STAND)
    assert info["goal_met"] is True and reward > 0.9
    *_, info = env.step(STAND)
    assert "goal_met" not in info


def test_a_step_after_the_end_is_refused(env):
    env.reset(seed=0)
    for _ in range(30):
        env.step(STAND)
    assert env.done
    with pytest.raises(gymnasium.error.ResetNeeded, match="must be reset"):
        env.step(STAND)
    env.reset()
    env.step(STAND)


def test_seeds(env):
    first = [env.reset(seed=4)[0], env.reset()[0]]
    env.set_seed(4)
    again = [env.reset()[0], env.reset()[0]]
    np.testing.assert_array_equal(first, again)
    assert np.any(first[0] != first[1])


def test_autoreset_keeps_the_last_observation(env):
    manual = [env.reset(seed=7)[0], *(env.step(STAND)[0] for _ in range(30)), env.reset()[0]]
    resetting = safety_gymnasium.SixValues(env.env, autoreset=True)
    resetting.reset(seed=7)
    steps = [resetting.step(STAND) for _ in range(31)]
    np.testing.assert_array_equal(steps[-2][0], manual[-1])
    assert steps[-2][4] is True and steps[-1][4] is False
    info = steps[-2][5]
    np.testing.assert_array_equal(info["final_observation"], manual[-2])
    assert set(info["final_info"]) >= {"cost_hazards", "cost_sum"}
    assert all("final_observation" not in step[5] for step in steps[:-2] + steps[-1:])


def test_spaces_and_entries():
    env = safety_gymnasium.make("SafetyDoggoButton1-v0", observation="dict")
    assert list(env.obs_space_dict.spaces) == list(env.unwrapped.world.obs_slices)
    assert env.obs_space_dict == env.observation_space
    assert env.obs_space_dict["gremlins_lidar"].shape == (16,)


def test_what_is_missing_is_said():
    for name, value in (("config", {"lidar_conf.num_bins": 10}), ("camera_id", 1)):
        with pytest.raises(ValueError, match=f"safety-gymnasium's '{name}' is not supported"):
            safety_gymnasium.make(ID, **{name: value})
    assert safety_gymnasium.make(ID, render_mode=None, max_episode_steps=5).spec.id.endswith(ID)
    with pytest.raises(gymnasium.error.Error):
        safety_gymnasium.make("SafetyPointGaol1-v0")


@needs_opengl
def test_pictures_as_there():
    env = safety_gymnasium.make(ID, render_mode="rgb_array", camera_name="fixednear", width=96, height=64)
    env.reset(seed=0)
    assert env.render().shape == (64, 96, 3)
    env.close()


def test_a_batch_by_its_name():
    envs = safety_gymnasium.vector.make(env_id=ID, num_envs=2, asynchronous=False)
    assert envs.num_envs == 2 and envs.single_observation_space.shape == (60,)
    obs, info = envs.reset(seed=0)
    assert obs.shape == (2, 60)
    assert set(info) == set(envs.step(np.zeros((2, 2), np.float32))[5]) and "cost_sum" in info and "cost" not in info


def test_a_reset_of_a_batch_has_indicators(toys, monkeypatch):
    raw = {"cost": np.ones(6), "cost_high": np.arange(6.0), "goal_met": np.zeros(6, bool)}
    raw["placement_failed"] = np.zeros(6, bool)
    monkeypatch.setattr(type(toys.env), "reset", lambda self, **_: (np.zeros((6, 2)), raw))
    info = toys.reset(seed=0)[1]
    np.testing.assert_array_equal(info["cost_high"], [0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(info["cost_sum"], 1.0)
    assert info["_cost_high"].all() and info["_placement_failed"].shape == (6,)


def test_a_batch_has_six_values_and_what_was_final(toys):
    plain = SafetyVectorEnv(Toy(), 6)
    np.testing.assert_array_equal(toys.reset(seed=0)[0], plain.reset(seed=0)[0])
    ended = 0
    for action in toy.actions(15, 6, fatal=0.1):
        obs, reward, cost, terminated, truncated, info = toys.step(action)
        right = plain.step(action)
        jax.tree.map(np.testing.assert_array_equal, (obs, reward, terminated, truncated), right[:4])
        np.testing.assert_array_equal(cost, right[4]["cost"])
        np.testing.assert_array_equal(info["cost_sum"], cost)
        np.testing.assert_array_equal(info["cost_high"], action[:, 1] > 0)
        np.testing.assert_array_equal(info["goal_met"], info["_goal_met"])
        done = terminated | truncated
        assert ("final_observation" in info) == bool(done.any())
        for world in np.flatnonzero(done):
            ended += 1
            np.testing.assert_array_equal(info["final_observation"][world], right[4]["final_obs"][world])
            final = info["final_info"][world]
            assert (final["cost_sum"], final["cost_high"]) == (cost[world], action[world, 1] > 0)
            assert ("goal_met" in final) == info["goal_met"][world]
        if done.any():
            # as OmniSafe does it
            final = [np.zeros(2) if array is None else array for array in info["final_observation"]]
            assert np.array(final).shape == (6, 2)
            np.testing.assert_array_equal(info["_final_observation"], done)
            np.testing.assert_array_equal(info["_final_info"], done)
    assert ended > 10
