"""Gymnasium's interface of a batch, and the vector wrappers that rely on its conventions."""

import copy
import functools
import sys

import jax
import numpy as np
import pytest
from packaging.version import Version

import mjx_safety

from . import toy
from .toy import Toy

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.vector import AutoresetMode  # noqa: E402
from gymnasium.wrappers import vector as vector_wrappers  # noqa: E402

from mjx_safety.interop import gymnasium as interop  # noqa: E402
from mjx_safety.interop import gymnasium_vector  # noqa: E402
from mjx_safety.interop.gymnasium import SafetyEnv, SafetyVectorEnv  # noqa: E402

ID = "mjx_safety/SafetyPointGoal1-v0"
B = 6


@functools.cache
def toys(**settings):
    """A batch of toys, compiled once; every use of it begins with a reset."""
    return SafetyVectorEnv(Toy(), B, **settings)


def run(envs, actions, seed=0):
    """First observations, and what each step returned."""
    obs, _ = envs.reset(seed=seed)
    return obs, [envs.step(action) for action in actions]


def test_make_vec_gives_one_jitted_batch():
    envs = gymnasium.make_vec(ID, num_envs=3, max_episode_steps=2)
    assert isinstance(envs, SafetyVectorEnv) and envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.num_envs == 3 and envs.world.episode_length == 2
    obs, info = envs.reset(seed=0)
    assert obs.shape == (3, 60) and obs.dtype == np.float32 and obs in envs.observation_space
    steps = [envs.step(envs.action_space.sample()) for _ in range(2)]
    assert [step[3].tolist() for step in steps] == [[False] * 3, [True] * 3]
    assert set(steps[0][4]) == set(info) == {"cost", "cost_hazards", "goal_met", "placement_failed"}
    obs, *_, info = steps[1]
    final = np.stack(info["final_obs"])
    assert final.shape == obs.shape and np.all(np.any(final != obs, axis=1))
    assert obs in envs.observation_space and info["final_info"]["episode"]["l"].tolist() == [2] * 3


@pytest.mark.parametrize(
    ("option", "value"), [("render_mode", "rgb_array"), ("camera", "top"), ("width", 96), ("height", 64)]
)
def test_a_batch_draws_no_pictures(option, value):
    with pytest.raises(ValueError, match=rf"a batch of worlds draws no pictures, so it has no '{option}'; .*render\("):
        gymnasium.make_vec(ID, num_envs=3, **{option: value})


def test_a_batch_without_a_render_mode_may_say_so():
    assert gymnasium.make_vec(ID, num_envs=2, render_mode=None).render_mode is None


@pytest.mark.parametrize("observation", ["flat", "dict"])
def test_the_batch_is_that_of_vectorize(observation):
    """The same key and actions, a scan of the pure batch on the one side and steps from the host on the other."""
    actions = toy.actions(20, B, fatal=0.1)
    first, steps = run(toys(observation=observation), actions, seed=4)
    batch = mjx_safety.vectorize(Toy(), B)
    key = interop.draw_key(gymnasium.utils.seeding.np_random(4)[0])
    states = jax.jit(batch.reset)(key)
    _, after = jax.jit(lambda s: jax.lax.scan(lambda s, a: (batch.step(s, a),) * 2, s, actions))(states)

    def flat(obs):
        return obs if observation == "flat" else np.concatenate([obs["layout"], obs["age"]], axis=1)

    np.testing.assert_array_equal(flat(first), states.obs)
    ended = 0
    for t, (obs, reward, terminated, truncated, info) in enumerate(steps):
        expected = jax.tree.map(
            lambda leaf, t=t: np.asarray(leaf[t]), after.replace(env_state=None, pool=None, key=None)
        )
        now = jax.tree.map(lambda leaf, t=t: leaf[t], after.env_state)
        np.testing.assert_array_equal(flat(obs), now.obs)
        np.testing.assert_array_equal(reward, now.reward)
        np.testing.assert_array_equal(terminated, now.terminated)
        np.testing.assert_array_equal(truncated, now.truncated)
        np.testing.assert_array_equal(info["cost"], now.cost)
        np.testing.assert_array_equal(np.stack([info["cost_low"], info["cost_high"]], 1), now.costs)
        done = terminated | truncated
        assert ("final_obs" in info) == ("final_info" in info) == bool(done.any())
        if not done.any():
            continue
        ended += done.sum()
        np.testing.assert_array_equal(info["_final_obs"], done)
        np.testing.assert_array_equal(info["_final_info"], done)
        assert [final is None for final in info["final_obs"]] == (~done).tolist()
        for world in np.flatnonzero(done):
            one = (
                {name: part[None] for name, part in info["final_obs"][world].items()} if observation == "dict" else None
            )
            seen = flat(one)[0] if one else info["final_obs"][world]
            np.testing.assert_array_equal(seen, expected.final_obs[world])
        last = info["final_info"]
        np.testing.assert_array_equal(last["_episode"], done)
        for name, total in (("r", "episode_return"), ("c", "episode_cost"), ("l", "episode_length")):
            np.testing.assert_array_equal(last["episode"][name], np.where(done, getattr(expected, total), 0))
        np.testing.assert_array_equal(last["cost_low"], np.where(done, now.costs[:, 0], 0))
        np.testing.assert_array_equal(last["_cost_low"], done)
    assert ended > 10, "too few episodes to tell"


