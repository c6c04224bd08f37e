"""Declares configuration: frozen dataclasses that check their values and are pytrees of their float fields."""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

T = TypeVar("T")
Rectangle = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in m, world frame
Range = tuple[float, float]  # lowest, highest
LARGEST = float(np.finfo(np.float32).max)  # of the floats of a simulation
LEAF_TYPES = ("float", float, "float | None", float | None)


def static(*, default: Any) -> Any:
    """Declare a float field that is fixed at build time, because it shapes the model or the layout table."""
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(static, dataclasses.field))
def settings(cls: type[T]) -> type[T]:
    """Make a frozen keyword-only dataclass whose float fields are pytree leaves, so that `jax.vmap` can sweep them.

    Fields of other types, and floats declared with `static`, are part of the tree's structure. Nested settings are
    subtrees. `__post_init__` runs at construction, but not when JAX rebuilds the tree. Before it, values of NumPy
    and JAX become Python values, and a mapping becomes the settings of its field: `lidar={"num_bins": 8}`. An array in
    a float field stays, as one value per world for `jax.vmap`.

    Raises TypeError for an attribute that has the name of an inherited field but no type, and would not change it.
    """
    _refuse_untyped(cls)
    has_own_check = "__post_init__" in cls.__dict__
    extends_settings = any("__settings__" in base.__dict__ for base in cls.__mro__)
    if has_own_check or not extends_settings:  # otherwise it inherits one that is wrapped already
        cls.__post_init__ = _with_plain_values(cls.__dict__.get("__post_init__"))  # type: ignore[attr-defined]
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    _register(cls)
    return cls


def _register(cls: type) -> None:
    """Make a dataclass a pytree of its float fields and nested settings."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    leaf_names = {field.name for field in fields if _is_leaf(field)}

    def flatten_with_keys(node: Any) -> tuple[list[tuple[Any, Any]], tuple]:
        children, names, aux = [], [], []
        for field in fields:
            value = getattr(node, field.name)
            if field.name in leaf_names or "__settings__" in type(value).__dict__:
                children.append((jax.tree_util.GetAttrKey(field.name), value))
                names.append(field.name)
            else:
                aux.append((field.name, value))
        return children, (tuple(names), tuple(aux))

    def unflatten(aux: tuple, children: Any) -> Any:
        names, static_items = aux
        node = object.__new__(cls)
        for name, value in (*zip(names, children, strict=True), *static_items):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
    cls.__settings__ = True  # type: ignore[attr-defined]


def _refuse_untyped(cls: type) -> None:
    """Raise TypeError for an attribute that does not change the inherited field of its name, because it has no type."""
    inherited = {name: field for base in cls.__mro__[:0:-1] for name, field in _fields_of(base).items()}
    for name, value in vars(cls).items():
        if name in inherited and name not in inspect.get_annotations(cls) and not isinstance(value, property):
            kind = inherited[name].type
            typed = f"{name}: {getattr(kind, '__name__', kind)} = {value!r}"
            raise TypeError(f"{cls.__name__}.{name} has no type, so it does not change the field; write {typed}")


def refuse_undecorated(cls: type) -> None:
    """Raise TypeError for a class without the decorator `settings` that declares fields of its own."""
    for base in cls.__mro__:
        if "__settings__" in vars(base):
            return
        _refuse_untyped(base)
        for name, kind in inspect.get_annotations(base).items():
            is_class_variable = "ClassVar" in (kind if isinstance(kind, str) else str(typing.get_origin(kind) or kind))
            if not is_class_variable:
                raise TypeError(
                    f"{base.__name__}.{name} is no field without the decorator @settings of {base.__name__}"
                )


def _fields_of(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields of a class of settings: name -> field; of any other class none."""
    return {field.name: field for field in dataclasses.fields(cls)} if "__settings__" in vars(cls) else {}


def _is_leaf(field: dataclasses.Field[Any]) -> bool:
    """Return whether a field may be swept: a float that is not fixed at build time."""
    return field.type in LEAF_TYPES and not field.metadata.get("static")


