"""Makes the environment of a training or an evaluation, with errors in the words of the command line (host)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mjx_safety import registry
from mjx_safety.runs import randomizing
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.training_options import Physics
from mjx_safety.sim.model import Accuracy


def resolve_physics(physics: Physics) -> str:
    """Turn `auto` into an engine."""
    try:
        return registry.resolve_physics(physics)
    except ValueError as error:
        raise UsageError(f"--physics {physics} cannot be used: {error}") from error


def build_env(env_id: str, physics: str, accuracy: Accuracy = "fast", randomize: Sequence[str] = ()) -> Any:
    """Make the environment, or raise a UsageError that says why not. Errors in a user's factory pass through.

    randomize: words of `--randomize`.
    """

    def refuse(error: Exception) -> UsageError:
        message = str(error.args[0]) if error.args else type(error).__name__
        return UsageError(f"environment {env_id} cannot be made with the engine {physics}: {message}")

    try:
        factory = registry.find_factory(env_id)
    except ValueError as error:
        raise refuse(error) from error
    made = factory()
    try:
        config = registry.check_config(env_id, made)
        changes = {"randomize": randomizing.read(randomize, config.randomize)} if randomize else {}
        return registry.make(config, physics=physics, accuracy=accuracy, **changes)
    except (KeyError, ValueError, ImportError, AttributeError, TypeError) as error:
        raise refuse(error) from error
