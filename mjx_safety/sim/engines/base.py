"""The seam between the environment and its physics. Nothing above it knows which engine runs."""

from __future__ import annotations

from typing import Any, Protocol

import jax

from mjx_safety.sim.scene import Scene
from mjx_safety.sim.state import PhysicsReading, PhysicsState


class Physics(Protocol):
    """An engine for one scene. All methods are pure and vmappable; state and reading always belong together.

    `mujoco.mj_step` and `mjx.step` leave sensors and contacts of the state before the last substep behind; every
    method here ends with a forward pass, so what it returns belongs to the final state.
    """

    @property
    def name(self) -> str:
        """Name of the engine."""
        ...

    @property
    def scene(self) -> Scene:
        """The scene with this engine's model."""
        ...

    def start(self, data: PhysicsState) -> tuple[PhysicsState, PhysicsReading]:
        """Read an episode's first state: everything at rest, the robot clear of all objects."""
        ...

    def forward(self, data: PhysicsState) -> tuple[PhysicsState, PhysicsReading]:
        """Read any state."""
        ...

    def step(
        self, data: PhysicsState, ctrl: jax.Array, max_substeps: int, num_substeps: jax.Array | None = None
    ) -> tuple[PhysicsState, PhysicsReading]:
        """Hold ctrl [A] for `num_substeps` [] physics steps, at most `max_substeps` (None: all of them).

        Driven objects get their targets anew before each of these steps.
        """
        ...

    def data(self, data: PhysicsState) -> Any:
        """Return the engine's own complete data of a state, where it has one in JAX."""
        ...
