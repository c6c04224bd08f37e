"""Steps whose physics was not finite, on disk: `--keep-blow-ups` writes them, `load` reads them (host)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mjx_safety.agents import checkpoint
from mjx_safety.env.vector import BlowUp
from mjx_safety.types import Environment

FOLDER = "blow_ups"


def save(folder: Path, blow_up: BlowUp, seen: int) -> int:
    """Write the newest blow-up of a run folder, unless it is one of the first `seen`. Returns their number so far."""
    count = int(blow_up.count)
    if count > seen:
        (folder / FOLDER).mkdir(exist_ok=True)
        checkpoint.write_arrays(folder / FOLDER / f"{count:08d}.npz", (blow_up.before, blow_up.action))
    return count


def load(file: str | Path, env: Environment) -> tuple[Any, jax.Array]:
    """Read a blow-up. env: the environment of the run, on the engine of the run.

    Returns the state before the step and the action [A]. `env.step(state, action)` repeats the step: its result has
    `blew_up`. Raises ValueError if the file is damaged or of another environment.
    """
    state = jax.eval_shape(env.reset, jax.random.key(0))
    like: Any = (state, jax.ShapeDtypeStruct((env.action_size,), jnp.float32))
    return checkpoint.read_arrays(Path(file), like)
