"""Tasks of a user's own: what an environment cannot keep is refused where its settings are built, by name."""

from typing import ClassVar

import pytest

from mjx_safety import (
    AbstractTask,
    CircleArea,
    EnvConfig,
    Goal,
    GoalArea,
    Hazards,
    Pillars,
    PushBox,
    Run,
    Vases,
    settings,
)
from mjx_safety.world.objects import AbstractObject


def task_of(objects=None, **members):
    """A task with these objects and members of its class."""
    whole = {
        "objects": property(lambda self: {"goal": GoalArea()} if objects is None else objects),
        "init": lambda self, readings, key: None,
        "reward": lambda self, readings, memory: (0.0, False),
        "advance": lambda self, readings, memory, goal_met, key: None,
        "name": "Mine",
    }
    return settings(type("Mine", (AbstractTask,), whole | members))()


@settings
class FreePillars(Pillars):
    body_kind: ClassVar = "free"


@settings
class MarkerVases(Vases):
    body_kind: ClassVar = "marker"


@settings
class SolidGoal(GoalArea):
    body_kind: ClassVar = "fixed"


@settings
class Solid(Pillars):
    body_kind: ClassVar = "solid"


# -- the kind that the task moves --------------------------------------------------------------------------------------

MARKER = "it must name one marker that a layout places"


@pytest.mark.parametrize(
    ("moves", "fields", "task", "problem"),
    [
        ("pillars", {}, {"objects": {"pillars": Pillars(num=1)}}, "a body of kind 'fixed'"),
        ("push_box", {}, {"objects": {"push_box": PushBox()}}, "a body of kind 'free'"),
        ("vases", {"vases": Vases()}, {}, "a body of kind 'free'"),
        ("goal", {}, {"objects": {"goal": GoalArea(num=2)}}, "and there are 2 of them"),
        ("hazards", {"hazards": Hazards(num=3)}, {}, "and there are 3 of them"),
        ("goal", {}, {"unplaced": frozenset({"goal"})}, "has it among its unplaced"),
        ("goal", {}, {"objects": {}}, "there is no such object"),
        ("goal", {}, {"objects": {"goal": GoalArea(num=0)}}, "there is no such object"),
        ("gaol", {}, {}, "there is no such object"),
        (("goal",), {}, {}, "there is no such object"),
    ],
)
def test_a_task_moves_one_marker_with_a_place(moves, fields, task, problem):
    with pytest.raises(ValueError, match=rf"EnvConfig\.task is Mine, which moves .*{problem}.*{MARKER}"):
        EnvConfig(task=task_of(moves=moves, **task), **fields)


@pytest.mark.parametrize(
    ("moves", "fields", "objects"),
    [
        (None, {}, None),
        ("goal", {}, None),
        ("hazards", {"hazards": Hazards(num=1)}, None),
        ("circle", {}, {"circle": CircleArea()}),
    ],
)
def test_any_one_marker_may_move(moves, fields, objects):
    assert EnvConfig(task=task_of(objects, moves=moves), **fields).task.moves == moves


# -- its objects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objects", [[GoalArea()], (GoalArea(),), {"goal"}, GoalArea(), "goal"])
def test_objects_are_a_mapping(objects):
    with pytest.raises(ValueError, match=r"EnvConfig\.task is Mine, whose objects are a \w+; they must be a mapping"):
        EnvConfig(task=task_of(objects))


def test_an_object_of_a_task_is_one_not_its_class():
    with pytest.raises(ValueError, match=r"with <class .*GoalArea'> as 'goal' among its objects"):
        EnvConfig(task=task_of({"goal": GoalArea}))


@pytest.mark.parametrize("unplaced", ["goal", None, 3, {"goal": True}])
def test_unplaced_is_a_set(unplaced):
    with pytest.raises(ValueError, match=r"EnvConfig\.task is Mine, whose unplaced is .*; it must be a set of names"):
        EnvConfig(task=task_of(unplaced=unplaced))


