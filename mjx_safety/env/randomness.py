"""Dynamics and sensor noise of one world: what its settings draw, from keys apart from all others."""

from __future__ import annotations

import jax

from mjx_safety.sim.dynamics import draw
from mjx_safety.sim.engines.base import EngineScene
from mjx_safety.types import Dynamics
from mjx_safety.world.randomize import Randomize

DYNAMICS, SENSORS = 0x64796E61, 0x73656E73  # folded into a world's key; step counts and parts of a split are smaller


def observes_dynamics(randomize: Randomize | None) -> bool:
    """Whether the observation ends with the factors of the dynamics."""
    return randomize is not None and randomize.observed


def draw_dynamics(randomize: Randomize | None, scene: EngineScene, key: jax.Array) -> Dynamics | None:
    """Draw the dynamics of an episode. key: of the episode; None: the model as it is."""
    return None if randomize is None else draw(randomize, scene, jax.random.fold_in(key, DYNAMICS))


def with_noise(randomize: Randomize | None, sensors: jax.Array, key: jax.Array, step_count: jax.Array) -> jax.Array:
    """Add the noise of the settings to sensors [S]. key: of the episode; step_count: [] int32."""
    if randomize is None or not randomize.sensor_noise:
        return sensors
    key = jax.random.fold_in(jax.random.fold_in(key, SENSORS), step_count)
    return sensors + randomize.sensor_noise * jax.random.normal(key, sensors.shape)
