"""Gymnasium's time limit, auto-reset modes, seeds and processes, on worlds whose numbers can be worked out by hand."""

import copy
import dataclasses
import pickle
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety

from . import toy
from .toy import Toy

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.vector import AutoresetMode  # noqa: E402
from gymnasium.wrappers import vector as vector_wrappers  # noqa: E402

from mjx_safety.interop import gymnasium as interop  # noqa: E402
from mjx_safety.interop.gymnasium import SafetyEnv, SafetyVectorEnv  # noqa: E402

ID = "mjx_safety/SafetyPointGoal0-v0"
B = 4


# -- one meaning of the time limit -------------------------------------------------------------------------------------


@pytest.fixture
def short_id(monkeypatch):
    """An id whose episodes last 6 steps."""
    monkeypatch.setattr(mjx_safety.registry, "_FACTORIES", dict(mjx_safety.registry._FACTORIES))
    mjx_safety.register("Short-v0", lambda: mjx_safety.EnvConfig(episode_length=6))
    interop.register("Short-v0")
    yield "mjx_safety/Short-v0"
    del gymnasium.registry["mjx_safety/Short-v0"]


def length_of(env):
    env.reset(seed=0)
    for count in range(1, 20):
        if env.step(np.zeros(2, np.float32))[3]:
            return count
    return None


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({}, 6),
        ({"max_episode_steps": 9}, 9),
        ({"max_episode_steps": 3}, 3),
        ({"episode_length": 4}, 4),
        ({"episode_length": 4, "max_episode_steps": 5}, 4),
        ({"episode_length": 5, "max_episode_steps": 4}, 4),
        ({"episode_length": 4, "max_episode_steps": 9}, 4),
    ],
)
def test_the_limit_is_what_the_spec_says(short_id, settings, length):
    env = gymnasium.make(short_id, physics="mujoco", **settings)
    assert length_of(env) == env.spec.max_episode_steps == length
    aware = gymnasium.wrappers.TimeAwareObservation(env)
    assert aware.max_timesteps == length
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert length_of(again) == length
    assert gymnasium.make_vec(short_id, num_envs=2, physics="mujoco", **settings).world.episode_length == length


def test_a_spec_from_json_has_the_task():
    """JSON has the fields of a task, not its class."""
    kept = mjx_safety.Button(buttons=mjx_safety.Buttons(num=3))
    for task in (kept, mjx_safety.Push(), mjx_safety.Circle(), mjx_safety.Goal(reward_goal=2.0)):
        env = gymnasium.make(ID, physics="mujoco", task=task)
        again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
        assert again.unwrapped.world.config.task == task
    with pytest.raises(ValueError, match=r"EnvConfig\.task has no field 'speed'"):
        mjx_safety.make("SafetyPointGoal0-v0", task={"speed": 1.0})


@pytest.mark.parametrize(
    ("env_id", "task"),
    [
        ("SafetyPointButton1-v0", mjx_safety.Goal()),
        ("SafetyPointPush0-v0", mjx_safety.Goal(reward_goal=2.0)),
        ("SafetyPointCircle0-v0", mjx_safety.Run()),
    ],
)
def test_a_spec_from_json_has_the_class_of_a_task_whose_fields_the_id_s_own_has_too(env_id, task):
    for env in (
        gymnasium.make(f"mjx_safety/{env_id}", physics="mujoco", task=task),
        gymnasium.make_vec(f"mjx_safety/{env_id}", num_envs=2, physics="mujoco", task=task),
    ):
        kwargs = gymnasium.envs.registration.EnvSpec.from_json(env.unwrapped.spec.to_json()).kwargs
        settings = {name: kwargs[name] for name in ("env", "physics", "task")}
        assert SafetyEnv(**settings).world.config == env.unwrapped.world.config
    again = gymnasium.make(env.unwrapped.spec.id, **{**settings, "task": {"class": type(task).__name__}})
    assert type(again.unwrapped.world.config.task) is type(task)


