"""Settings: wrong values are refused by name, right ones are pytrees, and what a config says of its objects."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import (
    Boundary,
    Button,
    Buttons,
    Circle,
    CircleArea,
    EnvConfig,
    Goal,
    GoalArea,
    Gremlins,
    Hazards,
    Lidar,
    Pillars,
    Point,
    Push,
    PushBox,
    Robot,
    Run,
    Vases,
    Walls,
)
from mjx_safety.core.settings import settings, static

NAN, INF = float("nan"), float("inf")
NOT_COUNTS = (-1, 2.5, True, "3", None, NAN)
NOT_NUMBERS = (NAN, INF, True, "0.3", None)
NOT_LENGTHS = (-0.1, *NOT_NUMBERS)
NOT_SIZES = (0.0, *NOT_LENGTHS)
NOT_BOOLS = (1, None, "yes")
NOT_RECTANGLES = (None, 3, (0, 0, 1), (1, 0, 0, 1), (0, 0, 1, NAN), (0, 0, 1, INF), "abcd", (0, 0, 1, 1, 1))
NOT_RECTANGLES += ("1234", (0, 0, 1, "1"), (0, 0, 1, True))
NOT_PLACEMENTS = ((), (0, 0, 1, 1), ((1, 0, 0, 1),), ((0, 0, 1),), 3, ((0, 0, 1, 1), None), ((0, 0, "1", 1),))
NOT_LOCATIONS = (((0, 0), (1, 1), (2, 2)), ((0,),), ((0, NAN),), (0, 0), ((0, 0, 0),), 3, None, (("0", "1"),))
FAR = ((0.0, 0.0, 1e6, 1.0), (-1000.5, 0, 0, 1))  # where single precision is too coarse
FAR_PLACES = (((0.0, -2e3),),)
NOT_GOALS = (None, Hazards(), GoalArea(num=2), GoalArea(num=0))

AREAS = (GoalArea, CircleArea)
OBSTACLES = (Hazards, Vases, Pillars, Buttons, Gremlins, Walls)
OBJECTS = (*AREAS, *OBSTACLES, PushBox, Boundary)
TASKS = (Goal, Button, Push, Circle, Run)

NUMBER = "a finite number"
LENGTH = "a finite number of at least 0"
SIZE = "a finite number of at least 1e-"
COUNT = "a whole number of at least "
BOOL = "True or False"


def each(kinds, fields, values, allowed):
    """Wrong values of some fields of some settings, and what the message says is allowed."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    return [(kind, field, value, allowed) for kind in kinds for field in fields.split() for value in values]