def from_mapping(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build settings from a mapping of their fields. Raises ValueError for a field that is unknown or missing."""
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise ValueError(f"{where} has no field {unknown[0]!r}; fields: {', '.join(fields)}")
    missing = dataclasses.MISSING
    needed = [name for name, each in fields.items() if each.default is missing and each.default_factory is missing]
    absent = [name for name in needed if name not in values]
    if absent:
        raise ValueError(f"{where} lacks the field {absent[0]!r}; it needs: {', '.join(needed)}")
    return kind(**values)


def _with_plain_values(check: Callable[[Any], None] | None) -> Callable[[Any], None]:
    """Make the `__post_init__` of a class of settings: values are made plain, then checked."""

    def post_init(owner: Any) -> None:
        if "__settings__" not in vars(type(owner)):  # a subclass without fields of its own
            refuse_undecorated(type(owner))
            _register(type(owner))
        for field in dataclasses.fields(owner):
            value = getattr(owner, field.name)
            may_be_array = _is_leaf(field)
            plain = value if may_be_array and np.ndim(value) > 0 and isinstance(value, jax.Array) else _plain(value)
            is_number = field.type in LEAF_TYPES or isinstance(plain, (list, tuple))
            known = may_be_array or not (is_number and _is_traced(plain))
            require(known, owner, field.name, "a number that is known when the environment is built, not a traced one")
            if isinstance(value, Mapping) and (kind := _settings_of(type(owner), field.name)):
                plain = from_mapping(kind, value, f"{type(owner).__name__}.{field.name}")
            if may_be_array and type(plain) is int:
                plain = float(plain)  # JAX's integers are smaller than its floats
            if plain is not value:
                object.__setattr__(owner, field.name, plain)
        if check is not None:
            check(owner)

    return post_init


def _is_traced(value: Any) -> bool:
    """Return whether the value is a traced number, or a list or tuple with one."""
    return any(map(_is_traced, value)) if isinstance(value, (list, tuple)) else isinstance(value, jax.core.Tracer)


def _plain(value: Any) -> Any:
    """Turn numbers and arrays of NumPy and JAX, also in lists, tuples and dicts, into Python's; leave all else."""
    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            return value
        value = np.asarray(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return _to_tuple(value.tolist())
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        changed = any(new is not old for new, old in zip(items, value, strict=True))
        return type(value)(items) if changed else value
    if type(value) is dict:
        entries = {name: _plain(item) for name, item in value.items()}
        return entries if any(entries[name] is not item for name, item in value.items()) else value
    return value


def _settings_of(owner: type, field: str) -> type | None:
    """Return the class of settings that a field takes; None if it takes no settings, or those of an abstract class."""
    try:
        hint = typing.get_type_hints(owner)[field]
    except (NameError, TypeError):  # a class of a user's, annotated with names that only its function knows
        return None
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
    return next((kind for kind in kinds if "__settings__" in kind.__dict__ and not inspect.isabstract(kind)), None)


def require(ok: bool, owner: Any, field: str, allowed: str) -> None:
    """Raise a ValueError that names the field, its value and the allowed values, unless `ok`."""
    if not ok:
        raise ValueError(f"{type(owner).__name__}.{field} is {getattr(owner, field)!r}; it must be {allowed}")


def refuse_sweep(owner: Any, caller: str) -> None:
    """Raise ValueError if a float field holds several values outside of `jax.vmap`, where it has to be one."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(owner):
        if np.ndim(leaf):
            field = f"{type(owner).__name__}{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"{field} holds an array of shape {np.shape(leaf)}, and {caller} takes one number; sweep it by "
                "jax.vmap over the environment"
            )


def require_at_least(owner: Any, **bounds: float) -> None:
    """Check that each named field is a finite number and at least its bound. Traced numbers are not checked."""
    for field, minimum in bounds.items():
        at_least = f" of at least {minimum:g}" if math.isfinite(minimum) else ""
        require(is_at_least(getattr(owner, field), minimum), owner, field, f"a finite number{at_least}")


def is_at_least(value: Any, minimum: float) -> bool:
    """Return whether a number, or each of an array that sweeps it, is finite and at least the bound."""
    if isinstance(value, jax.core.Tracer):
        return True
    if isinstance(value, jax.Array):  # swept by `jax.vmap`, see `settings`
        is_real = jax.dtypes.issubdtype(value.dtype, np.floating) or jax.dtypes.issubdtype(value.dtype, np.integer)
        return is_real and bool(np.all(np.isfinite(values := np.asarray(value, float)) & (values >= minimum)))
    return is_finite_number(value) and float(value) >= minimum


def is_finite_number(value: Any) -> bool:
    """Return whether the value is a finite real Python number. A bool is no number here."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return abs(typing.cast(float, value)) <= LARGEST


def is_range(value: Any, *, infinite: bool = False) -> bool:
    """Return whether the value is (lowest, highest), two finite numbers in this order. infinite: also infinities."""
    if not (isinstance(value, tuple) and len(value) == 2):
        return False
    are_numbers = all(is_finite_number(end) or (infinite and end in (-math.inf, math.inf)) for end in value)
    return are_numbers and value[0] <= value[1]


def require_count(owner: Any, field: str, minimum: int = 0) -> None:
    """Check that the named field is an int, at least `minimum`, and fits JAX's integers."""
    value = getattr(owner, field)
    is_int = isinstance(value, int) and not isinstance(value, bool)
    require(is_int and value >= minimum, owner, field, f"a whole number of at least {minimum}")
    require(value < 2**31, owner, field, "below 2^31, as JAX counts")


def require_bools(owner: Any, *names: str) -> None:
    """Check that each named field is True or False."""
    for field in names:
        require(isinstance(getattr(owner, field), bool), owner, field, "True or False")


def is_rectangle(value: Any) -> bool:
    """Return whether the value is (xmin, ymin, xmax, ymax), finite, with xmin <= xmax and ymin <= ymax."""
    try:
        xmin, ymin, xmax, ymax = value
    except (TypeError, ValueError):
        return False
    return all(map(is_finite_number, (xmin, ymin, xmax, ymax))) and xmin <= xmax and ymin <= ymax


def freeze(owner: Any, *names: str) -> None:
    """Turn lists in the named fields, and nested lists, into tuples. Settings must be hashable."""
    for field in names:
        object.__setattr__(owner, field, _to_tuple(getattr(owner, field)))


def _to_tuple(value: Any) -> Any:
    return tuple(map(_to_tuple, value)) if isinstance(value, (list, tuple)) else value
