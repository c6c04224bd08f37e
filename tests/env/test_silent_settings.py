"""Settings that were taken without a word, and did nothing, or something else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import Circle, Dynamics, EnvConfig, Goal, GoalArea, Hazards, Point, Push, PushBox, Snapshot, Vases


class MyHazards(Hazards):
    """A subclass without fields needs no decorator."""


class MyGoal(Goal):
    """The same, of a task."""


def goal_world(**settings):
    config = EnvConfig(extents=(-2, -2, 2, 2), **settings)
    return mjx_safety.make(config, physics="mujoco")


@pytest.mark.parametrize(
    "settings",
    [
        {"task": Circle(), "robot": Point(keepout=0.0, locations=((0.0, 0.0),))},
        {"hazards": Hazards(num=2, keepout=0.0, locations=((0.0, 0.0), (0.0, 0.0)))},
    ],
)
def test_two_things_without_keepouts_may_share_a_place(settings):
    state = goal_world(**settings).reset(jax.random.key(0))
    assert not state.placement_failed and not state.terminated


def test_settings_of_a_subclass_without_fields_can_be_swept():
    env = goal_world(hazards=MyHazards(num=2), task=MyGoal())
    for sizes in ((0.1, 3.0), (0.2, 4.0)):  # the second sweep had failed

        def cost(size, env=env):
            config = dataclasses.replace(env.config, hazards=dataclasses.replace(env.config.hazards, size=size))
            return env.replace(config=config).reset(jax.random.key(0)).costs

        assert jax.vmap(cost)(jnp.array(sizes)).shape == (2, 1)


def test_several_values_outside_of_vmap_are_refused():
    """They had been broadcast: one for each hazard, or all added up."""
    env = goal_world(hazards=Hazards(num=1, size=jnp.array([0.2, 3.0])))
    words = (
        r"EnvConfig\.hazards\.size holds an array of shape \(2,\), and reset takes one number; sweep it by jax\.vmap"
    )
    with pytest.raises(ValueError, match=words):
        env.reset(jax.random.key(0))
    with pytest.raises(ValueError, match=words):
        mjx_safety.vectorize(env, 2).reset(jax.random.key(0))
    with pytest.raises(ValueError, match=r"reward_clip holds an array of shape \(2,\), and restore takes"):
        goal_world(reward_clip=jnp.array([1.0, 2.0])).restore(Snapshot())


def test_a_goal_that_the_box_can_never_reach_is_refused():
    for task in ({"goal": GoalArea(size=0.1)}, {"push_box": PushBox(size=0.5)}):
        with pytest.raises(ValueError, match=r"Push\.goal .* a GoalArea of a size above the .* the box never arrives"):
            Push(**task)
    assert Push(goal=GoalArea(size=0.13)).goal.size == 0.13
    sizes = jax.vmap(lambda size: Push(goal=GoalArea(size=size)).goal.size)(jnp.array([0.1, 0.3]))  # swept: not checked
    np.testing.assert_allclose(sizes, [0.1, 0.3])


@pytest.mark.parametrize(("factor", "part"), [("mass", -1.0), ("friction", 0.0), ("gain", -0.5)])
def test_dynamics_that_cannot_be_are_not_restored(factor, part):
    env = goal_world()
    dynamics = Dynamics(mass=jnp.ones(2), objects={}, friction=jnp.ones(()), gain=jnp.ones(2), damping=jnp.ones(3))
    wrong = dynamics.replace(**{factor: jnp.full_like(getattr(dynamics, factor), part)})
    with pytest.raises(ValueError, match=rf"snapshot\.dynamics\.{factor} holds {part:g}; restore takes factors"):
        env.restore(Snapshot(dynamics=wrong))


@pytest.mark.parametrize("number", [10**10, 1e20])
def test_whole_numbers_beyond_those_of_jax_are_numbers(number):
    env = goal_world(reward_clip=number)
    assert np.isfinite(env.step(env.reset(jax.random.key(0)), jnp.zeros(2)).reward)


def test_numbers_beyond_single_precision_are_refused():
    with pytest.raises(ValueError, match=r"Hazards\.cost is 1e\+39; it must be a finite number"):
        Hazards(cost=1e39)


def test_a_vase_whose_centre_is_below_the_floor_is_refused():
    with pytest.raises(
        ValueError, match=r"Vases\.sink is 0\.15; it must be a finite number of at least 0 and below the size"
    ):
        Vases(sink=0.15)
