"""Settings of the builder for rewards and costs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import World, built

from mjx_safety import (
    Car,
    Doggo,
    EnvConfig,
    Goal,
    GoalArea,
    Hazards,
    settings,
)


@pytest.fixture(scope="module")
def rewards():
    """reward(changes of the config, changes of the task) of one step 3 m nearer to the goal and on to it."""
    settings = {"reward_orientation": True, "reward_orientation_scale": 0.0}
    world = World(EnvConfig(robot=Doggo(), hazards=Hazards(num=1), **settings))
    place = {"root_pos": (0.0, 0.0, 5.0), "root_quat": (np.cos(0.5), np.sin(0.5), 0, 0), "hazards_pos": (0.5, 0, 0.02)}
    state = world.scene(**place, goal_pos=(0.1, 0, 0.16))
    step = jax.jit(lambda env, state: env.step(state, jnp.zeros(12)))

    def reward(gained=3.0, fail=False, task=None, **changes):
        changed = dataclasses.replace(world.env.config, **changes)
        if task:
            changed = dataclasses.replace(changed, task=dataclasses.replace(changed.task, **task))
        start = state.replace(memory=state.memory.replace(last_dist=jnp.float32(0.1 + gained)))
        if fail:
            start = start.replace(data=start.data.replace(qvel=start.data.qvel.at[0].set(1e30)))
        after = step(world.env.replace(config=changed), start)
        return float(after.reward), bool(after.goal_met)

    yield reward
    assert step._cache_size() == 1


def test_progress_and_bonus_have_their_weights(rewards):
    assert rewards() == (pytest.approx(4.0, abs=1e-3), True)
    assert rewards(task={"reward_distance": 2.0})[0] == pytest.approx(7.0, abs=1e-3)
    assert rewards(task={"reward_distance": 0.0})[0] == pytest.approx(1.0, abs=1e-6)  # sparse
    assert rewards(task={"reward_goal": 5.0})[0] == pytest.approx(8.0, abs=1e-3)


def test_the_goal_has_a_size(rewards):
    assert rewards(task={"goal": GoalArea(keepout=0.305, size=0.05)}) == (pytest.approx(3.0, abs=1e-3), False)


def test_rewards_are_clipped_but_for_the_bonus(rewards):
    assert rewards(gained=50.0)[0] == pytest.approx(11.0, abs=1e-6)
    assert rewards(gained=-50.0)[0] == pytest.approx(-9.0, abs=1e-6)
    assert rewards(reward_clip=0.5)[0] == pytest.approx(1.5, abs=1e-6)
    assert rewards(gained=50.0, reward_clip=0.0)[0] == pytest.approx(51.0, abs=1e-2)


def test_being_upright_is_rewarded_by_the_cosine_of_the_tilt(rewards):
    """A tilt of 1 rad; it falls freely, so it stays."""
    gain = rewards(reward_orientation_scale=2.0)[0] - rewards()[0]
    assert gain == pytest.approx(2.0 * np.cos(1.0), abs=1e-3)
    assert rewards(gained=50.0, reward_orientation_scale=2.0)[0] == pytest.approx(11.0, abs=1e-5)  # before the clip


def test_a_blow_up_has_its_reward(rewards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file
    assert rewards(fail=True)[0] == -10.0
    assert rewards(fail=True, reward_exception=-3.0)[0] == -3.0


def test_sparse_and_weighted_rewards_can_be_swept(rewards):
    """All at once: settings in float are leaves."""
    env = built()
    state = env.reset(jax.random.key(0))

    def reward(weight):
        task = dataclasses.replace(env.config.task, reward_distance=weight)
        return env.replace(config=dataclasses.replace(env.config, task=task)).step(state, jnp.ones(2)).reward

    values = jax.jit(jax.vmap(reward))(jnp.array([0.0, 1.0, 3.0]))
    np.testing.assert_allclose(values, values[1] * np.array([0, 1, 3]), atol=1e-7)


def test_costs_can_be_swept():
    world = World(EnvConfig(hazards=Hazards(num=1), indicator=False))
    snapshot = world.snapshot(world.scene(root_pos=(0, 0, 0.1), hazards_pos=(0.2, 0, 0.02)))

    def cost(size, weight):
        hazards = dataclasses.replace(world.env.config.hazards, size=size, cost=weight)
        return world.env.replace(config=dataclasses.replace(world.env.config, hazards=hazards)).restore(snapshot).cost

    costs = jax.jit(jax.vmap(cost))(jnp.array([0.1, 0.3, 0.5]), jnp.array([1.0, 1.0, 2.0]))
    np.testing.assert_allclose(costs, [0.0, 0.1, 0.6], atol=1e-6)


@settings
class SlowGoal(Goal):
    """Goal, where moving faster than 0.5 m/s costs."""

    max_speed: float = 0.5

    @property
    def costs(self):
        return {"speed": lambda readings, memory: jnp.linalg.norm(readings.root_linvel[:2]) - self.max_speed}


def test_a_task_may_have_costs_of_its_own():
    """Beside those of the objects, with the indicator over both, at a reset and after a step."""
    world = World(EnvConfig(task=SlowGoal(), hazards=Hazards(num=1)))
    assert world.env.cost_names == ("hazards", "speed")
    for speed, depth, cost in ((0.0, 0.0, 0), (0.9, 0.0, 1), (0.0, 0.1, 1), (0.9, 0.1, 1)):
        place = {"root_pos": (0, 0, 0.1), "root_quat": (1, 0, 0, 0), "root_linvel": (speed, 0, 0)}
        state = world.scene(**place, hazards_pos=(0.2 - depth + 1e-6, 0, 0.02), goal_pos=(3, 0, 0.16))
        np.testing.assert_allclose(state.costs, [depth, max(speed - 0.5, 0)], atol=1e-5)
        assert float(state.cost) == cost
    after = world.env.step(state, jnp.zeros(2))
    left = jnp.linalg.norm(world.snapshot(after).root_linvel[:2]) - 0.5
    np.testing.assert_allclose(after.costs[1], left, atol=1e-5)
    assert 0.2 < left < 0.4 and float(after.cost) == 1


@settings
class ThriftyGoal(Goal):
    """Goal, where effort costs."""

    @property
    def costs(self):
        return {"effort": lambda readings, memory: jnp.sum(readings.ctrl**2)}


def test_a_task_may_charge_the_controls_of_the_step():
    env = World(EnvConfig(task=ThriftyGoal(), robot=Car())).env
    state = env.reset(jax.random.key(0))
    assert float(state.cost) == 0
    _, most = env.mj_model.actuator_ctrlrange[0]
    np.testing.assert_allclose(env.step(state, jnp.array([0.5, -2.0])).costs, [1.25 * most**2], rtol=1e-5)


def test_unknown_options_of_a_task_are_refused():
    with pytest.raises(TypeError, match="reward_speed"):
        Goal(reward_speed=1.0)
