"""Settings from NumPy's numbers and from plain mappings, as YAML and JSON give them."""

import dataclasses
import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import (
    AbstractTask,
    EnvConfig,
    Goal,
    GoalArea,
    Hazards,
    Lidar,
    Point,
    Push,
    PushBox,
    Randomize,
    settings,
)
from mjx_safety.world.locomotion.robots import HOPPER


def test_numpy_numbers_become_python_s():
    hazards = Hazards(num=np.int64(2), size=np.float32(0.5), observed=np.bool_(True), locations=np.eye(2))
    assert hazards == Hazards(num=2, size=0.5, locations=((1.0, 0.0), (0.0, 1.0)))
    assert [type(value) for value in (hazards.num, hazards.size, hazards.observed)] == [int, float, bool]
    config = EnvConfig(episode_length=np.int32(50), compass_size=np.array(3), extents=np.array([-1, -1, 1, 1.0]))
    assert (config.episode_length, config.compass_size, config.extents) == (50, 3, (-1.0, -1.0, 1.0, 1.0))
    hash((hazards, config.extents))
    assert Lidar(num_bins=np.uint8(8)) == Lidar(num_bins=8)


@pytest.mark.parametrize("value", [np.int64(-1), np.float64(2.5), np.bool_(True), np.array([1, 2])])
def test_wrong_numpy_numbers_are_refused_as_python_s_are(value):
    with pytest.raises(ValueError, match=r"Hazards\.num is .*; it must be a whole number of at least 0"):
        Hazards(num=value)


def test_a_mapping_of_fields_is_the_settings():
    config = EnvConfig(
        robot=dataclasses.asdict(Point(keepout=0.3)),
        task=Push(goal={"keepout": 0.3}, push_box={"size": 0.1}),
        hazards={"num": 3, "locations": [[0.0, 1.0]]},
        lidar={"num_bins": 8},
    )
    assert config == EnvConfig(
        robot=Point(keepout=0.3),
        task=Push(goal=GoalArea(keepout=0.3), push_box=PushBox(size=0.1)),
        hazards=Hazards(num=3, locations=((0.0, 1.0),)),
        lidar=Lidar(num_bins=8),
    )


