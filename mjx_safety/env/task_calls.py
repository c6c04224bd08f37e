"""Calls of a task's members, whose results must have their types and shapes. The checks cost no run time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mjx_safety.types import Snapshot
from mjx_safety.world.readings import Readings
from mjx_safety.world.tasks.base import AbstractTask

ROBOT = ("root_pos", "root_quat", "root_linvel", "root_angvel", "joint_qpos", "joint_qvel")
OF_EVERY_WORLD = ("time", "ctrl", "act", "dynamics", *ROBOT)  # fields of a snapshot


def view(task: AbstractTask, readings: Readings, memory: Any) -> Readings:
    """Return the world as costs and lidars see it. Raises ValueError unless it has the objects of `readings`."""
    shown = task.view(readings, memory)
    if not isinstance(shown, Readings):
        raise ValueError(f"{_of(task)}.view returned {_form(shown)}; it must return its Readings, or a copy of them")
    for field in ("pos", "quat", "contacts"):
        given, old = getattr(shown, field), getattr(readings, field)
        for name, value in old.items():
            if (form := _form(given.get(name))) != _form(value):
                raise ValueError(f"{_of(task)}.view returned {form} as {field}[{name!r}]; it must be {_form(value)}")
    return shown


def reward(task: AbstractTask, readings: Readings, memory: Any) -> tuple[jax.Array, jax.Array]:
    """Return the reward for progress [] float32 and whether the goal is met [] bool.

    Raises ValueError for results of other types or shapes.
    """
    outcome = task.reward(readings, memory)
    if not (isinstance(outcome, (tuple, list)) and len(outcome) == 2):
        raise ValueError(f"{_of(task)}.reward returned {_form(outcome)}; it must return a pair: reward, goal_met")
    progress, goal_met = outcome
    if not (type(progress) is int or _is_scalar(progress, jnp.floating)):
        raise ValueError(f"{_of(task)}.reward returned {_form(progress)} as its reward; it must be a float []")
    if not _is_scalar(goal_met, jnp.bool_):
        raise ValueError(f"{_of(task)}.reward returned {_form(goal_met)} as its goal_met; it must be a bool []")
    bonus = task.bonus
    if not (_is_scalar(bonus, jnp.floating) or _is_scalar(bonus, jnp.integer)):
        raise ValueError(f"{_of(task)}.bonus is {_form(bonus)}; it must be a number []")
    return jnp.asarray(progress, jnp.float32), jnp.asarray(goal_met, bool)


def costs(task: AbstractTask, readings: Readings, memory: Any) -> list[jax.Array]:
    """Return the raw value [] float32, of at least 0, of each of the task's own costs.

    Raises ValueError for results of other types or shapes.
    """
    values = []
    for name, cost in task.costs.items():
        value = cost(readings, memory)
        if not (_is_scalar(value, jnp.floating) or _is_scalar(value, jnp.integer) or _is_scalar(value, jnp.bool_)):
            raise ValueError(f"{_of(task)}.costs[{name!r}] returned {_form(value)}; it must return a number []")
        values.append(jnp.maximum(jnp.asarray(value, jnp.float32), 0.0))
    return values


def advance(task: AbstractTask, readings: Readings, memory: Any, moved: jax.Array, key: jax.Array) -> Any:
    """Return the memory for the next step. Raises ValueError unless it has the form of the present one."""
    after = task.advance(readings, memory, moved, key)
    now, then = (jax.tree.map(_form, each) for each in (memory, after))
    if jax.tree.flatten(now) != jax.tree.flatten(then):
        raise ValueError(f"{_of(task)}.advance returned as memory {then}; the state has {now}, and both must agree")
    return after


def to_snapshot(task: AbstractTask, memory: Any, taken: Iterable[str]) -> Mapping[str, Any]:
    """Return the memory as fields of `Snapshot`. taken: fields that the world fills.

    Raises ValueError for fields that are taken or that `Snapshot` lacks.
    """
    fields = task.to_snapshot(memory)
    if not isinstance(fields, Mapping):
        raise ValueError(
            f"{_of(task)}.to_snapshot returned {_form(fields)}; it must return a mapping: {{'memory': ...}}"
        )
    free = {field.name for field in dataclasses.fields(Snapshot)} - {*taken, *OF_EVERY_WORLD}
    for name in fields:
        if name not in free:
            raise ValueError(f"{_of(task)}.to_snapshot returned a field {name!r}; use 'memory', which takes any pytree")
    return fields


def _of(task: AbstractTask) -> str:
    return type(task).__name__


def _is_scalar(value: Any, kind: Any) -> bool:
    """Return whether a value is a number [] of a kind."""
    is_number = isinstance(value, (bool, int, float)) or hasattr(value, "dtype")
    return is_number and jnp.shape(value) == () and jnp.issubdtype(jnp.result_type(value), kind)


def _form(value: Any) -> str:
    """Type and shape for a message: float32[3], or the type of what is no array."""
    if isinstance(value, (bool, int, float)) or hasattr(value, "dtype"):
        return f"{jnp.result_type(value)}{list(jnp.shape(value))}"
    return "None" if value is None else f"a {type(value).__name__}"
