"""Motion of driven objects (gremlins). All targets circle in phase. A soft weld ties each object to its target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco

WELD_SOLREF = (0.02, 1.5)  # of the weld: time constant in s, damping ratio
RISE = 0.1  # m, height of a target above the object's start, so that the object hovers
# (1), (1), m: MuJoCo's default solimp. The second number also scales solref.
LEAST_IMPEDANCE, MOST_IMPEDANCE, WIDTH = 0.9, 0.95, 0.001
GRAVITY = 9.81  # m/s^2


def target_offset(travel: float, time: Any, xp: Any) -> Any:
    """Offset [..., 3] m of a target from its object's start: clockwise on a circle. time: [...] s; xp: array module."""
    return xp.stack([travel * xp.sin(time), travel * xp.cos(time), RISE * xp.ones_like(time)], axis=-1)


def undisturbed_step(
    travel: float, time: jax.Array, dt: float, offset: jax.Array, velocity: jax.Array, is_rk4: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Move an untouched object by one physics step of `dt` s, as the engine does.

    The weld is a damped spring towards the target, which stays in place during a step. offset: [..., 3] m from the
    start, velocity: [..., 3] m/s, both at `time` [] s. is_rk4: integrate by the Runge-Kutta method of order 4, else by
    the semi-implicit Euler method. Returns both after the step.
    """
    target = target_offset(travel, time, jnp)

    def acceleration(offset: jax.Array, velocity: jax.Array) -> jax.Array:
        return _acceleration(offset - target, velocity, dt)

    if is_rk4:
        return _runge_kutta(acceleration, dt, offset, velocity)
    velocity = velocity + dt * acceleration(offset, velocity)
    return offset + dt * velocity, velocity


def uses_rk4(model: mujoco.MjModel) -> bool:
    """Whether a model is integrated by the Runge-Kutta method of order 4. All other integrators move objects alike."""
    return model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4


def usual_lag(travel: float, dt: float) -> float:
    """Distance in m at which an untouched object follows its target once the start is over, at `travel` m/s."""
    return travel * MOST_IMPEDANCE * 2 * _timeconst(dt) * WELD_SOLREF[1] ** 2


def _timeconst(dt: float) -> float:
    """Time constant of the weld, s. MuJoCo keeps it above two physics steps."""
    return max(WELD_SOLREF[0], 2 * dt)


def _acceleration(gap: jax.Array, velocity: jax.Array, dt: float) -> jax.Array:
    """Acceleration [..., 3] m/s^2 of an object at `gap` [..., 3] m from its target."""
    damping = 2 / (MOST_IMPEDANCE * _timeconst(dt))
    stiffness = 1 / (MOST_IMPEDANCE * _timeconst(dt) * WELD_SOLREF[1]) ** 2
    impedance = _impedance(jnp.linalg.norm(gap, axis=-1, keepdims=True))
    gravity = jnp.array([0.0, 0.0, -GRAVITY])
    return (1 - impedance) * gravity - impedance * (damping * velocity + stiffness * impedance * gap)


def _runge_kutta(
    acceleration: Callable[[jax.Array, jax.Array], jax.Array], dt: float, offset: jax.Array, velocity: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Take one step of the Runge-Kutta method of order 4. acceleration: function of offset and velocity."""
    speeds, pulls = [velocity], [acceleration(offset, velocity)]
    for share in (0.5, 0.5, 1.0):
        place = offset + share * dt * speeds[-1]
        speeds.append(velocity + share * dt * pulls[-1])
        pulls.append(acceleration(place, speeds[-1]))
    mean = [sum(w * each for w, each in zip((1, 2, 2, 1), parts, strict=True)) / 6 for parts in (speeds, pulls)]
    return offset + dt * mean[0], velocity + dt * mean[1]


def _impedance(distance: jax.Array) -> jax.Array:
    """MuJoCo's constraint impedance (1) at a distance in m: two parabolas that meet at half of WIDTH."""
    x = jnp.minimum(distance / WIDTH, 1.0)
    return LEAST_IMPEDANCE + (MOST_IMPEDANCE - LEAST_IMPEDANCE) * jnp.where(x < 0.5, 2 * x**2, 1 - 2 * (1 - x) ** 2)


def undisturbed_offset(travel: float, time: jax.Array, dt: float, is_rk4: bool = False) -> jax.Array:
    """Offset [3] m of a never touched object from its start, at `time` [] s. is_rk4: as in `undisturbed_step`."""

    def step(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return undisturbed_step(travel, index * dt, dt, *carry, is_rk4)

    num_steps = jnp.round(time / dt).astype(jnp.int32)
    return jax.lax.fori_loop(0, num_steps, step, (jnp.zeros(3), jnp.zeros(3)))[0]
