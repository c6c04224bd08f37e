"""Functions that a user names as package.module:function."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any


def import_function(path: str, what: str, kind: str) -> Callable[..., Any]:
    """Import `package.module:function`. what, kind: what it is for and what it must be, for messages.

    Raises ValueError if there is no such function. Errors inside the user's module pass through.
    """
    module_name, _, name = path.partition(":")
    if not module_name or module_name.startswith("."):
        raise ValueError(f"cannot import {module_name!r} of {what} {path!r}: it must be the name of a module")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; it asks for another that is not
        raise ValueError(f"cannot import {module_name!r} of {what} {path!r}: {error}") from error
    function = getattr(module, name, None)
    if function is None:
        raise ValueError(f"module {module_name!r} has no {name!r}, asked for by {what} {path!r}")
    if not callable(function):
        raise ValueError(f"{path!r} is not {kind}")
    return function


def needed_arguments(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments without a default; none if the function does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    varying = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in varying]
