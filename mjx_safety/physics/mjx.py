"""MJX-JAX: the physics as pure JAX, on any accelerator."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from mujoco import mjx

from mjx_safety.physics.base import NUM_SUBSTEPS
from mjx_safety.scene import PhysicsReading, PhysicsState, Scene


@struct.dataclass
class MjxPhysics:
    """MJX on one scene. The model is a pytree leaf: vmap over it to randomise masses, frictions, gains.

    A state carries positions, velocities, warm start and time only (0.1 KiB a world for Goal1 instead of 10 KiB of
    `mjx.Data`); the rest is rebuilt by the forward pass that every MJX step begins with anyway.
    """

    model: mjx.Model
    scene: Scene = struct.field(pytree_node=False)

    name = "mjx"

    @classmethod
    def create(cls, scene: Scene) -> MjxPhysics:
        """Put the scene's model on the device."""
        return cls(model=mjx.put_model(scene.model), scene=scene)

    def start(self, data: PhysicsState) -> tuple[PhysicsState, PhysicsReading]:
        """See `Physics.start`. Contacts are left out: the robot has none yet, and compiling them twice is slow."""
        flags = self.model.opt.disableflags | mjx.DisableBit.CONTACT
        model = self.model.replace(opt=self.model.opt.replace(disableflags=flags))
        sensors = _forward(model, data).sensordata
        return data, PhysicsReading(sensors=sensors, contacts=jnp.zeros(len(self._object_geoms())))

    def forward(self, data: PhysicsState) -> tuple[PhysicsState, PhysicsReading]:
        """See `Physics.forward`."""
        return data, self._measure(self.data(data))

    def step(self, data: PhysicsState, ctrl: jax.Array) -> tuple[PhysicsState, PhysicsReading]:
        """See `Physics.step`. One loop body serves the substeps and the last reading, which halves the compile time."""
        data = data.replace(ctrl=ctrl)
        num_sensors, num_objects = self.scene.model.nsensordata, len(self._object_geoms())
        nothing = PhysicsReading(sensors=jnp.zeros(num_sensors), contacts=jnp.zeros(num_objects))

        def substep(index: jax.Array, carry: tuple[PhysicsState, PhysicsReading]) -> tuple:
            data, _ = carry
            full = self.data(data)
            moved = _INTEGRATORS[self.model.opt.integrator](self.model, full)
            after = data.replace(qpos=moved.qpos, qvel=moved.qvel, qacc_warmstart=moved.qacc_warmstart, time=moved.time)
            is_last = index == NUM_SUBSTEPS  # this round only reads
            return jax.tree.map(lambda old, new: jnp.where(is_last, old, new), data, after), self._measure(full)

        return jax.lax.fori_loop(0, NUM_SUBSTEPS + 1, substep, (data, nothing))

    def data(self, data: PhysicsState) -> mjx.Data:
        """Return the complete and current `mjx.Data` of a state."""
        return _forward(self.model, data)

    def _measure(self, full: mjx.Data) -> PhysicsReading:
        return PhysicsReading(sensors=full.sensordata, contacts=self._count_contacts(full))

    def _count_contacts(self, full: mjx.Data) -> jax.Array:
        """Contact points of the robot with each solid object [K]. A point counts from distance 0 on."""
        objects = self._object_geoms()
        if not len(objects):
            return jnp.zeros(0)
        contact = full._impl.contact  # MJX-JAX keeps its contacts nowhere else
        robot = jnp.asarray(self._robot_geoms())
        first, second = contact.geom[:, 0], contact.geom[:, 1]
        other = jnp.where(robot[first], second, first)
        counts = (contact.dist <= 0) & (robot[first] ^ robot[second])
        return jnp.sum(counts[:, None] & jnp.asarray(objects)[:, other].T, axis=0, dtype=jnp.float32)

    def _robot_geoms(self) -> np.ndarray:
        """Which geoms are the robot's, [ngeom] bool."""
        model = self.scene.model
        return model.body_rootid[model.geom_bodyid] == model.body("robot").id

    def _object_geoms(self) -> np.ndarray:
        """Which geoms are each solid object's, [K, ngeom] bool."""
        model, scene = self.scene.model, self.scene
        names = [f"{name}{i}" for name in scene.free_kinds for i in range(scene.objects[name].num)]
        return np.array([model.geom_bodyid == model.body(name).id for name in names], bool).reshape(-1, model.ngeom)


def _euler(model: mjx.Model, full: mjx.Data) -> mjx.Data:
    """Integrate as `mjx.euler` does, after the constraint solver has finished.

    Implicit damping factors a second mass matrix. Nothing in `mjx.euler` makes that wait for the first one, and on a
    CPU XLA may run both at once; each waits for the worker threads that the other holds, and with two of those
    the program hangs (jaxlib 0.10, batched LAPACK calls). The added term is zero and makes them follow each other.
    """
    after_solver = 0.0 * full.qacc[0]
    return mjx.euler(model, full.tree_replace({"_impl.M": full._impl.M + after_solver}))


_INTEGRATORS = {
    mjx.IntegratorType.EULER: _euler,
    mjx.IntegratorType.RK4: mjx.rungekutta4,
    mjx.IntegratorType.IMPLICITFAST: mjx.implicit,
}


def _forward(model: mjx.Model, data: PhysicsState) -> mjx.Data:
    """Run `mjx.forward`, which leaves acceleration sensors at zero in models without any constraint (MJX 3.17)."""
    full = mjx.forward(model, _load(model, data))
    return full if full._impl.efc_J.size else mjx.sensor_acc(model, full)


def _load(model: mjx.Model, data: PhysicsState) -> mjx.Data:
    return mjx.make_data(model).replace(
        qpos=data.qpos, qvel=data.qvel, qacc_warmstart=data.qacc_warmstart, time=data.time, ctrl=data.ctrl
    )
