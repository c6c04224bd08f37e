"""Environments in which not everything finds a place are refused when they are built."""

import time

import jax
import jax.numpy as jnp
import pytest

import mjx_safety
from mjx_safety import ENV_IDS_2019, NAVIGATION_IDS, EnvConfig, Goal, GoalArea, Gremlins, Hazards, Pillars, Point, Walls
from mjx_safety.agents import rollout
from mjx_safety.registry import find_factory
from mjx_safety.world.placement.room import require_room
from mjx_safety.world.placement.table import placement_table


def require(config):
    table = placement_table({"robot": config.robot, **config.placed}, config.extents, config.margin)
    require_room(table)


@pytest.mark.parametrize("env_id", [*NAVIGATION_IDS, *ENV_IDS_2019])
def test_every_preset_has_room(env_id):
    require(find_factory(env_id)())


HERE, NEAR = ((0.0, 0.0),), ((0.1, 0.0),)
CROWDED = {
    "no room for 60 hazards (keepout 0.4 m) within": {"hazards": Hazards(num=60)},
    "of them found a place beside the others; take fewer": {"gremlins": Gremlins(num=20)},
    "no room for walls at (0.1, 0.0) (keepout 0.1 m): pillars stand nearer than their keepouts allow": {
        "pillars": Pillars(num=1, locations=HERE),
        "walls": Walls(num=1, keepout=0.1, locations=NEAR),
    },
}


@pytest.mark.parametrize("message", CROWDED)
def test_a_crowd_is_refused_by_name(message):
    with pytest.raises(ValueError) as error:
        mjx_safety.make(EnvConfig(**CROWDED[message]), physics="mujoco")
    assert message in str(error.value)


@pytest.mark.parametrize("kind", [Hazards(num=10**7), Gremlins(num=5000, placements=((0.0, 0.0, 1.0, 1.0),))])
def test_millions_are_refused_before_anything_is_built(kind):
    name = type(kind).__name__.lower()
    with pytest.raises(ValueError, match=rf"no room for {kind.num} {name} \(keepout .* of them; take fewer"):
        mjx_safety.make(EnvConfig(**{name: kind}), physics="mujoco")


def test_more_than_a_layout_can_place_are_refused():
    with pytest.raises(ValueError, match="20000 hazards are more than the 10000 objects of a kind that a layout"):
        mjx_safety.make(EnvConfig(hazards=Hazards(num=20_000, keepout=0.0)), physics="mujoco")


def test_thousands_are_tried_in_seconds():
    started = time.perf_counter()
    require(EnvConfig(hazards=Hazards(num=2000, keepout=0.0)))
    assert time.perf_counter() - started < 30.0  # looking at all candidates of all objects takes minutes


def test_many_small_ones_have_room():
    require(EnvConfig(hazards=Hazards(num=60, keepout=0.1), extents=(-4.0, -4.0, 4.0, 4.0)))


def test_failures_to_place_are_counted_in_training():
    """Hazards everywhere but at the goals: the next goal finds no place, where the robot has just met one."""
    task = Goal(goal=GoalArea(keepout=0.3, locations=HERE))
    env = mjx_safety.make(
        EnvConfig(robot=Point(locations=((0.0, 0.5),), start_yaw=-1.57, keepout=0.1), task=task), physics="mujoco"
    )
    venv = mjx_safety.vectorize(env, 2)
    states = jax.jit(venv.reset)(jax.random.key(0))
    step, failures = jax.jit(venv.step), 0
    for _ in range(60):
        states = step(states, jnp.tile(jnp.array([1.0, 0.0]), (2, 1)))
        sums = rollout.sum_episodes(jax.tree.map(lambda leaf: leaf[None], rollout.outcome_of(states)))
        assert sums.placement_failures == jnp.sum(states.placement_failed)
        failures += int(sums.placement_failures)
    assert failures >= 2
