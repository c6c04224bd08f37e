"""The words of `--randomize`, and the settings of an environment that they change."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mjx_safety import registry
from mjx_safety.world.randomize import Randomize

RANGES = ("mass", "friction", "gain", "damping")
WORDS = (*(f"{name}=LOW,HIGH" for name in RANGES), "sensor-noise=STD", "observed", "none")


def read(words: Sequence[str], before: Randomize | None = None) -> Randomize | None:
    """Read words such as `mass=0.8,1.2`, one after the other: each replaces one field of the settings before it.

    `none` ends all differences between worlds, but keeps the size of the observation. Raises ValueError with one
    sentence for a word that cannot be read, or with a wrong value.
    """
    found = before
    for word in words:
        if word == "none":
            found = Randomize(observed=True) if found is not None and found.observed else None
            continue
        name, has_value, value = word.partition("=")
        field = name.replace("-", "_")
        if field not in Randomize.__dataclass_fields__ or bool(has_value) == (field == "observed"):
            raise ValueError(f"--randomize {word} is unknown; it takes: {', '.join(WORDS)}")
        try:
            found = dataclasses.replace(found or Randomize(), **{field: _value(field, word, value)})
        except ValueError as error:
            raise ValueError(str(error) if str(error).startswith("--") else f"--randomize {word}: {error}") from None
    return found


def _value(field: str, word: str, value: str) -> Any:
    """Read the value of a field."""
    if field == "observed":
        return True
    numbers: list[float] = []
    with contextlib.suppress(ValueError):
        numbers = list(map(float, value.split(",")))
    if len(numbers) != (2 if field in RANGES else 1):
        example = "mass=0.8,1.2" if field in RANGES else "sensor-noise=0.01"
        raise ValueError(f"--randomize {word} cannot be read; it must look like {example}")
    return tuple(numbers) if field in RANGES else numbers[0]


def words_of(origin: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the words that a policy was trained with. origin: of `Policy`."""
    return tuple(origin.get("config", {}).get("run", {}).get("randomize", ()))


def config_for(env_id: str, words: Sequence[str]) -> registry.Config:
    """Return the settings of an id with the words on top. Raises ValueError for wrong words."""
    config = registry.find_config(env_id)
    return dataclasses.replace(config, randomize=read(words, config.randomize)) if words else config
