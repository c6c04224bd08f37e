"""Steps the robot alone in closed form, in worlds of any engine where no object matters."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from mjx_safety.sim.dynamics import varied_planar
from mjx_safety.sim.planar import Motion, PlanarRobot, why_no_closed_form
from mjx_safety.sim.relevance.slots import Nearby
from mjx_safety.sim.state import Measurements, PhysicsState

FAR = 32.0  # m
WOUND = 256.0  # rad


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """Steps of a planar robot without inner joints. Objects stay at rest or follow their law."""

    nearby: Nearby  # maps the whole scene to the robot alone

    @functools.cached_property
    def robot(self) -> PlanarRobot:
        """The equations of motion."""
        return PlanarRobot.derive(self.nearby.near.model)

    @functools.cached_property
    def max_exact_substeps(self) -> float:
        """Largest number of substeps that is exact enough (`PlanarRobot.max_exact_substeps`)."""
        return self.robot.max_exact_substeps()

    def is_coarse(self, data: PhysicsState, max_substeps: int) -> jax.Array:
        """Whether single precision is too coarse for this world, [] bool.

        The robot may get so far away that positions are resolved only to 4 um, or turn so often that its heading is
        resolved only to 30 urad, or be driven harder than the substeps allow (`PlanarRobot.max_exact_factor`).
        """
        qpos, qvel = jax.lax.optimization_barrier((data.qpos, data.qvel))  # the step itself compiles as without this
        place, speed = jnp.max(jnp.abs(qpos[:2])), jnp.max(jnp.abs(qvel[:2]))
        is_far = (place + max_substeps * self.robot.timestep * speed > FAR) | (jnp.abs(qpos[2]) > WOUND)
        if data.dynamics is None:
            return is_far
        drive = jnp.max(data.dynamics.gain, initial=1.0) / jnp.min(data.dynamics.mass)
        return is_far | (drive > self.robot.max_exact_factor(max_substeps))

    def step(
        self, data: PhysicsState, max_substeps: int, num_substeps: jax.Array | None = None
    ) -> tuple[tuple[PhysicsState, Measurements], jax.Array]:
        """Take a step (`AbstractPhysics.step`). Also returns the robot's largest distance from its start, [] m."""
        start, robot = Motion(*data.qpos[:3], *data.qvel[:3]), self.robot
        if data.dynamics is not None:
            robot = varied_planar(robot, self.nearby.near, data.dynamics)
        motion, excursion = robot.advance(start, data.ctrl, max_substeps, num_substeps, jnp)
        sensors, acceleration = robot.read(motion, data.ctrl, jnp)
        steps = max_substeps if num_substeps is None else jnp.asarray(num_substeps, jnp.float32)
        moved = self.nearby.gather(data, {}).replace(
            qpos=jnp.stack(motion[:3]),
            qvel=jnp.stack(motion[3:]),
            qacc_warmstart=acceleration,
            time=data.time + steps * jnp.float32(self.robot.timestep),
        )
        contacts = jnp.zeros(len(self.nearby.full.solid_bodies))
        reading = Measurements(sensors=sensors.astype(jnp.float32), contacts=contacts)
        return (self.nearby.scatter(data, moved, {}), reading), excursion


def closed_form(nearby: Nearby) -> ClosedForm | None:
    """Return the robot's closed form, or None if its model has none (`planar.why_no_closed_form`)."""
    if why_no_closed_form(nearby.near.model):
        return None
    form = ClosedForm(nearby)
    try:
        form.robot  # noqa: B018  checks its equations on the C engine
    except ValueError:
        return None
    return form