def test_a_task_of_an_unknown_class_is_refused():
    class Mine(mjx_safety.Goal):
        pass

    env = gymnasium.make(ID, physics="mujoco", task=Mine())
    with pytest.raises(ValueError, match=r"EnvConfig\.task has the class 'Mine'; it must be one of Goal, Button, Push"):
        gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))


def test_keywords_of_numpy_are_plain_numbers_in_json():
    settings = {"extents": np.array([-1, -1, 1, 1.0]), "hazards": {"num": np.int64(2), "keepout": jnp.float32(0.125)}}
    settings |= {"robot": mjx_safety.Point(xml=Path(mjx_safety.Point().xml)), "episode_length": np.int32(50)}
    env = gymnasium.make(ID, physics="mujoco", **settings)
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    same = {"robot": mjx_safety.Point()}
    config, other = (dataclasses.replace(each.unwrapped.world.config, **same) for each in (env, again))
    assert config == other and again.spec.max_episode_steps == 50
    envs = gymnasium.make_vec(ID, num_envs=2, physics="mujoco", autoreset_mode=AutoresetMode.NEXT_STEP)
    spec = gymnasium.envs.registration.EnvSpec.from_json(envs.spec.to_json())
    assert spec.kwargs["autoreset_mode"] == "NextStep" and spec.kwargs["num_envs"] == 2


def test_without_a_limit_there_is_none(short_id):
    env = gymnasium.make(short_id, physics="mujoco", max_episode_steps=-1)
    assert length_of(env) is None and env.spec.max_episode_steps is None


def test_a_limit_above_that_of_the_id_and_what_is_no_number_are_refused(short_id):
    with pytest.raises(ValueError, match=r"episode_length is 9, more than the 6 steps .*; give max_episode_steps=9"):
        gymnasium.make(short_id, physics="mujoco", episode_length=9)
    for steps in (0, -1, 2.5, "9", True):
        with pytest.raises(ValueError, match=f"max_episode_steps is {steps!r}; it must be a whole number"):
            gymnasium.make_vec(short_id, num_envs=2, physics="mujoco", max_episode_steps=steps)
    envs = gymnasium.make_vec(short_id, num_envs=2, physics="mujoco", episode_length=9)
    assert envs.world.episode_length == 9


# -- auto-reset --------------------------------------------------------------------------------------------------------


def test_next_step_resets_in_the_step_after_the_last():
    envs = SafetyVectorEnv(Toy(episode_length=3), B, autoreset_mode=AutoresetMode.NEXT_STEP)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    first, info = envs.reset(seed=0)
    action = np.tile(np.float32([-0.5, 0.25]), (B, 1))
    ages, rewards, ends, costs, layouts = [], [], [], [], [first[:, 0]]
    for _ in range(8):
        obs, reward, terminated, truncated, info = envs.step(action)
        ages.append(obs[0, 1])
        rewards.append(reward[0])
        ends.append(bool(truncated[0]))
        costs.append(info["episode_cost"][0])
        layouts.append(obs[:, 0])
        assert not terminated.any() and "final_obs" not in info
    assert ages == rewards == [1, 2, 3, 0, 1, 2, 3, 0]
    assert ends == [False, False, True, False, False, False, True, False]
    assert costs == [1, 2, 3, 0, 1, 2, 3, 0]
    np.testing.assert_array_equal(layouts[3], layouts[0])
    assert np.all(layouts[4] != layouts[0]) and np.all(layouts[8] != layouts[4])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_worlds_end_one_by_one_as_in_gymnasium(mode):
    """The same actions through Gymnasium's own loop over single worlds; layouts differ, ages and rewards do not."""
    ours = SafetyVectorEnv(Toy(), B, autoreset_mode=mode)
    theirs = gymnasium.vector.SyncVectorEnv([lambda: SafetyEnv(Toy())] * B, autoreset_mode=mode)
    for envs in (ours, theirs):
        envs.reset(seed=1)
    for action in toy.actions(30, B, fatal=0.15):
        mine, right = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(mine[0][:, 1], right[0][:, 1])
        for own, other in zip(mine[1:4], right[1:4], strict=True):
            np.testing.assert_array_equal(own, other)


