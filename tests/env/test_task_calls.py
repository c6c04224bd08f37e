"""Tasks of a user's own: results of another type or shape than the contract's are refused while a step is traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import by_hand

import mjx_safety
from mjx_safety import AbstractTask, EnvConfig, GoalArea, settings
from mjx_safety.env import task_calls

KEY = jax.random.key(0)
ZERO, NO = jnp.float32(0), jnp.bool_(False)
READINGS = by_hand(goal=[[1.0, 0.0, 0.0]])


def task_of(**members):
    whole = {
        "objects": property(lambda self: {"goal": GoalArea()}),
        "moves": "goal",
        "init": lambda self, readings, key: jnp.zeros(2),
        "reward": lambda self, readings, memory: (ZERO, NO),
        "advance": lambda self, readings, memory, goal_met, key: memory + 1,
    }
    return settings(type("Mine", (AbstractTask,), whole | members))()


def rewards(reward=ZERO, goal_met=NO, **members):
    return task_of(reward=lambda self, readings, memory: (reward, goal_met), **members)


@pytest.mark.parametrize(
    "reward", [jnp.ones(1), np.zeros((1, 1)), jnp.int32(1), True, jnp.bool_(True), None, "1", 1j, [1.0]]
)
def test_a_reward_is_one_float(reward):
    with pytest.raises(ValueError, match=r"^Mine\.reward returned .* as its reward; it must be a float \[\]$"):
        task_calls.reward(rewards(reward), READINGS, None)


@pytest.mark.parametrize("goal_met", [jnp.ones(1, bool), jnp.int32(1), 1, 0.0, None, "yes"])
def test_a_goal_is_met_or_not(goal_met):
    with pytest.raises(ValueError, match=r"^Mine\.reward returned .* as its goal_met; it must be a bool \[\]$"):
        task_calls.reward(rewards(goal_met=goal_met), READINGS, None)


@pytest.mark.parametrize("outcome", [ZERO, (ZERO,), (ZERO, NO, NO), jnp.zeros(2), None])
def test_a_reward_comes_with_whether_the_goal_is_met(outcome):
    task = task_of(reward=lambda self, readings, memory: outcome)
    with pytest.raises(ValueError, match=r"Mine\.reward returned .*; it must return a pair: reward, goal_met"):
        task_calls.reward(task, READINGS, None)


@pytest.mark.parametrize("bonus", [jnp.ones(1), None, "1", True])
def test_a_bonus_is_one_number(bonus):
    with pytest.raises(ValueError, match=r"Mine\.bonus is .*; it must be a number \[\]"):
        task_calls.reward(rewards(bonus=property(lambda self: bonus)), READINGS, None)


@pytest.mark.parametrize("reward", [0, 1.0, np.float64(1), np.float32(1), jnp.float16(1)])
@pytest.mark.parametrize("goal_met", [False, np.bool_(True), NO])
def test_numbers_of_python_and_numpy_get_the_types_of_a_state(reward, goal_met):
    progress, met = task_calls.reward(rewards(reward, goal_met, bonus=2), READINGS, None)
    assert (progress.dtype, progress.shape, progress.weak_type) == (jnp.float32, (), False)
    assert (met.dtype, met.shape) == (jnp.bool_, ())


@pytest.mark.parametrize("shown", [None, {}, jnp.zeros(3)])
def test_a_view_is_one_of_readings(shown):
    with pytest.raises(ValueError, match=r"Mine\.view returned .*; it must return its Readings, or a copy of them"):
        task_calls.view(task_of(view=lambda self, readings, memory: shown), READINGS, None)


@pytest.mark.parametrize("pos", [{}, {"goal": jnp.zeros(3)}, {"goal": jnp.zeros((2, 3))}, {"goal": None}])
def test_a_view_has_the_same_objects(pos):
    task = task_of(view=lambda self, readings, memory: readings.replace(pos=pos))
    with pytest.raises(ValueError, match=r"Mine\.view returned .* as pos\['goal'\]; it must be float32\[1, 3\]"):
        task_calls.view(task, READINGS, None)


@pytest.mark.parametrize("memory", [None, jnp.zeros(3), jnp.zeros(2, jnp.int32), (jnp.zeros(2),), {"a": jnp.zeros(2)}])
def test_a_memory_keeps_its_form(memory):
    task = task_of(advance=lambda self, readings, before, goal_met, key: memory)
    with pytest.raises(ValueError, match=r"Mine\.advance returned as memory .*; the state has float32\[2\], and both"):
        task_calls.advance(task, READINGS, jnp.zeros(2), NO, KEY)


@pytest.mark.parametrize("memory", [None, (KEY, None), {"steps": 3, "place": jnp.zeros(2)}])
def test_a_memory_may_be_any_pytree(memory):
    task = task_of(advance=lambda self, readings, before, goal_met, key: before)
    assert task_calls.advance(task, READINGS, memory, NO, KEY) is memory


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (None, "returned None; it must return a mapping"),
        ({"corner": ZERO}, "returned a field 'corner'; use 'memory', which takes any pytree"),
        ({"root_pos": jnp.zeros(3)}, "returned a field 'root_pos'"),
        ({"goal_pos": jnp.zeros((1, 3))}, "returned a field 'goal_pos'"),
    ],
)
def test_a_snapshot_has_fields_for_memories(fields, words):
    with pytest.raises(ValueError, match=rf"Mine\.to_snapshot {words}"):
        task_calls.to_snapshot(task_of(to_snapshot=lambda self, memory: fields), None, ["goal_pos"])


@pytest.mark.parametrize("value", [jnp.ones(1), None, "1", 1j, [1.0]])
def test_a_cost_is_one_number(value):
    task = task_of(costs={"speed": lambda readings, memory: value})
    with pytest.raises(ValueError, match=r"^Mine\.costs\['speed'\] returned .*; it must return a number \[\]$"):
        task_calls.costs(task, READINGS, None)


@pytest.mark.parametrize(("value", "raw"), [(2, 2.0), (True, 1.0), (np.float64(0.5), 0.5), (-3.0, 0.0)])
def test_a_cost_is_what_is_above_0(value, raw):
    (cost,) = task_calls.costs(task_of(costs={"speed": lambda readings, memory: value}), READINGS, None)
    assert (cost.dtype, cost.shape, float(cost)) == (jnp.float32, (), raw)


def test_an_environment_asks_for_all_of_it():
    """A task of plain numbers can be scanned; a wrong result of any member ends the tracing."""

    def trace(task):
        env = mjx_safety.make(EnvConfig(task=task), physics="mujoco")

        def run(key):
            step = lambda state, _: (env.step(state, jnp.zeros(2)), state.reward)  # noqa: E731
            last, values = jax.lax.scan(step, env.reset(key), length=3)
            return env.snapshot(last), values

        return jax.eval_shape(run, KEY)[1].shape

    assert trace(rewards(1, False)) == (3,)
    for name, result in {"reward": (jnp.ones(1), NO), "view": None, "advance": None, "to_snapshot": None}.items():
        with pytest.raises(ValueError, match=rf"^Mine\.{name} returned"):
            trace(task_of(**{name: lambda self, *inputs, result=result: result}))
