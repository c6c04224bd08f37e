"""Gymnasium's interface of one world, and the wrappers and clients that rely on its conventions."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from viz.recordings import needs_opengl

import mjx_safety

from .toy import Toy

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from mjx_safety.interop.gymnasium import SafetyEnv, SafetyVectorEnv  # noqa: E402
from mjx_safety.viz.frames import FrameDrawer  # noqa: E402

ID = "mjx_safety/SafetyPointGoal1-v0"


@pytest.fixture(scope="module")
def point():
    """PointGoal1 as Gymnasium makes it."""
    return gymnasium.make(ID)


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is -?infinity")
def test_gymnasium_s_checker_is_content(point):
    check_env(point.unwrapped)


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is -?infinity")
@pytest.mark.parametrize("observation", ["flat", "dict"])
def test_the_checker_is_content_with_any_world(observation):
    check_env(SafetyEnv(Toy(), observation=observation), skip_render_check=True)


def test_the_world_is_that_of_make(point):
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")
    assert point.unwrapped.world.config == env.config
    assert point.unwrapped.world.physics.name == "mujoco"  # on a CPU
    assert point.observation_space == gymnasium.spaces.Box(-np.inf, np.inf, (60,), np.float32)
    assert point.action_space == gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    obs, info = point.reset(seed=3)
    assert obs.dtype == np.float32 and obs in point.observation_space
    assert info == {"cost": 0.0, "cost_hazards": 0.0, "goal_met": False, "placement_failed": False}
    snapshot = env.snapshot(point.unwrapped.state)
    robot = np.append(np.asarray(snapshot.hazards_pos)[0, :2], np.asarray(snapshot.root_pos)[2])
    again, _ = point.reset(options={"snapshot": snapshot.replace(root_pos=robot)})
    lidar = env.obs_slices["hazards_lidar"]
    assert again[lidar].max() > 0.99 > obs[lidar].max()
    _, reward, terminated, truncated, info = point.step(np.zeros(2))
    state = point.unwrapped.state
    costs = {"cost": 1.0, "cost_hazards": float(state.costs[0])}
    assert info == costs | {"goal_met": False, "placement_failed": False}
    assert info["cost_hazards"] == pytest.approx(0.2, abs=0.01)  # m, the hazard's radius
    assert (reward, terminated, truncated) == (float(state.reward), False, False)
    assert [type(value) for value in (reward, terminated, info["cost"])] == [float, bool, float]


def test_all_ids_are_registered_for_one_world_and_for_many():
    for env_id in (*mjx_safety.ENV_IDS, *mjx_safety.ENV_IDS_2019):
        spec = gymnasium.spec(f"mjx_safety/{env_id}")
        assert spec.entry_point == "mjx_safety.interop.gymnasium:SafetyEnv"
        assert spec.vector_entry_point == "mjx_safety.interop.gymnasium:SafetyVectorEnv"
        assert spec.kwargs == {"env": env_id}
        assert spec.max_episode_steps == mjx_safety.registry.episode_length(env_id)


def test_the_package_works_without_gymnasium():
    script = (
        "import sys, mjx_safety, mjx_safety.interop; print(sorted({'gymnasium', 'torch', 'brax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_fields_of_the_configuration_are_keywords():
    env = SafetyEnv("SafetyPointGoal1-v0", episode_length=7, extras=("remaining",))
    assert env.world.episode_length == 7 and env.observation_space.shape == (61,)
    with pytest.raises(ValueError, match="no field 'episode_lenght'"):
        gymnasium.make_vec(ID, num_envs=2, episode_lenght=7)


def test_seeds_decide_the_episodes():
    env, other = SafetyEnv(Toy()), SafetyEnv(Toy())
    first = [env.reset(seed=5)[0][0], *(env.reset()[0][0] for _ in range(3))]
    again = [other.reset(seed=5)[0][0], *(other.reset()[0][0] for _ in range(3))]
    assert first == again and len(set(first)) == 4
    assert env.reset(seed=6)[0][0] not in first
    assert other.reset(seed=5)[0][0] == first[0]
    unseeded = {float(SafetyEnv(Toy()).reset()[0][0]) for _ in range(4)}
    assert len(unseeded) == 4


def test_an_episode_by_hand():
    env = SafetyEnv(Toy(episode_length=3))
    obs, info = env.reset(seed=0)
    layout = obs[0]
    assert info["cost"] == 0 and obs[1] == 0
    steps = [env.step(np.array(action)) for action in ([-0.5, 0.25], [0.0, -1.0], [-1.0, 0.0])]
    for age, (obs, reward, *_) in enumerate(steps, 1):
        np.testing.assert_array_equal(obs, [layout, age])
        assert reward == age
    assert [info["cost"] for *_, info in steps] == [1, 0, 1]
    assert [info["cost_low"] for *_, info in steps] == [0.5, 0, 1]
    assert [info["cost_high"] for *_, info in steps] == [0.25, 0, 0]
    assert [info["goal_met"] for *_, info in steps] == [False, True, False]
    assert [terminated for _, _, terminated, _, _ in steps] == [False] * 3
    assert [truncated for _, _, _, truncated, _ in steps] == [False, False, True]
    env.reset()
    assert env.step(np.array([1.0, 0.0]))[2:4] == (True, False)


def test_dict_observations_have_the_entries_in_their_order():
    env = SafetyEnv("SafetyPointButton1-v0", observation="dict")
    assert list(env.observation_space.spaces) == list(env.world.obs_slices)
    flat, named = SafetyEnv(Toy()), SafetyEnv(Toy(), observation="dict")
    obs, parts = flat.reset(seed=1)[0], named.reset(seed=1)[0]
    assert list(parts) == ["layout", "age"] and parts in named.observation_space
    np.testing.assert_array_equal(gymnasium.spaces.flatten(named.observation_space, parts), obs)


def test_misuse_is_named():
    with pytest.raises(ValueError, match="unknown observation 'image'; choose from flat, dict"):
        SafetyEnv(Toy(), observation="image")
    with pytest.raises(ValueError, match="unknown backend 'cupy'; choose from numpy, jax, torch"):
        SafetyVectorEnv(Toy(), 2, backend="cupy")
    with pytest.raises(ValueError, match="'episode_length' cannot be changed in a finished Env"):
        SafetyVectorEnv(Toy(), 2, max_episode_steps=5)
    with pytest.raises(ValueError, match="reset has no option 'layout'; it takes snapshot"):
        SafetyEnv(Toy()).reset(options={"layout": 1})
    with pytest.raises(ValueError, match="reset has no option 'layout'; it takes reset_mask"):
        SafetyVectorEnv(Toy(), 2).reset(options={"layout": 1})
    for env, action in ((SafetyEnv(Toy()), np.zeros(2)), (SafetyVectorEnv(Toy(), 2), np.zeros((2, 2)))):
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(action)
    for wrong, name in ((mjx_safety.vectorize(Toy(), 2), "a VecEnv"), (SafetyEnv(Toy()), "a SafetyEnv")):
        with pytest.raises(ValueError, match=f"the Gymnasium adapter got {name}; it takes one world"):
            SafetyVectorEnv(wrong, 2)
    envs = SafetyVectorEnv(Toy(), 2)
    envs.reset()
    with pytest.raises(ValueError, match=r"actions have shape \(2,\); 2 worlds take \(2, 2\)"):
        envs.step(np.zeros(2))


@pytest.mark.parametrize("wrong", [None, 1j, "left", "none"])
def test_actions_are_real_numbers(wrong):
    """Others would be cut to their real part, or stop all actuators as numbers that are not finite."""
    env, envs = SafetyEnv(Toy()), SafetyVectorEnv(Toy(), 2)
    env.reset()
    envs.reset()
    action = np.array([wrong, wrong])
    for take in (lambda: env.step(action), lambda: envs.step(np.stack([action, action]))):
        with pytest.raises(ValueError, match=r"action has dtype .*; it must be an array of real numbers"):
            take()


def test_actions_may_be_lists_and_of_any_width():
    env = SafetyEnv(Toy())
    env.reset()
    for action in ([0.5, 1], np.array([1, 0]), np.array([True, False]), jnp.zeros(2, jnp.bfloat16)):
        env.step(action)
    with pytest.raises(ValueError, match="action is a list without a shape; it must be an array of real numbers"):
        env.step([[0.0], [0.0, 1.0]])


@needs_opengl
def test_pictures_for_gymnasium_s_wrappers():
    env = gymnasium.make(ID, render_mode="rgb_array", camera="top", width=96, height=64)
    assert env.metadata["render_fps"] == 50 and env.render_mode == "rgb_array"
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.unwrapped.render()
    env = gymnasium.wrappers.RenderCollection(env)
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.array([1.0, 1.0], np.float32))
    pictures = env.render()
    assert [(picture.shape, picture.dtype) for picture in pictures] == [((64, 96, 3), np.uint8)] * 4
    assert (pictures[0] != pictures[3]).any()
    state = env.unwrapped.state
    env.close()
    with FrameDrawer(env.unwrapped.world, 96, 64) as drawer:
        np.testing.assert_array_equal(drawer.draw(jax.device_get(state.replace(key=None)), "top"), pictures[3])


def test_without_render_mode_nothing_is_drawn(point):
    point.unwrapped.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode=.rgb_array"):
        assert point.unwrapped.render() is None
    for settings, sentence in (
        ({"render_mode": "ansi"}, "unknown render_mode 'ansi'; it must be None or"),
        ({"render_mode": "rgb_array", "camera": "side"}, "camera is 'side'; it must be one of track, fixednear"),
    ):
        with pytest.raises(ValueError, match=sentence):
            SafetyEnv("SafetyPointGoal1-v0", **settings)
    for size in (-1, 0, 10**6, 100.5, True):
        with pytest.raises(ValueError, match=r"width is .*; it must be a whole number of pixels from 1 to 16384"):
            gymnasium.make(ID, render_mode="rgb_array", width=size, height=30)
        with pytest.raises(ValueError, match=r"height is .*; it must be a whole number of pixels from 1 to 16384"):
            gymnasium.make(ID, render_mode="rgb_array", height=size)
    with pytest.raises(ValueError, match="render_mode is for environments of mjx_safety"):
        SafetyEnv(Toy(), render_mode="rgb_array")


@needs_opengl
def test_pictures_have_a_rate_also_where_steps_take_no_time():
    env = SafetyEnv("SafetyPointGoal0-v0", physics="mujoco", frameskip_prob=0.0, render_mode="rgb_array")
    assert env.world.dt == 0 and env.metadata["render_fps"] == 50