def test_disabled_leaves_the_reset_to_the_user():
    envs = SafetyVectorEnv(Toy(episode_length=2), B, autoreset_mode="Disabled")
    envs.reset(seed=0)
    action = np.zeros((B, 2), np.float32)
    action[1, 0] = 1.0  # fatal
    layouts = envs.step(action)[0][:, 0]
    with pytest.raises(ValueError, match=r"the episodes of worlds \[1\] have ended; reset them"):
        envs.step(action)
    mask = np.array([False, True, False, False])
    obs, info = envs.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(obs[:, 0] == layouts, ~mask)
    np.testing.assert_array_equal(obs[:, 1], [1, 0, 1, 1])
    np.testing.assert_array_equal(info["episode_cost"], 0)
    obs, _, _, truncated, _ = envs.step(np.zeros((B, 2)))
    np.testing.assert_array_equal(truncated, ~mask)
    for wrong in (np.ones(3, bool), np.ones(B)):
        with pytest.raises(ValueError, match=r"reset_mask is .*; it must be bool\[4\]"):
            envs.reset(options={"reset_mask": wrong})
    with pytest.raises(ValueError, match="autoreset_mode is 'never'; it must be an AutoresetMode"):
        SafetyVectorEnv(Toy(), 2, autoreset_mode="never")


def test_observations_are_normalised_by_gymnasium_s_wrapper():
    envs = SafetyVectorEnv(Toy(), B, autoreset_mode=AutoresetMode.NEXT_STEP)
    envs = vector_wrappers.NormalizeObservation(vector_wrappers.RecordEpisodeStatistics(envs))
    envs.reset(seed=0)
    ended = 0
    for action in toy.actions(12, B):
        *_, info = envs.step(action)
        ended += "episode" in info
    assert ended == 2 and envs.obs_rms.count > 12 * B


# -- seeds, copies, processes ------------------------------------------------------------------------------------------


def test_a_list_of_seeds_gives_the_worlds_of_these_seeds():
    envs = SafetyVectorEnv(Toy(), 3)
    obs, _ = envs.reset(seed=[5, np.int64(6), 5])
    single = [SafetyEnv(Toy()).reset(seed=seed)[0][0] for seed in (5, np.int64(6))]
    np.testing.assert_array_equal(obs[:, 0], [single[0], single[1], single[0]])
    assert len(np.unique(envs.reset(seed=[None, None, 1])[0][:, 0])) == 3
    with pytest.raises(ValueError, match="there are 2 seeds for 3 worlds"):
        envs.reset(seed=[1, 2])
    for wrong in (1.5, "seed", [1.5, 2, 3]):
        with pytest.raises(ValueError, match="it must be a whole number, or a list of them or of None"):
            envs.reset(seed=wrong)


@pytest.mark.parametrize("wrong", [1.5, -1, "seed", [1]])
def test_a_seed_of_one_world_is_one_whole_number(wrong):
    with pytest.raises(ValueError, match=rf"seed is {re.escape(repr(wrong))}; it must be a whole number of at least 0"):
        SafetyEnv(Toy()).reset(seed=wrong)


def test_no_seed_of_a_batch_is_negative():
    envs = SafetyVectorEnv(Toy(), 2)
    for wrong in (-1, [0, -1]):
        with pytest.raises(ValueError, match="seed is -1; it must be a whole number of at least 0, or None"):
            envs.reset(seed=wrong)


def test_later_resets_follow_from_a_list_of_seeds():
    first, again, other = (SafetyVectorEnv(Toy(), 3) for _ in range(3))
    for envs, seed in ((first, [1, 2, 3]), (again, [1, 2, 3]), (other, [1, 2, 4])):
        envs.reset(seed=seed)
    later = [envs.reset()[0] for envs in (first, again, other)]
    np.testing.assert_array_equal(later[0], later[1])
    assert not np.array_equal(later[0], later[2])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_go_on_alike(again):
    env = gymnasium.make(ID, physics="mujoco")
    again(env).reset(seed=0)
    env.reset(seed=0)
    env.step(np.ones(2, np.float32))
    other = again(env)
    for action in np.eye(2, dtype=np.float32):
        np.testing.assert_array_equal(other.step(action)[0], env.step(action)[0])
    np.testing.assert_array_equal(other.reset()[0], env.reset()[0])


