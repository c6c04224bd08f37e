"""Ant: its numbers, how it starts, what it observes of itself, when it dies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import B, world_of

import mjx_safety
from mjx_safety import Ant

ID = "SafetyAntGoal0-v0"
ANKLES = np.array([1, 3, 5, 7])  # among the inner joints
SIGNS = np.array([1, -1, -1, 1])


@pytest.fixture(scope="module")
def world():
    return world_of(ID)


def keys(seed):
    return jax.random.split(jax.random.key(seed), B)


def test_its_numbers_are_the_references(world):
    model = world.env.mj_model
    assert model.body_mass.sum() == pytest.approx(42.26, abs=0.01)
    assert [model.actuator(i).name for i in range(4)] == ["hip_1", "ankle_1", "hip_2", "ankle_2"]
    np.testing.assert_array_equal(model.actuator_gear[:, 0], 150)
    assert (model.opt.timestep, world.env.dt) == (0.01, pytest.approx(0.1))


def test_it_starts_with_its_feet_down_a_little_noisy(world):
    starts = world.snapshots(world.resets(keys(0)))
    np.testing.assert_allclose(starts.root_pos[:, 2], 0.18)
    joints = np.array(starts.joint_qpos)
    joints[:, ANKLES] -= SIGNS * np.pi / 2
    assert 0.05 < np.abs(joints).max() <= 0.1 and len(np.unique(joints)) == joints.size
    np.testing.assert_array_equal(starts.joint_qvel, 0)


def test_without_noise_it_always_starts_alike():
    env = mjx_safety.make(ID, physics="mujoco", robot=Ant(joint_noise=0.0))
    np.testing.assert_allclose(env.reset(jax.random.key(0)).data.qpos[7:15][ANKLES], SIGNS * np.pi / 2, atol=1e-6)


def test_it_observes_height_rates_and_angles_of_itself(world):
    qpos = jnp.zeros(8).at[0].set(0.3).at[ANKLES].set(SIGNS * 1.2)
    scene = {"root_pos": (0, 0, 0.5), "root_angvel": (0, 0, 2.0), "joint_qpos": qpos, "joint_qvel": jnp.arange(8.0)}
    state = world.scene(**scene)
    np.testing.assert_allclose(world.seen(state, "height"), [0.5], atol=1e-6)
    np.testing.assert_allclose(world.seen(state, "angvel"), [0, 0, 2.0], atol=1e-6)
    np.testing.assert_allclose(world.seen(state, "jointpos_hip_1"), [np.sin(0.3), np.cos(0.3)], atol=1e-6)
    np.testing.assert_allclose(world.seen(state, "jointpos_ankle_2"), [np.sin(-1.2), np.cos(-1.2)], atol=1e-6)
    np.testing.assert_allclose(world.seen(state, "jointvel_ankle_4"), [7.0], atol=1e-6)


def test_it_dies_where_its_root_is_too_low(world):
    still = np.zeros(8)
    low = world.scene(root_pos=(0, 0, 0.07), root_quat=(0, 1, 0, 0))  # on its back
    assert world.step(low, still).terminated
    assert not world.step(world.scene(), still).terminated
    pinned = mjx_safety.make(ID, physics="mujoco", robot=Ant(lowest=None))
    assert not pinned.step(pinned.restore(world.snapshot(low)), still).terminated


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"heights": ("nothing",)}, "heights is .* a tuple of names among `sensors`"),
        ({"start_joints": ("x",)}, "start_joints is .* a tuple of finite numbers"),
        ({"joint_noise": -1.0}, "joint_noise is -1.0; it must be a finite number of at least 0"),
        ({"lowest": "low"}, "lowest is 'low'; it must be a finite number"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Ant(**settings)