WRONG = [
    # what all objects have
    *each((*AREAS, *OBSTACLES, PushBox), "num", NOT_COUNTS, COUNT + "0"),
    *each(Boundary, "num", (0, 1, 3, 5, "2", None), "2 or 4"),
    *each(OBJECTS, "keepout", NOT_LENGTHS, LENGTH),
    *each(OBJECTS, "placements", NOT_PLACEMENTS, "at least one rectangle"),
    *each(OBJECTS, "placements", tuple((far,) for far in FAR), "within 1000 m of the origin"),
    *each((*AREAS, *OBSTACLES, PushBox), "locations", NOT_LOCATIONS, "pairs (x, y) in m"),
    *each(OBJECTS, "observed constrained", NOT_BOOLS, BOOL),
    # their own
    *each((GoalArea, PushBox), "compass", NOT_BOOLS, BOOL),
    *each((GoalArea, Hazards), "size", NOT_LENGTHS, LENGTH),
    *each((Vases, Pillars, Buttons, Gremlins, PushBox, Walls), "size", NOT_SIZES, SIZE),
    *each((Vases, Gremlins, PushBox), "density", NOT_SIZES, SIZE),
    *each((Hazards, Pillars, Buttons, Boundary), "cost", NOT_LENGTHS, LENGTH),
    *each((Vases, Gremlins), "contact_cost", NOT_LENGTHS, LENGTH),
    *each(Vases, "sink velocity_cost velocity_threshold displace_cost displace_threshold", NOT_LENGTHS, LENGTH),
    *each(Pillars, "half_height", NOT_SIZES, SIZE),
    *each(Gremlins, "travel", NOT_LENGTHS, LENGTH),
    *each(CircleArea, "radius", NOT_LENGTHS, LENGTH),
    *each(Boundary, "distance", NOT_LENGTHS, LENGTH),
    *each(Boundary, "half_length", NOT_SIZES, SIZE),
    *each(Boundary, "locations", (((5, 5),), ((1, 0), (-1, 1)), ((1, 0),), 3, None), "`distance` places the lines"),
    *each(Boundary, "placements", (((0, 0, 1, 1),),), "None, since `distance` places the lines"),
    # robots
    *each(Point, "num", (0, 2), "1"),
    *each(Point, "keepout start_height joint_noise", NOT_LENGTHS, LENGTH),
    *each(Point, "lowest", tuple(value for value in NOT_NUMBERS if value is not None), NUMBER),
    *each(Point, "start_joints", ((NAN,), ("a",)), "a tuple of finite numbers"),
    *each(Point, "heights", (("sonar",),), "a tuple of names among `sensors`"),
    *each(Point, "placements", NOT_PLACEMENTS, "at least one rectangle"),
    *each(Point, "locations", NOT_LOCATIONS, "pairs (x, y) in m"),
    *each(Point, "xml", ("no_such.xml", ".", "", None), "the path of an MJCF file"),
    *each(Point, "asset_folder", ("no_such", __file__, 3, ""), "the path of a folder, or None"),
    *each(Point, "root_joint", ("ball", None), "'planar' or 'free'"),
    *each(Point, "angle_components touches_floor", NOT_BOOLS, BOOL),
    *each(Point, "floor_points", (0, *(value for value in NOT_COUNTS if value is not None)), COUNT + "1"),
    *each(Point, "self_contacts", (("a", "b"), (("a",),), ((1, 2),), 3, None), "pairs of names of geoms"),
    *each(Point, "start_yaw", (NAN, INF, "north"), "None or an angle in rad"),
    # tasks
    *each((Goal, Button, Push), "goal", NOT_GOALS, "one GoalArea(...)"),
    *each((Goal, Button), "reward_distance", NOT_NUMBERS, NUMBER),
    *each((Goal, Button, Push), "reward_goal", NOT_NUMBERS, NUMBER),
    *each(Button, "buttons", (None, 4, Hazards(), Buttons(num=0)), "Buttons(...), at least one"),
    *each(Button, "goal_placed", NOT_BOOLS, BOOL),
    *each(Button, "resampling_delay", NOT_COUNTS, COUNT + "0"),
    *each(Push, "push_box", (None, Vases(), PushBox(num=2), PushBox(num=0)), "one PushBox(...)"),
    *each(Push, "null_dist", NOT_LENGTHS, LENGTH),
    *each(Push, "reward_box_dist reward_box_goal", NOT_NUMBERS, NUMBER),
    *each(Circle, "circle", (None, GoalArea(), CircleArea(num=2), CircleArea(num=0, locations=())), "one CircleArea"),
    *each((Circle, Run), "reward_factor", NOT_NUMBERS, NUMBER),
    # lidar
    *each(Lidar, "num_bins", (0, *NOT_COUNTS), COUNT + "1"),
    *each(Lidar, "max_dist", (0.0, -0.1, NAN, INF, True, "0.3"), "None or a finite number of at least"),
    *each(Lidar, "exp_gain", NOT_LENGTHS, LENGTH),
    *each(Lidar, "alias see_markers", NOT_BOOLS, BOOL),
    *each(Lidar, "kind", ("radar", None), "'pseudo' or 'natural'"),
    # environments
    *each(EnvConfig, "robot", (None, "Point"), "a Robot"),
    *each(EnvConfig, "task", (None, "Goal", Goal), "a Task"),
    *each(EnvConfig, "lidar", (None, 16), "a Lidar"),
    *each(EnvConfig, "hazards", (8, Vases(), Hazards), "None or Hazards(...)"),
    *each(EnvConfig, "vases", (8, Hazards()), "None or Vases(...)"),
    *each(EnvConfig, "pillars", (8, Hazards()), "None or Pillars(...)"),
    *each(EnvConfig, "buttons", (8, Hazards()), "None or Buttons(...)"),
    *each(EnvConfig, "gremlins", (8, Hazards()), "None or Gremlins(...)"),
    *each(EnvConfig, "walls", (8, Hazards()), "None or Walls(...)"),
    *each(EnvConfig, "boundary", (8, Walls()), "None or Boundary(...)"),
    *each(EnvConfig, "compass_size", (1, 4, "2", None), "2 or 3"),
    *each(EnvConfig, "extras", ("qpos", ("speed",), (3,), None, ("com", "vision")), "some of goal_dist, remaining"),
    *each(EnvConfig, "profile", ("2020", None, 2019), "'1.0.0' or '2019'"),
    *each(EnvConfig, "extents", NOT_RECTANGLES, "a rectangle (xmin, ymin, xmax, ymax) in m"),
    *each(EnvConfig, "extents", FAR, "within 1000 m of the origin"),
    *each((GoalArea, Hazards, Point), "locations", FAR_PLACES, "within 1000 m of the origin"),
    *each(EnvConfig, "margin action_noise reward_clip", NOT_LENGTHS, LENGTH),
    *each(EnvConfig, "randomize", (3, (0.5, 2.0), True), "None or Randomize(...)"),
    *each(EnvConfig, "layouts", ("random", None, True), "'per_episode', 'per_env' or 'fixed'"),
    *each(EnvConfig, "layout_seed", NOT_COUNTS, COUNT + "0"),
    *each(EnvConfig, "episode_length frameskip", (0, *NOT_COUNTS), COUNT + "1"),
    *each(EnvConfig, "frameskip_prob", (1.5, *NOT_LENGTHS), NUMBER),
    *each(EnvConfig, "continue_goal indicator reward_orientation", NOT_BOOLS, BOOL),
    *each(EnvConfig, "reward_orientation_scale reward_exception", (-INF, *NOT_NUMBERS), NUMBER),
]
FREE = {(Point, "name"), (Point, "sensors")}  # looked at where the model is built