@pytest.mark.parametrize("unplaced", [{"goals"}, ("goal", "hazards"), frozenset({""}), [3], [["goal"]]])
def test_unplaced_names_objects_of_the_task(unplaced):
    with pytest.raises(ValueError, match=r"whose unplaced has .*; it must be a set of names among its objects: 'goal'"):
        EnvConfig(task=task_of(unplaced=unplaced), hazards=Hazards(num=1))


@pytest.mark.parametrize("unplaced", [{"goal"}, frozenset({"goal"}), ("goal",), ["goal"], ()])
def test_unplaced_may_be_any_collection(unplaced):
    config = EnvConfig(task=task_of(unplaced=unplaced))
    assert list(config.placed) == ([] if unplaced else ["goal"])


def test_a_body_without_a_place_would_stand_at_the_origin():
    with pytest.raises(ValueError, match=r"unplaced has 'push_box', a solid body; `view` can place only markers"):
        EnvConfig(task=task_of({"push_box": PushBox()}, unplaced={"push_box"}))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pillars": FreePillars(num=1)}, "EnvConfig.pillars is FreePillars.* 'free'; it must be 'fixed', as in Pilla"),
        ({"vases": MarkerVases(num=1)}, "EnvConfig.vases is MarkerVases.* 'marker'; it must be 'free', as in Vases"),
        ({"task": Goal(goal=SolidGoal())}, "the object 'goal' of the task Goal is SolidGoal.*'fixed'; it must be 'mar"),
    ],
)
def test_a_subclass_keeps_the_part_in_the_physics(fields, words):
    with pytest.raises(ValueError, match=words):
        EnvConfig(**fields)


def test_there_are_four_parts_in_the_physics():
    with pytest.raises(ValueError, match=r"Solid\.body_kind is 'solid'; it must be one of marker, fixed, free, driven"):
        Solid(num=1)
    assert AbstractObject().body_kind == "marker"


# -- what the observation has of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("num", "words"), [(0, "has no goal"), (2, "has 2 goals")])
def test_the_closeness_of_the_goal_is_that_of_one(num, words):
    with pytest.raises(ValueError, match=rf"EnvConfig\.extras is \('goal_dist',\).*since the task Mine {words}"):
        EnvConfig(task=task_of({"goal": GoalArea(num=num)}), extras=("goal_dist",))


@pytest.mark.parametrize("kinds", [{"goal": GoalArea(num=2, compass=True)}, {"push_box": PushBox(num=3, compass=True)}])
def test_a_compass_points_to_one_object(kinds):
    with pytest.raises(ValueError, match=r"compass is True for \d \w+; a compass takes num=1"):
        EnvConfig(task=task_of(kinds))


# -- its name ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_task_has_a_name(name):
    with pytest.raises(ValueError, match=rf"Mine\.name is {name!r}; it must be a name"):
        EnvConfig(task=task_of(name=name))


def test_a_task_without_a_name_has_that_of_its_class():
    class Base(AbstractTask):
        pass

    class Mine(Base):
        pass

    class Named(Mine):
        name = "Short"

    class Faster(Run):
        pass

    class Shorter(Named):
        pass

    assert [kind.name for kind in (Base, Mine, Named, Shorter, Faster)] == ["Base", "Mine", "Short", "Short", "Run"]


# -- its costs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hazards", "vases_displace", "out_of_boundary", "sum", "too fast", "", 3])
def test_a_cost_has_a_name_of_its_own(name):
    with pytest.raises(ValueError, match=r"EnvConfig\.task is Mine, whose costs have the name .*; it must be one word"):
        EnvConfig(task=task_of(costs={name: lambda readings, memory: 0.0}))


@pytest.mark.parametrize("costs", [["speed"], None, lambda readings, memory: 0.0])
def test_costs_are_a_mapping(costs):
    with pytest.raises(ValueError, match=r"EnvConfig\.task is Mine, whose costs are a \w+; they must be a mapping"):
        EnvConfig(task=task_of(costs=property(lambda self: costs)))


def test_a_cost_is_a_function():
    with pytest.raises(ValueError, match=r"whose costs have 0\.5 as 'speed'; it must be a function of readings and"):
        EnvConfig(task=task_of(costs={"speed": 0.5}))