def test_what_json_makes_of_settings_makes_them_again():
    config = EnvConfig(hazards=Hazards(num=2, keepout=0.1, placements=((0.0, 0.0, 1.0, 1.0),)), extras=("ctrl",))
    parts = json.loads(json.dumps(dataclasses.asdict(config)))
    task = parts.pop("task")
    assert EnvConfig(**parts, task=Goal(**task)) == config
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco", hazards=parts["hazards"], task=task)
    assert (env.config.hazards, env.config.task) == (config.hazards, config.task)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hazards": {"nun": 3}}, r"EnvConfig\.hazards has no field 'nun'; fields: num, keepout"),
        ({"hazards": {3: 1}}, r"EnvConfig\.hazards has no field 3; fields: num"),
        ({"hazards": {"num": -1}}, r"Hazards\.num is -1"),
        ({"robot": {"name": "mine"}}, r"EnvConfig\.robot lacks the field 'xml'; it needs: name, xml, root_joint"),
        ({"task": {"reward_gaol": 1}}, r"EnvConfig\.task has no field 'reward_gaol'; fields: goal, reward_distance"),
        ({"task": {"goal": {"num": 2}}}, r"Goal\.goal is .*; it must be one GoalArea"),
    ],
)
def test_a_wrong_mapping_names_the_field(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco", **changes)


def test_the_reach_of_the_lidar_can_be_swept():
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")
    state = env.reset(jax.random.key(0))

    def lidar(reach):
        lidar = dataclasses.replace(env.config.lidar, max_dist=reach)
        swept = env.replace(config=dataclasses.replace(env.config, lidar=lidar))
        return swept.restore(env.snapshot(state)).obs[env.obs_slices["goal_lidar"]].max()

    reaches = jnp.array([2.0, 3.0, 6.0])
    one_by_one = [
        mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco", lidar=Lidar(max_dist=float(reach)))
        .restore(env.snapshot(state))
        .obs[env.obs_slices["goal_lidar"]]
        .max()
        for reach in reaches
    ]
    np.testing.assert_allclose(jax.vmap(lidar)(reaches), one_by_one, atol=1e-6)


def test_jax_s_numbers_become_python_s():
    hazards = Hazards(num=jnp.int32(2), size=jnp.float32(0.5), keepout=jnp.float32(0.25), locations=jnp.eye(2))
    assert hazards == Hazards(num=2, size=0.5, keepout=0.25, locations=((1.0, 0.0), (0.0, 1.0)))
    config = EnvConfig(margin=jnp.float32(0.5), extents=jnp.array([-1.0, -1, 1, 1]), layout_seed=jnp.int32(3))
    assert config == EnvConfig(margin=0.5, extents=(-1.0, -1.0, 1.0, 1.0), layout_seed=3)
    assert jax.tree.structure(config) == jax.tree.structure(dataclasses.replace(config, reward_clip=jnp.float32(3)))
    assert EnvConfig(extents=[jnp.float32(-1), -1, 1, np.float32(1)]).extents == (-1.0, -1.0, 1.0, 1.0)
    for wrong in ({"size": jnp.float32(-1)}, {"keepout": jnp.ones(2)}, {"size": jnp.array([0.1, jnp.nan])}):
        with pytest.raises(ValueError, match=r"Hazards\.\w+ is .*; it must be a finite number of at least 0"):
            Hazards(**wrong)
    assert Hazards(size=jnp.array([0.1, 0.2])).size.shape == (2,)  # for vmap


def test_what_shapes_the_model_cannot_be_traced():
    assert jax.vmap(lambda size: Hazards(size=size).size)(jnp.ones(2)).shape == (2,)
    with pytest.raises(ValueError, match=r"EnvConfig\.margin is .*; it must be a number that is known when"):
        jax.jit(lambda margin: EnvConfig(margin=margin).margin)(0.5)
    with pytest.raises(ValueError, match=r"LocomotionConfig\.healthy_height is .*; it must be a number that is known"):
        jax.vmap(lambda low: dataclasses.replace(HOPPER, healthy_height=(low, 2.0)).threshold)(jnp.ones(2))
    with pytest.raises(ValueError, match=r"Randomize\.mass is .*; it must be a number that is known when"):
        jax.jit(lambda high: Randomize(mass=(1.0, high)).sensor_noise)(2.0)
    with pytest.raises(ValueError, match=r"Hazards\.locations is .*; it must be a number that is known when"):
        jax.jit(lambda x: Hazards(num=1, locations=((x, 0.0),)).size)(0.5)


def test_an_attribute_without_a_type_would_not_change_the_field():
    with pytest.raises(TypeError, match=r"Far\.reward_goal has no type.*write reward_goal: float = 5\.0"):

        @settings
        class Far(Goal):
            reward_goal = 5.0


def test_a_typed_attribute_changes_the_field():
    @settings
    class Far(Goal):
        reward_goal: float = 5.0

    assert Far().reward_goal == 5.0


def test_fields_need_the_decorator():
    class Slow(Goal):
        max_speed: float = 0.5

    class Wide(Hazards):
        size = 0.5

    class Mine(Goal):
        name: ClassVar[str] = "Mine"
        moves: "ClassVar[str | None]" = "goal"

    with pytest.raises(TypeError, match=r"Slow\.max_speed is no field without the decorator @settings of Slow"):
        Slow()
    with pytest.raises(TypeError, match=r"Wide\.size has no type"):
        Wide()
    assert EnvConfig(task=Mine()).task.name == "Mine"


def test_fields_of_a_task_of_its_own_need_the_decorator():
    class Still(AbstractTask):
        weight: float = 1.0
        objects = init = reward = advance = None

    with pytest.raises(TypeError, match=r"Still\.weight is no field without the decorator"):
        EnvConfig(task=Still())


def test_a_table_of_a_task_may_hold_arrays():
    """Equal settings are equal trees: JAX compares what is no leaf, and arrays have no truth value."""

    @settings
    class Shaped(Goal):
        table: dict = dataclasses.field(default_factory=dict)

    one, other = (Shaped(table={"weights": np.array([1.0, 2.0]), "more": [jnp.ones(2)]}) for _ in range(2))
    assert one.table == {"weights": (1.0, 2.0), "more": [(1.0, 1.0)]}
    assert jax.tree.structure(one) == jax.tree.structure(other)