def test_episode_totals_are_the_sums_of_the_steps():
    steps = run(toys(), toy.actions(30, B, fatal=0.1))[1]
    sums, counted = np.zeros((B, 3)), 0
    for _, reward, terminated, truncated, info in steps:
        sums += np.stack([reward, info["cost"], np.ones(B)], axis=1)
        done = terminated | truncated
        if done.any():
            totals = info["final_info"]["episode"]
            np.testing.assert_allclose(np.stack([totals[name] for name in "rcl"], 1)[done], sums[done])
            counted += done.sum()
        sums[done] = 0
    assert counted > B


def test_batches_are_seeded():
    envs, actions = toys(), toy.actions(9, B)
    layouts = [np.stack([step[0][:, 0] for step in run(envs, actions, seed)[1]]) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(layouts[0], layouts[1])
    assert np.all(layouts[0] != layouts[2])
    assert len(np.unique(envs.reset()[0][:, 0])) == B
    assert np.all(envs.reset()[0][:, 0] != envs.reset()[0][:, 0])


def test_results_belong_to_the_user():
    """Buffers are handed on from step to step inside; what was returned neither changes nor has an effect."""
    actions = toy.actions(12, B, fatal=0.1)
    expected = copy.deepcopy(run(toys(), actions))
    envs = toys()
    obs, _ = envs.reset(seed=0)
    kept = [obs]
    for action, step in zip(actions, expected[1], strict=True):
        before = [copy.deepcopy(value) for value in kept]
        obs, reward, *_ = envs.step(action)
        jax.tree.map(np.testing.assert_array_equal, kept, before)
        np.testing.assert_array_equal(obs, step[0])
        np.testing.assert_array_equal(reward, step[1])
        obs[:], reward[:] = np.nan, np.nan
        kept += [obs, reward]


def test_one_step_is_traced_once():
    world = Toy()
    envs = SafetyVectorEnv(world, B)
    for dtype in (np.float32, np.float64, int, list):
        envs.reset(seed=0)
        for action in toy.actions(6, B):
            envs.step(action.tolist() if dtype is list else action.astype(dtype))
    assert world.num_step_traces == 1


def test_staggered_first_episodes_count_for_nothing():
    envs = SafetyVectorEnv(Toy(episode_length=8), 32, stagger=True)
    lengths = []
    for *_, info in run(envs, toy.actions(20, 32))[1]:
        if "final_obs" in info:
            counted = info["final_info"]["_episode"]
            assert not np.any(counted & ~info["_final_info"])
            lengths += info["final_info"]["episode"]["l"][counted].tolist()
            assert not np.any(info["final_info"]["episode"]["l"][~counted])
    assert set(lengths) == {8} and len(lengths) > 32


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_arrays_have_the_same_numbers(backend):
    if backend == "torch":
        torch = pytest.importorskip("torch")
    kind, array = (jax.Array, jax.numpy.asarray) if backend == "jax" else (torch.Tensor, torch.as_tensor)
    actions = toy.actions(12, B, fatal=0.1)
    first, steps = run(toys(), actions)
    envs = toys(backend=backend)
    assert envs.metadata[backend] is True
    other_first, other_steps = run(envs, [array(action) for action in actions])
    np.testing.assert_array_equal(first, other_first)
    for step, other in zip(steps, other_steps, strict=True):
        assert all(isinstance(leaf, kind) for leaf in jax.tree.leaves(other))
        jax.tree.map(np.testing.assert_array_equal, step[:4], other[:4])
        assert set(other[4]) == set(step[4]) | {"final_obs", "_final_obs", "final_info", "_final_info"}
        mask = np.asarray(other[4]["_final_obs"])
        np.testing.assert_array_equal(mask, step[2] | step[3])
        if mask.any():
            np.testing.assert_array_equal(np.stack(step[4]["final_obs"][mask]), np.asarray(other[4]["final_obs"])[mask])
            jax.tree.map(np.testing.assert_array_equal, step[4]["final_info"], other[4]["final_info"])
    flags = other_steps[0][2:4]
    assert all(str(flag.dtype) in ("bool", "torch.bool") for flag in flags)


def test_torch_gets_the_memory_itself():
    torch = pytest.importorskip("torch")
    obs = jax.numpy.arange(6.0).reshape(2, 3)
    _, from_jax = gymnasium_vector._converters("torch")
    assert from_jax(obs).data_ptr() == obs.unsafe_buffer_pointer()
    actions = torch.as_tensor(toy.actions(9, B, fatal=0.1))
    expected = run(toys(backend="torch"), actions)[1]
    envs = toys(backend="torch")
    envs.reset(seed=0)
    for action, step in zip(actions, expected, strict=True):
        action = action.clone().requires_grad_()
        *values, info = envs.step(action)
        with torch.no_grad():
            action.fill_(torch.nan)
        for value, right in zip(values, step, strict=False):
            assert torch.equal(value, right)
            value.fill_(1)  # what is done to it has no effect on the worlds
        jax.tree.map(lambda leaf: leaf.fill_(1), info)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_memory_of_other_arrays_is_not_handed_on(name):
    if name == "torch":
        pytest.importorskip("torch")
    envs = toys(backend=name)
    array = jax.numpy.asarray if name == "jax" else sys.modules["torch"].as_tensor
    obs, _ = envs.reset(seed=0)
    kept, copies = [obs], [np.asarray(obs).copy()]
    for action in toy.actions(10, B, fatal=0.1):
        *values, info = envs.step(array(action))
        kept.append([*values, info])
        copies.append(jax.tree.map(lambda leaf: np.asarray(leaf).copy(), kept[-1]))
    jax.tree.map(np.testing.assert_array_equal, kept, copies)


@pytest.mark.skipif(Version(gymnasium.__version__) < Version("1.4"), reason="its wrappers had faults before 1.4")
def test_gymnasium_s_vector_wrappers_understand_it():
    actions = toy.actions(9, B, fatal=0.1)
    plain = run(toys(), actions)[1]
    counting = vector_wrappers.RecordEpisodeStatistics(toys())
    listed = vector_wrappers.DictInfoToList(toys())
    for step, counted, infos in zip(plain, run(counting, actions)[1], run(listed, actions)[1], strict=True):
        done, info = step[2] | step[3], counted[4]
        assert ("episode" in info) == bool(done.any())
        if done.any():
            for name in "rl":
                np.testing.assert_allclose(info["episode"][name], info["final_info"]["episode"][name])
        for world, own in enumerate(infos[4]):
            assert own["cost"] == step[4]["cost"][world]
            assert ("final_info" in own) == done[world]
            if done[world]:
                assert own["final_info"]["episode"]["l"] == step[4]["final_info"]["episode"]["l"][world]


def test_gymnasium_s_own_batch_of_single_worlds_agrees():
    """`vectorization_mode="sync"` steps single worlds in turns; it knows no totals, the rest has the same shape."""
    own = gymnasium.vector.SyncVectorEnv([lambda: SafetyEnv(Toy())] * B, autoreset_mode=AutoresetMode.SAME_STEP)
    ours = toys()
    assert own.observation_space == ours.observation_space and own.action_space == ours.action_space
    actions = toy.actions(9, B, fatal=0.1)
    for step, other in zip(run(ours, actions)[1], run(own, actions)[1], strict=True):
        for value, right in zip(step[1:4], other[1:4], strict=True):
            np.testing.assert_array_equal(value, right)
        assert set(step[4]) - {"final_obs", "_final_obs", "final_info", "_final_info"} <= set(other[4])
        done = step[2] | step[3]
        if not done.any():
            continue
        np.testing.assert_array_equal(step[4]["_final_obs"], other[4]["_final_obs"])
        for mine, its in zip(step[4]["final_obs"], other[4]["final_obs"], strict=True):
            assert (mine is None) == (its is None) and (mine is None or mine[1] == its[1])
        for name in ("cost", "cost_low", "cost_high", "goal_met"):
            np.testing.assert_array_equal(step[4]["final_info"][name], other[4]["final_info"][name])
            np.testing.assert_array_equal(step[4]["final_info"][f"_{name}"], other[4]["final_info"][f"_{name}"])
