"""Motion of driven objects (gremlins). All targets circle in phase. A soft weld ties each object to its target."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

WELD_SOLREF = (0.02, 1.5)  # of the weld: time constant in s, damping ratio
RISE = 0.1  # m, height of a target above the object's start, so that the object hovers
NARROWEST, WIDEST, WIDTH = 0.9, 0.95, 0.001  # (1), (1), m: MuJoCo's default solimp; WIDEST also scales solref
GRAVITY = 9.81  # m/s^2


def target_offset(travel: float, time: Any, xp: Any) -> Any:
    """Offset [..., 3] m of a target from its object's start: clockwise on a circle. time: [...] s; xp: array module."""
    return xp.stack([travel * xp.sin(time), travel * xp.cos(time), RISE * xp.ones_like(time)], axis=-1)


def undisturbed_step(
    travel: float, time: jax.Array, dt: float, offset: jax.Array, velocity: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Move an untouched object by one physics step of `dt` s, as the engine does.

    The weld is a damped spring towards the target. offset: [..., 3] m from the start, velocity: [..., 3] m/s, both at
    `time` [] s. Returns both after the step.
    """
    timeconst = max(WELD_SOLREF[0], 2 * dt)
    damping = 2 / (WIDEST * timeconst)
    stiffness = 1 / (WIDEST * timeconst * WELD_SOLREF[1]) ** 2
    gap = offset - target_offset(travel, time, jnp)
    impedance = _impedance(jnp.linalg.norm(gap, axis=-1, keepdims=True))
    pull = damping * velocity + stiffness * impedance * gap
    gravity = jnp.array([0.0, 0.0, -GRAVITY])
    velocity = velocity + dt * ((1 - impedance) * gravity - impedance * pull)
    return offset + dt * velocity, velocity


def _impedance(distance: jax.Array) -> jax.Array:
    """MuJoCo's constraint impedance (1) at a distance in m: two parabolas that meet at half of WIDTH."""
    x = jnp.minimum(distance / WIDTH, 1.0)
    return NARROWEST + (WIDEST - NARROWEST) * jnp.where(x < 0.5, 2 * x**2, 1 - 2 * (1 - x) ** 2)


def undisturbed_offset(travel: float, time: jax.Array, dt: float) -> jax.Array:
    """Offset [3] m of a never touched object from its start, at `time` [] s."""

    def step(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return undisturbed_step(travel, index * dt, dt, *carry)

    num_steps = jnp.round(time / dt).astype(jnp.int32)
    return jax.lax.fori_loop(0, num_steps, step, (jnp.zeros(3), jnp.zeros(3)))[0]