@pytest.mark.parametrize("kind, field, value, allowed", WRONG)
def test_a_wrong_value_is_refused_by_name(kind, field, value, allowed):
    name = "Robot" if kind is Point else kind.__name__
    with pytest.raises(ValueError) as error:
        kind(**{field: value})
    message = str(error.value)
    assert f"{name}.{field}" in message
    assert repr(value) in message
    assert allowed in message


def test_every_field_of_all_settings_is_checked():
    checked = {(kind, field) for kind, field, _, _ in WRONG} | FREE
    for kind in (*OBJECTS, *TASKS, Lidar, EnvConfig):
        assert {field.name for field in dataclasses.fields(kind)} <= {field for k, field in checked if k is kind}, kind
    assert {field.name for field in dataclasses.fields(Robot)} <= {field for k, field in checked if k is Point}


@pytest.mark.parametrize(
    "task, kinds, name, allowed",
    [
        (Button(), {"buttons": Buttons()}, "buttons", "None, since the task Button has its own"),
        (Run(), {"extras": ("goal_dist",)}, "extras", "without 'goal_dist', since the task Run has no goal"),
        (Circle(), {"extras": ("com", "goal_dist")}, "extras", "since the task Circle has no goal"),
    ],
)
def test_what_does_not_go_with_the_task_is_refused(task, kinds, name, allowed):
    with pytest.raises(ValueError, match=rf"EnvConfig\.{name} is .*{allowed}"):
        EnvConfig(task=task, **kinds)


@pytest.mark.parametrize("name, kind", [("crates", PushBox(num=2)), ("goal", PushBox()), ("hazards", GoalArea())])
def test_objects_of_a_task_have_known_names_and_kinds(name, kind):
    class Mine(Goal):
        name = "Mine"

        @property
        def objects(self):
            return {"goal": self.goal, name: kind}

    with pytest.raises(ValueError, match=rf"EnvConfig\.task is Mine, with \w+\(\.\.\.\) as '{name}' .*: PushBox"):
        EnvConfig(task=Mine())


