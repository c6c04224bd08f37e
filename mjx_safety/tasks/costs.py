"""The sources of cost. Each returns a raw value >= 0: what a step costs before the indicator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mjx_safety.geometry import norm, planar_distance
from mjx_safety.objects import Hazards, Vases
from mjx_safety.scene import Readings


def hazards_cost(hazards: Hazards, readings: Readings) -> jax.Array:
    """Depth [] m of the robot's centre inside each hazard, summed."""
    distance = planar_distance(readings.root_pos, readings.pos["hazards"])
    return hazards.cost * jnp.sum(jnp.maximum(hazards.size - distance, 0.0))


def vases_contact_cost(vases: Vases, readings: Readings) -> jax.Array:
    """Contact points [] between the robot and any vase."""
    return vases.contact_cost * jnp.sum(readings.contacts["vases"])


def vases_velocity_cost(vases: Vases, readings: Readings) -> jax.Array:
    """Speeds [] m/s of all vases that are not at rest, summed."""
    speed = norm(readings.linvel["vases"])
    return vases.velocity_cost * jnp.sum(jnp.where(speed >= vases.velocity_threshold, speed, 0.0))


CostFn = Callable[[Any, Readings], jax.Array]  # the kind's settings, what is read -> []
SOURCES: dict[str, dict[str, CostFn]] = {  # kind of object -> name of the source -> its function
    "hazards": {"hazards": hazards_cost},
    "vases": {"vases_contact": vases_contact_cost, "vases_velocity": vases_velocity_cost},
}