def test_copies_of_a_batch_go_on_alike():
    envs = SafetyVectorEnv(Toy(), B)
    envs.reset(seed=0)
    envs.step(np.zeros((B, 2)))
    other = copy.deepcopy(envs)
    for action in toy.actions(6, B):
        np.testing.assert_array_equal(other.step(action)[0], envs.step(action)[0])


def test_a_state_can_be_kept_and_put_back():
    env = SafetyEnv(Toy())
    env.reset(seed=0)
    kept = env.state
    first = [env.step(np.zeros(2))[1] for _ in range(3)]
    env.state = kept
    assert [env.step(np.zeros(2))[1] for _ in range(3)] == first


FORKED = """
import gymnasium, mjx_safety.interop.gymnasium
envs = gymnasium.vector.AsyncVectorEnv([lambda: gymnasium.make("{id}", physics="mujoco")] * 2, context="fork")
try:
    envs.reset(seed=0)
except RuntimeError as error:
    print("refused:", error)
envs.close(terminate=True)
"""


FORKED_BY_HAND = """
import os
import gymnasium, jax, mjx_safety, mjx_safety.interop.gymnasium
mjx_safety.make("{id}".removeprefix("mjx_safety/"), physics="mujoco").reset(jax.random.key(0))
child = os.fork()
if not child:
    try:
        gymnasium.make("{id}", physics="mujoco").reset(seed=0)
    except RuntimeError as error:
        print("refused:", error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("text", [FORKED, FORKED_BY_HAND])
def test_a_forked_worker_says_what_works(tmp_path, text):
    script = tmp_path / "forked.py"
    script.write_text(text.format(id=ID))
    done = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, timeout=120)
    assert "refused: this process was forked after JAX had started" in done.stdout, done.stderr
    assert "make_vec" in done.stdout and "'forkserver' or 'spawn'" in done.stdout


@pytest.mark.parametrize("wrong", [True, {0: 1, 1: 2}, [True, 2]])
def test_a_bool_or_a_mapping_is_no_seed(wrong):
    with pytest.raises(ValueError, match=r"seed is .*; it must be a whole number"):
        SafetyVectorEnv(Toy(), 2).reset(seed=wrong)
    with pytest.raises(ValueError, match=r"seed is .*; it must be a whole number"):
        SafetyEnv(Toy()).reset(seed=wrong)


@pytest.mark.parametrize("wrong", [5, [], "reset_mask"])
def test_options_are_a_dictionary(wrong):
    for env, known in ((SafetyEnv(Toy()), "snapshot"), (SafetyVectorEnv(Toy(), 2), "reset_mask")):
        name = type(wrong).__name__
        with pytest.raises(ValueError, match=f"options is a {name}, not a dictionary; it takes {known}"):
            env.reset(options=wrong)


def test_a_mask_without_a_shape_is_named():
    envs = SafetyVectorEnv(Toy(), 2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"reset_mask is a list without a shape; it must be bool\[2\]"):
        envs.reset(options={"reset_mask": [[True], [True, False]]})


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("wrong", [None, "left", [[0.0], [0.0, 0.0]]])
def test_actions_that_are_no_numbers_are_named(backend, wrong):
    envs = SafetyVectorEnv(Toy(), 2, backend=backend)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"action .*; it must be an array of real numbers"):
        envs.step(wrong)


def test_options_of_pictures_are_checked_without_a_render_mode():
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")
    with pytest.raises(ValueError, match="camera is 'nowhere'; it must be one of"):
        SafetyEnv(env, camera="nowhere")
    with pytest.raises(ValueError, match="width is 0; it must be"):
        SafetyEnv(env, width=0)
    assert SafetyEnv(env, camera="top", width=8).render_mode is None
