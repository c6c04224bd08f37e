"""Settings: wrong values are refused by name, right ones are pytrees; `make` and the registry."""

import dataclasses
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import EnvConfig, Goal, GoalArea, Hazards, Lidar, Point, Vases, registry
from mjx_safety.physics.mujoco import MujocoPhysics
from mjx_safety.settings import settings, static

NAN, INF = float("nan"), float("inf")
NOT_COUNTS = (-1, 2.5, True, "3", None, NAN)
NOT_LENGTHS = (-0.1, NAN, INF, True, "0.3", None)
NOT_RECTANGLES = (None, 3, (0, 0, 1), (1, 0, 0, 1), (0, 0, 1, NAN), (0, 0, 1, INF), "abcd", (0, 0, 1, 1, 1))
NOT_PLACEMENTS = ((), (0, 0, 1, 1), ((1, 0, 0, 1),), ((0, 0, 1),), 3, ((0, 0, 1, 1), None))
NOT_LOCATIONS = (((0, 0), (1, 1), (2, 2)), ((0,),), ((0, NAN),), (0, 0), ((0, 0, 0),), 3, None)
RECTANGLE = "a rectangle (xmin, ymin, xmax, ymax) in m"

WRONG = [
    *((Lidar, "num_bins", value, "whole number of at least 1") for value in (0, *NOT_COUNTS)),
    *((Lidar, "max_dist", value, "finite number of at least") for value in (0.0, *NOT_LENGTHS)),
    *((Lidar, "alias", value, "True or False") for value in (1, None, "yes")),
    *((Hazards, "num", value, "whole number of at least 0") for value in NOT_COUNTS),
    *(
        (kind, field, value, "finite number of at least")
        for kind, fields in (
            (GoalArea, ("keepout", "size")),
            (Hazards, ("keepout", "size", "cost")),
            (Vases, ("keepout", "size", "density", "sink", "contact_cost", "velocity_cost", "velocity_threshold")),
            (Point, ("keepout", "start_height")),
        )
        for field in fields
        for value in NOT_LENGTHS
    ),
    (Vases, "size", 0.0, "finite number of at least"),
    (Vases, "density", 0.0, "finite number of at least"),
    *(
        (kind, field, 1, "True or False")
        for kind in (GoalArea, Hazards, Vases)
        for field in ("observed", "constrained")
    ),
    *((Hazards, "placements", value, "at least one rectangle") for value in NOT_PLACEMENTS),
    *((Hazards, "locations", value, "pairs (x, y) in m") for value in NOT_LOCATIONS),
    (Point, "num", 2, "1"),
    (Point, "num", 0, "1"),
    *((Point, "xml", value, "the path of an MJCF file") for value in ("no_such.xml", ".", "", None)),
    *((Point, "root_joint", value, "'planar' or 'free'") for value in ("ball", None)),
    *((Point, "touches_floor", value, "True or False") for value in ("no", 1)),
    *((Point, "start_yaw", value, "None or an angle in rad") for value in (NAN, INF, "north")),
    *((Goal, "goal", value, "one GoalArea(...)") for value in (None, Hazards(), GoalArea(num=2), GoalArea(num=0))),
    *(
        (Goal, field, value, "finite")
        for field in ("reward_distance", "reward_goal")
        for value in (NAN, INF, "1", None)
    ),
    *((EnvConfig, "robot", value, "a Robot") for value in (None, "Point")),
    *((EnvConfig, "task", value, "a Task") for value in (None, "Goal", Goal)),
    *((EnvConfig, "lidar", value, "a Lidar") for value in (None, 16)),
    *((EnvConfig, "hazards", value, "None or Hazards(...)") for value in (8, Vases(), Hazards)),
    *((EnvConfig, "vases", value, "None or Vases(...)") for value in (8, Hazards())),
    *((EnvConfig, "extents", value, RECTANGLE) for value in NOT_RECTANGLES),
    *((EnvConfig, "margin", value, "finite number of at least 0") for value in NOT_LENGTHS),
    *((EnvConfig, "episode_length", value, "whole number of at least 1") for value in (0, *NOT_COUNTS)),
    *((EnvConfig, field, 1, "True or False") for field in ("continue_goal", "indicator")),
    *((EnvConfig, "reward_clip", value, "finite number of at least 0") for value in NOT_LENGTHS),
    *((EnvConfig, "reward_exception", value, "finite number") for value in (NAN, -INF, INF, "-10", None)),
]


