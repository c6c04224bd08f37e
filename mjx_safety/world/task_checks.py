"""What the settings of an environment ask of a task, and of the kinds of objects, before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mjx_safety.core.settings import refuse_undecorated
from mjx_safety.world.objects import AbstractObject
from mjx_safety.world.tasks.base import AbstractTask
from mjx_safety.world.tasks.costs import SOURCE_NAMES

Kinds = Mapping[str, type[AbstractObject]]  # name -> the kind that it stands for


def check_task(task: AbstractTask, known: Kinds) -> None:
    """Raise ValueError unless the task has a name, and objects that a snapshot, a cost and the physics know.

    Raises TypeError for fields without the decorator `settings`.
    """
    refuse_undecorated(type(task))
    if not (isinstance(task.name, str) and task.name):
        raise ValueError(f"{type(task).__name__}.name is {task.name!r}; it must be a name")
    objects = task.objects
    if not isinstance(objects, Mapping):
        _refuse(task, f"whose objects are a {type(objects).__name__}", "they must be a mapping: {'goal': GoalArea()}")
    for name, kind in objects.items():
        if not isinstance(name, str) or name not in known or not isinstance(kind, known[name]):
            allowed = ", ".join(f"{other!r}: {its.__name__}" for other, its in known.items())
            given = f"{type(kind).__name__}(...)" if isinstance(kind, AbstractObject) else repr(kind)
            _refuse(task, f"with {given} as {name!r} among its objects", f"a task may add only {allowed}")
        check_body(f"the object {name!r} of the task {task.name}", kind, known[name])
    _check_unplaced(task)
    _check_costs(task)


def check_body(what: str, kind: AbstractObject, own: type[AbstractObject]) -> None:
    """Raise ValueError unless a kind has the part in the physics of the package's own. what: for the message."""
    if kind.body_kind != own.body_kind:
        raise ValueError(
            f"{what} is {type(kind).__name__}(...) with body_kind {kind.body_kind!r}; it must be {own.body_kind!r}, as"
            f" in {own.__name__}"
        )


def check_moved(task: AbstractTask, objects: Mapping[str, AbstractObject]) -> None:
    """Raise ValueError unless the kind that the task moves is one marker with a place. objects: of the environment."""
    name = task.moves
    if name is None:
        return
    kind = objects.get(name) if isinstance(name, str) else None
    allowed = "it must name one marker that a layout places, such as 'goal'"
    if kind is None:
        _refuse(task, f"which moves {name!r}, and there is no such object", allowed)
    elif kind.body_kind != "marker":
        _refuse(task, f"which moves {name!r}, a body of kind {kind.body_kind!r}", allowed)
    elif name in task.unplaced:
        _refuse(task, f"which moves {name!r} and has it among its unplaced", allowed)
    elif kind.num != 1:
        _refuse(task, f"which moves {name!r}, and there are {kind.num} of them", allowed)


def check_compasses(objects: Mapping[str, AbstractObject]) -> None:
    """Raise ValueError for a compass of several objects. It would point to the first alone."""
    for name, kind in objects.items():
        if getattr(kind, "compass", False) and kind.num > 1:
            raise ValueError(f"{type(kind).__name__}.compass is True for {kind.num} {name}; a compass takes num=1")


def _check_unplaced(task: AbstractTask) -> None:
    """Refuse names that no object has, and solid objects, which `view` cannot place."""
    unplaced, objects = task.unplaced, task.objects
    if not isinstance(unplaced, (set, frozenset, tuple, list)):
        _refuse(task, f"whose unplaced is {unplaced!r}", "it must be a set of names among its objects")
    for name in unplaced:
        if not isinstance(name, str) or name not in objects:
            own = ", ".join(map(repr, objects)) or "none"
            _refuse(task, f"whose unplaced has {name!r}", f"it must be a set of names among its objects: {own}")
        if objects[name].body_kind != "marker":
            _refuse(task, f"whose unplaced has {name!r}, a solid body", "`view` can place only markers")


def _check_costs(task: AbstractTask) -> None:
    """Refuse costs that are not functions, and names that are taken."""
    costs = task.costs
    if not isinstance(costs, Mapping):
        _refuse(task, f"whose costs are a {type(costs).__name__}", "they must be a mapping: {'name': function}")
    for name, cost in costs.items():
        taken = (*SOURCE_NAMES, "sum")  # safety-gymnasium's info has the whole cost as cost_sum
        if not (isinstance(name, str) and name.isidentifier()) or name in taken:
            allowed = f"it must be one word, such as 'speed', and none of {', '.join(taken)}"
            _refuse(task, f"whose costs have the name {name!r}", allowed)
        if not callable(cost):
            _refuse(task, f"whose costs have {cost!r} as {name!r}", "it must be a function of readings and memory")


def _refuse(task: AbstractTask, problem: str, allowed: str) -> Any:
    raise ValueError(f"EnvConfig.task is {task.name}, {problem}; {allowed}")
