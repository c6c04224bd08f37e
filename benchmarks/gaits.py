"""Scripted robots that go where a compass points: for statistics of contacts, not for high returns."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def drive_point(direction: jax.Array, index: jax.Array) -> jax.Array:
    """Turn towards the target, drive when facing it. direction: [B, 2] robot frame; returns actions [B, 2]."""
    angle = jnp.arctan2(direction[:, 1], direction[:, 0])
    return jnp.stack([jnp.where(jnp.abs(angle) < 1.0, 1.0, 0.0), jnp.clip(2.0 * angle, -1.0, 1.0)], axis=-1)


def drive_car(direction: jax.Array, index: jax.Array) -> jax.Array:
    """Drive towards -y of the robot, the wheel on the outside faster. direction: [B, 2]; returns actions [B, 2]."""
    angle = jnp.arctan2(direction[:, 0], -direction[:, 1])  # positive: the target is on the side of +x
    ahead, turn = 0.02 * jnp.cos(angle), 0.015 * jnp.clip(angle, -1.0, 1.0)
    return jnp.stack([ahead + turn, ahead - turn], axis=-1)


CONTROLLERS = {"Point": drive_point, "Car": drive_car}  # robot -> (direction [B, 2], index of the step) -> actions