@pytest.mark.parametrize("kind, field, value, allowed", WRONG)
def test_a_wrong_value_is_refused_by_name(kind, field, value, allowed):
    name = "Robot" if kind is Point else kind.__name__
    with pytest.raises(ValueError) as error:
        kind(**{field: value})
    message = str(error.value)
    assert f"{name}.{field}" in message
    assert repr(value) in message
    assert allowed in message


def test_a_field_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="colour"):
        Hazards(colour="red")


def test_settings_are_given_by_name_and_frozen():
    with pytest.raises(TypeError):
        Hazards(8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Hazards().num = 9


def test_replace_gives_a_checked_copy():
    hazards = Hazards(num=8)
    assert dataclasses.replace(hazards, size=0.5) == Hazards(num=8, size=0.5)
    assert hazards.size == 0.2
    with pytest.raises(ValueError, match=r"Hazards\.size"):
        dataclasses.replace(hazards, size=-1.0)


def leaf_names(tree):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def test_float_fields_are_leaves_and_the_rest_is_structure():
    assert leaf_names(Hazards()) == [".size", ".cost"]
    assert leaf_names(Vases()) == [".contact_cost", ".velocity_cost", ".velocity_threshold"]
    assert leaf_names(Lidar()) == [".max_dist"]
    assert leaf_names(Point()) == []
    assert leaf_names(Goal()) == [".goal.size", ".reward_distance", ".reward_goal"]
    config = EnvConfig(hazards=Hazards(num=2))
    assert leaf_names(config) == [
        ".task.goal.size",
        ".task.reward_distance",
        ".task.reward_goal",
        ".hazards.size",
        ".hazards.cost",
        ".lidar.max_dist",
        ".reward_clip",
        ".reward_exception",
    ]


def test_settings_survive_flattening():
    config = EnvConfig(hazards=Hazards(num=2, placements=((0.0, 0.0, 1.0, 1.0),)), vases=Vases())
    assert jax.tree.map(lambda leaf: leaf, config) == config
    assert jax.tree.structure(config) == jax.tree.structure(dataclasses.replace(config, reward_clip=3.0))
    assert jax.tree.structure(config) != jax.tree.structure(dataclasses.replace(config, episode_length=3))


def test_a_tree_may_hold_anything_while_jax_rebuilds_it():
    rebuilt = jax.tree.map(lambda leaf: jnp.full(3, -leaf), Hazards())
    np.testing.assert_allclose(rebuilt.size, -0.2)
    assert jax.tree.map(lambda leaf: None, Lidar()).max_dist is None


def test_settings_can_be_arguments_of_compiled_functions():
    double = jax.jit(lambda hazards: 2 * hazards.size)
    assert double(Hazards(size=0.5)) == 1.0
    assert double(Hazards(size=0.25)) == 0.5
    assert double._cache_size() == 1


def test_a_users_settings_need_no_postponed_annotations():
    @settings
    class Mine:
        gain: float = 1.0
        shape: float = static(default=2.0)
        count: int = 3

    assert leaf_names(Mine()) == [".gain"]


def test_objects_stand_in_the_order_of_placement_and_empty_kinds_are_left_out():
    assert list(EnvConfig(hazards=Hazards(num=1), vases=Vases(num=2)).objects) == ["goal", "hazards", "vases"]
    assert list(EnvConfig(hazards=Hazards(num=0), vases=Vases(num=2)).objects) == ["goal", "vases"]


@pytest.fixture
def own_ids(monkeypatch):
    """A registry that forgets what a test adds."""
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))


@pytest.fixture
def module(monkeypatch):
    """A module of a user's, with a factory and with things that are none."""
    module = types.ModuleType("users_envs")
    module.factory = lambda: EnvConfig(episode_length=7)
    module.number = 3
    module.wrong = lambda: 3
    monkeypatch.setitem(sys.modules, "users_envs", module)


def test_ids_are_the_levels_of_the_benchmark():
    assert [f"SafetyPointGoal{level}-v0" for level in range(3)] == list(mjx_safety.ENV_IDS)


