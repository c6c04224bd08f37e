"""The sources of cost. Each returns its raw value >= 0 of a step, before the indicator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mjx_safety.core.geometry import norm, planar_distance
from mjx_safety.core.reductions import total
from mjx_safety.world.boundary import Boundary
from mjx_safety.world.objects import AbstractObject, Buttons, Gremlins, Hazards, Pillars, Vases
from mjx_safety.world.readings import Readings

CostFn = Callable[[Any, Readings], jax.Array]  # settings of the kind, readings -> []


def hazards_cost(hazards: Hazards, readings: Readings) -> jax.Array:
    """Depth [] m of the robot's centre inside each hazard, summed."""
    distance = planar_distance(readings.root_pos, readings.pos["hazards"])
    return hazards.cost * total(jnp.maximum(hazards.size - distance, 0.0))


def vases_contact_cost(vases: Vases, readings: Readings) -> jax.Array:
    """Contact points [] between the robot and all vases."""
    return vases.contact_cost * total(readings.contacts["vases"])


def vases_velocity_cost(vases: Vases, readings: Readings) -> jax.Array:
    """Speeds [] m/s of all moving vases, summed."""
    speed = norm(readings.linvel["vases"])
    return vases.velocity_cost * total(jnp.where(speed >= vases.velocity_threshold, speed, 0.0))


def vases_displace_cost(vases: Vases, readings: Readings) -> jax.Array:
    """Horizontal distances [] m of all displaced vases from their places at reset, summed."""
    moved = planar_distance(readings.pos["vases"], readings.start_pos["vases"])
    return vases.displace_cost * total(jnp.where(moved >= vases.displace_threshold, moved, 0.0))


def pillars_cost(pillars: Pillars, readings: Readings) -> jax.Array:
    """Contact points [] between the robot and all pillars."""
    return pillars.cost * total(readings.contacts["pillars"])


def buttons_cost(buttons: Buttons, readings: Readings) -> jax.Array:
    """Contact points [] between the robot and all buttons that the task charges."""
    return buttons.cost * total(readings.contacts["buttons"])


def gremlins_cost(gremlins: Gremlins, readings: Readings) -> jax.Array:
    """Contact points [] between the robot and all gremlins."""
    return gremlins.contact_cost * total(readings.contacts["gremlins"])


def boundary_cost(boundary: Boundary, readings: Readings) -> jax.Array:
    """Cost [] of a step in which the robot is beyond the lines."""
    directions = 1 if boundary.num == 2 else 2
    outside = jnp.any(jnp.abs(readings.root_pos[:directions]) > boundary.distance)
    return boundary.cost * outside.astype(jnp.float32)


def sources(name: str, kind: AbstractObject) -> dict[str, CostFn]:
    """Return the sources of cost of one kind of object: name -> function."""
    own = _SOURCES.get(name, {})
    if name == "vases" and not kind.displace_cost:  # type: ignore[attr-defined]
        return {source: fn for source, fn in own.items() if source != "vases_displace"}
    return own


_SOURCES: dict[str, dict[str, CostFn]] = {
    "hazards": {"hazards": hazards_cost},
    "vases": {
        "vases_contact": vases_contact_cost,
        "vases_velocity": vases_velocity_cost,
        "vases_displace": vases_displace_cost,
    },
    "pillars": {"pillars": pillars_cost},
    "buttons": {"buttons": buttons_cost},
    "gremlins": {"gremlins": gremlins_cost},
    "boundary": {"out_of_boundary": boundary_cost},
}
SOURCE_NAMES = tuple(source for kind in _SOURCES.values() for source in kind)
