"""Scripted robots that follow a compass, for statistics of contacts, not for high returns."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def drive_point(direction: jax.Array, index: jax.Array) -> jax.Array:
    """Turn towards the target, and drive when facing it. direction: [B, 2] robot frame; returns actions [B, 2]."""
    angle = jnp.arctan2(direction[:, 1], direction[:, 0])
    return jnp.stack([jnp.where(jnp.abs(angle) < 1.0, 1.0, 0.0), jnp.clip(2.0 * angle, -1.0, 1.0)], axis=-1)


def drive_car(direction: jax.Array, index: jax.Array) -> jax.Array:
    """Drive towards -y of the robot, with the outer wheel faster. direction: [B, 2]; returns actions [B, 2]."""
    angle = jnp.arctan2(direction[:, 0], -direction[:, 1])  # positive: the target is on the side of +x
    ahead, turn = 0.02 * jnp.cos(angle), 0.015 * jnp.clip(angle, -1.0, 1.0)
    return jnp.stack([ahead + turn, ahead - turn], axis=-1)


RATE = 1.134  # rad per step
STEER = 0.770  # how much further the legs on one side swing, per rad to the target
SWINGS = jnp.array(  # amplitude front, rear; bias front, rear; phase front, rear, right side [rad]
    [
        [1.079, 0.885, -0.334, 0.221, -1.395, -1.444, -0.932],  # hips about z
        [1.006, 1.151, -1.048, -0.362, 0.338, -1.327, -0.503],  # hips about y
        [1.805, 1.713, -0.101, 0.318, -1.374, 1.872, 0.09],  # ankles
    ]
)
LEFT = jnp.array([1.0, 1.0, -1.0, -1.0])  # side of each leg
FRONT = jnp.array([1.0, 0.0, 0.0, 1.0])


def walk_doggo(direction: jax.Array, index: jax.Array) -> jax.Array:
    """Swing all joints, and swing one side further to turn. direction: [B, 2]; returns actions [B, 12].

    The numbers come from a random search for progress towards goals. The gait is clumsy and often falls.
    """
    angle = jnp.clip(jnp.arctan2(direction[:, 1], direction[:, 0]), -1.0, 1.0)
    front, right = FRONT[None], (LEFT < 0)[None]
    amplitude = SWINGS[:, 0:1] * front + SWINGS[:, 1:2] * (1 - front)
    bias = SWINGS[:, 2:3] * front + SWINGS[:, 3:4] * (1 - front)
    phase = SWINGS[:, 4:5] * front + SWINGS[:, 5:6] * (1 - front) + SWINGS[:, 6:7] * right
    swing = (bias + amplitude * jnp.sin(RATE * index + phase)).reshape(-1)  # [12]
    return jnp.clip(swing * (1 + STEER * angle[:, None] * jnp.tile(LEFT, 3)), -1.0, 1.0)


CONTROLLERS = {"Point": drive_point, "Car": drive_car, "Doggo": walk_doggo}
"""robot -> function of the direction [B, 2] to the target and the index of the step, returning actions [B, A]"""