@pytest.mark.parametrize(
    "env_id, near", [("SafetyPointGoal3-v0", "SafetyPointGoal"), ("safetypointgoal1-v0", "SafetyPointGoal1-v0")]
)
def test_an_unknown_id_suggests_the_near_one_and_lists_all(env_id, near):
    with pytest.raises(ValueError, match="unknown environment id") as error:
        mjx_safety.make(env_id)
    suggestion, listing = str(error.value).split("known ids:")
    assert repr(env_id) in suggestion and f"did you mean {near}" in suggestion
    for known in mjx_safety.ENV_IDS:
        assert known in listing


def test_an_id_like_no_other_gets_no_suggestion():
    with pytest.raises(ValueError, match="unknown environment id 'xyz'; known ids:"):
        mjx_safety.make("xyz")


def test_an_unknown_field_suggests_the_near_one_and_lists_all():
    with pytest.raises(ValueError, match=r"no field 'hazard' \(did you mean hazards") as error:
        mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco", hazard=Hazards())
    for field in dataclasses.fields(EnvConfig):
        assert field.name in str(error.value)


def test_an_unknown_engine_suggests_the_near_one_and_lists_all():
    with pytest.raises(ValueError, match=r"unknown physics 'mujuco' \(did you mean mujoco.*mjx, mujoco, auto"):
        mjx_safety.make("SafetyPointGoal1-v0", physics="mujuco")


def test_overrides_are_checked_and_applied():
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco", hazards=Hazards(num=2), episode_length=5)
    assert env.config.hazards.num == 2 and env.episode_length == 5
    assert env.config.vases == Vases(num=1, constrained=False)
    with pytest.raises(ValueError, match=r"EnvConfig\.episode_length is 0"):
        mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco", episode_length=0)


def test_a_config_is_an_environment():
    config = EnvConfig(hazards=Hazards(num=2))
    env = mjx_safety.make(config, physics="mujoco")
    assert env.config == config


def test_auto_physics_on_a_cpu_is_the_c_engine(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert registry.resolve_physics("auto") == "mujoco"
    assert isinstance(mjx_safety.make("SafetyPointGoal0-v0", physics="auto").physics, MujocoPhysics)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert registry.resolve_physics("auto") == "mjx"


def test_a_factory_can_be_named_by_its_path(module):
    assert mjx_safety.make("users_envs:factory", physics="mujoco").episode_length == 7


@pytest.mark.parametrize(
    "path, words",
    [
        ("no_such_module:factory", ("cannot import 'no_such_module'", "no_such_module:factory")),
        ("users_envs.inner:factory", ("cannot import 'users_envs.inner'",)),
        ("users_envs:missing", ("module 'users_envs' has no 'missing'", "users_envs:missing")),
        ("users_envs:", ("users_envs:",)),
        ("users_envs:number", ("'users_envs:number' is not a function that returns an EnvConfig",)),
        ("users_envs:wrong", ("'users_envs:wrong' returned int", "EnvConfig")),
    ],
)
def test_a_wrong_path_of_a_factory_says_what_is_wrong(module, path, words):
    with pytest.raises(ValueError) as error:
        mjx_safety.make(path, physics="mujoco")
    for word in words:
        assert word in str(error.value)


def test_a_registered_id_can_be_made(own_ids):
    mjx_safety.register("MyEnv-v0", lambda: EnvConfig(episode_length=7))
    assert mjx_safety.make("MyEnv-v0", physics="mujoco").episode_length == 7
    with pytest.raises(ValueError, match="did you mean MyEnv-v0"):
        mjx_safety.make("MyEnv-v1", physics="mujoco")


def test_an_id_can_be_registered_only_once(own_ids):
    mjx_safety.register("MyEnv-v0", EnvConfig)
    for taken in ("MyEnv-v0", "SafetyPointGoal1-v0"):
        with pytest.raises(ValueError, match=f"'{taken}' is already registered"):
            mjx_safety.register(taken, EnvConfig)


def test_a_robot_without_the_sensors_it_names_is_refused():
    with pytest.raises(ValueError, match="robot Point has no sensor named 'sonar'"):
        mjx_safety.make(EnvConfig(robot=Point(sensors=("gyro", "sonar"))), physics="mujoco")


def test_a_robot_without_a_body_named_robot_is_refused(tmp_path):
    path = tmp_path / "thing.xml"
    path.write_text("<mujoco><worldbody><body name='thing'><geom size='1'/></body></worldbody></mujoco>")
    with pytest.raises(ValueError, match=r"thing\.xml of robot Point has no body named 'robot'"):
        mjx_safety.make(EnvConfig(robot=Point(xml=str(path))), physics="mujoco")