def test_no_extra_is_given_twice():
    with pytest.raises(ValueError, match=r"EnvConfig\.extras"):
        EnvConfig(extras=("qpos", "qpos"))


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


def test_lists_are_taken_for_tuples():
    hazards = Hazards(num=2, locations=[[0, 1]], placements=[[0, 0, 1, 1]])
    assert hazards.locations == ((0, 1),) and hazards.placements == ((0, 0, 1, 1),)
    assert EnvConfig(extras=["com"], extents=[-1, -1, 1, 1]) == EnvConfig(extras=("com",), extents=(-1, -1, 1, 1))


@pytest.mark.parametrize("num", [2, 4])
def test_the_lines_of_a_boundary_stand_around_the_origin(num):
    lines = ((0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5))[:num]
    assert Boundary(num=num, distance=0.5).locations == lines
    assert dataclasses.replace(Boundary(num=num), distance=0.5).locations == lines
    assert dataclasses.replace(Boundary(num=6 - num, distance=0.5), num=num).locations == lines


def test_defaults_are_the_references():
    """The defaults are those of safety-gymnasium 1.0.0."""
    keepouts = {
        GoalArea: 0.4,
        Hazards: 0.4,
        Vases: 0.15,
        Gremlins: 0.5,
        Pillars: 0.3,
        Buttons: 0.2,
        PushBox: 0.2,
        Walls: 0.0,
        CircleArea: 0.0,
        Boundary: 0.0,
    }
    assert {kind: kind().keepout for kind in OBJECTS} == keepouts
    heights = {GoalArea: 0.16, Hazards: 0.02, Vases: 0.09996, Gremlins: 0.1, Pillars: 0.5, Buttons: 0.1, PushBox: 0.2}
    for kind, height in heights.items():
        assert kind().height == pytest.approx(height), kind
    config = EnvConfig()
    assert (config.extents, config.margin, config.robot.keepout) == ((-2, -2, 2, 2), 0.0, 0.4)
    assert (config.frameskip, config.frameskip_prob, config.action_noise) == (10, 1.0, 0.0)
    assert (config.reward_clip, config.reward_exception, config.reward_orientation_scale) == (10.0, -10.0, 0.002)
    assert (config.indicator, config.continue_goal, config.reward_orientation) == (True, True, False)
    assert (config.lidar.num_bins, config.lidar.max_dist, config.lidar.exp_gain) == (16, 3.0, 1.0)


def leaf_names(tree):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


LEAVES = {
    GoalArea: [".size"],
    Hazards: [".size", ".cost"],
    Vases: [".contact_cost", ".velocity_cost", ".velocity_threshold", ".displace_threshold"],
    Pillars: [".cost"],
    Buttons: [".cost"],
    Gremlins: [".contact_cost"],
    PushBox: [],
    Walls: [],
    CircleArea: [".radius"],
    Boundary: [".cost"],
    Point: [],
    Lidar: [".max_dist", ".exp_gain"],
    Goal: [".goal.size", ".reward_distance", ".reward_goal"],
    Button: [".buttons.cost", ".goal.size", ".reward_distance", ".reward_goal"],
    Push: [".goal.size", ".null_dist", ".reward_box_dist", ".reward_box_goal", ".reward_goal"],
    Circle: [".circle.radius", ".reward_factor"],
    Run: [".reward_factor"],
}


@pytest.mark.parametrize("kind", LEAVES)
def test_float_fields_are_leaves_and_the_rest_is_structure(kind):
    assert leaf_names(kind()) == LEAVES[kind]


def test_leaves_of_a_config_are_those_of_its_parts_and_of_the_reward():
    config = EnvConfig(task=Push(), hazards=Hazards(num=2), gremlins=Gremlins(), boundary=Boundary())
    assert leaf_names(config) == [
        *(f".robot{leaf}" for leaf in LEAVES[Point]),
        *(f".task{leaf}" for leaf in LEAVES[Push]),
        ".hazards.size",
        ".hazards.cost",
        ".gremlins.contact_cost",
        ".boundary.cost",
        ".lidar.max_dist",
        ".lidar.exp_gain",
        ".reward_clip",
        ".reward_orientation_scale",
        ".reward_exception",
    ]


