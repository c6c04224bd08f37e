"""Gymnasium's specs of environments, with JSON that makes the same environment again."""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np
from gymnasium.envs.registration import EnvSpec
from typing_extensions import override

from mjx_safety import AbstractTask

_FIELDS = [field.name for field in dataclasses.fields(EnvSpec) if field.init]


class SettingsSpec(EnvSpec):
    """A spec whose JSON has settings as mappings, the class of a task, and numbers of NumPy and JAX as plain ones."""

    @classmethod
    def of(cls, spec: EnvSpec) -> Self:
        """Return a copy of any spec."""
        return cls(**{name: getattr(spec, name) for name in _FIELDS})

    @override
    def to_json(self) -> str:
        plain = EnvSpec(**{name: getattr(self, name) for name in _FIELDS})
        plain.kwargs, plain.max_episode_steps = to_plain(self.kwargs), to_plain(self.max_episode_steps)
        return plain.to_json()


class WorldSpec(SettingsSpec):
    """A spec of one world. Its limit is never above the `episode_length` that `gymnasium.make` was given."""

    def __setattr__(self, name: str, value: Any) -> None:
        shorter = self.__dict__.get("kwargs", {}).get("episode_length")
        if name == "max_episode_steps" and value is not None and shorter is not None:
            value = min(value, shorter)
        super().__setattr__(name, value)


def to_plain(value: Any) -> Any:
    """Turn settings, mappings, sequences, enums, paths and arrays into what JSON holds; leave all else as it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__} | fields if isinstance(value, AbstractTask) else fields
    if isinstance(value, Mapping):
        return {name: to_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return np.asarray(value).tolist()
    if isinstance(value, enum.Enum):
        return value.value
    return os.fspath(value) if isinstance(value, os.PathLike) else value