def test_settings_survive_flattening():
    config = EnvConfig(hazards=Hazards(num=2, placements=((0.0, 0.0, 1.0, 1.0),)), vases=Vases(), boundary=Boundary())
    assert jax.tree.map(lambda leaf: leaf, config) == config
    assert jax.tree.structure(config) == jax.tree.structure(dataclasses.replace(config, reward_clip=3.0))
    assert jax.tree.structure(config) != jax.tree.structure(dataclasses.replace(config, episode_length=3))


def test_a_tree_may_hold_anything_while_jax_rebuilds_it():
    rebuilt = jax.tree.map(lambda leaf: jnp.full(3, -leaf), Hazards())
    np.testing.assert_allclose(rebuilt.size, -0.2)
    assert jax.tree.map(lambda leaf: None, Lidar()).exp_gain is None


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


def test_a_subclass_of_settings_without_fields_of_its_own_is_a_tree_like_its_base():
    """Without the decorator too. As a constant, its sweeps had failed from the second one on."""

    class Mine(Goal):
        pass

    config = EnvConfig(task=Mine(reward_goal=3.0))
    assert leaf_names(config) == leaf_names(EnvConfig(task=Goal()))
    assert jax.jit(lambda config: config.task.reward_goal * jnp.float32(1))(config) == 3.0


ALL_KINDS = {
    "hazards": Hazards(),
    "vases": Vases(),
    "pillars": Pillars(),
    "gremlins": Gremlins(),
    "walls": Walls(),
    "boundary": Boundary(),
}


def test_objects_are_observed_in_the_order_of_their_bodies():
    """Markers and what stands fast in the order they are added, then what moves, then what is driven."""
    goal = EnvConfig(buttons=Buttons(), **ALL_KINDS)
    still = ["goal", "hazards", "pillars", "buttons", "walls", "boundary"]
    assert list(goal.objects) == [*still, "vases", "gremlins"]
    push = EnvConfig(task=Push(), **ALL_KINDS)
    assert list(push.objects) == ["goal", "hazards", "pillars", "walls", "boundary", "push_box", "vases", "gremlins"]
    button = EnvConfig(task=Button(), **ALL_KINDS)
    assert list(button.objects)[:3] == ["buttons", "goal", "hazards"]
    assert list(EnvConfig(hazards=Hazards(num=0), vases=Vases(num=2)).objects) == ["goal", "vases"]


@pytest.mark.parametrize(
    "task, profile, order",
    [
        (Goal(), "1.0.0", "goal hazards pillars walls boundary vases gremlins"),
        (Goal(), "2019", "walls goal hazards vases pillars gremlins boundary"),
        (Push(), "1.0.0", "goal hazards pillars walls boundary push_box vases gremlins"),
        (Push(), "2019", "walls goal push_box hazards vases pillars gremlins boundary"),
        (Button(), "1.0.0", "buttons hazards pillars walls boundary vases gremlins"),
        (Button(), "2019", "walls buttons hazards vases pillars gremlins boundary"),
        (Button(goal_placed=True), "1.0.0", "buttons goal hazards pillars walls boundary vases gremlins"),
        (Button(goal_placed=True), "2019", "walls goal buttons hazards vases pillars gremlins boundary"),
        (Circle(), "1.0.0", "circle hazards pillars walls boundary vases gremlins"),
        (Run(), "1.0.0", "hazards pillars walls boundary vases gremlins"),
    ],
)
def test_objects_are_placed_in_the_order_of_the_profile(task, profile, order):
    assert " ".join(EnvConfig(task=task, profile=profile, **ALL_KINDS).placed) == order


def test_what_has_no_room_is_named():
    with pytest.raises(ValueError, match="no room to place hazards: keepout 5 m leaves nothing of its extents"):
        mjx_safety.make(EnvConfig(hazards=Hazards(keepout=5.0)), physics="mujoco")
