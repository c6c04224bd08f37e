"""The C engine on all CPU cores, as a batched host callback: exact, and ready in a second."""

from __future__ import annotations

import threading
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.batch import Batch

from mjx_safety.physics.base import NUM_SUBSTEPS
from mjx_safety.scene import PhysicsReading, PhysicsState, Scene

_STATE_FIELDS = ("qpos", "qvel", "qacc_warmstart", "time", "ctrl")


@jax.tree_util.register_static
class MujocoPhysics:
    """MuJoCo's own solver in double precision. States live in JAX arrays, in single precision, between steps.

    Under `jax.vmap` all worlds of a batch go to the host in one call, where MuJoCo's thread pool steps them. The batch
    objects kept here are scratch space: no result depends on an earlier call.
    """

    name = "mujoco"

    def __init__(self, scene: Scene):
        self.scene = scene
        self._batches: dict[int, _HostBatch] = {}
        self._lock = threading.Lock()

    def start(self, data: PhysicsState) -> tuple[PhysicsState, PhysicsReading]:
        """See `Physics.start`."""
        return self._run(data, num_substeps=0)

    def forward(self, data: PhysicsState) -> tuple[PhysicsState, PhysicsReading]:
        """See `Physics.forward`."""
        return self._run(data, num_substeps=0)

    def step(self, data: PhysicsState, ctrl: jax.Array) -> tuple[PhysicsState, PhysicsReading]:
        """See `Physics.step`."""
        return self._run(data.replace(ctrl=ctrl), num_substeps=NUM_SUBSTEPS)

    def data(self, data: PhysicsState) -> Any:
        """Refuse: complete data in JAX exist on `mjx` only."""
        raise ValueError(
            "env.data is not available with physics='mujoco', whose data live outside JAX; use physics='mjx', or"
            " env.mj_model with env.snapshot(state)"
        )

    def _run(self, data: PhysicsState, num_substeps: int) -> tuple[PhysicsState, PhysicsReading]:
        model = self.scene.model
        num_contacts = sum(self.scene.objects[name].num for name in self.scene.free_kinds)
        out = {
            "qpos": jax.ShapeDtypeStruct((model.nq,), jnp.float32),
            "qvel": jax.ShapeDtypeStruct((model.nv,), jnp.float32),
            "qacc_warmstart": jax.ShapeDtypeStruct((model.nv,), jnp.float32),
            "time": jax.ShapeDtypeStruct((), jnp.float32),
            "sensordata": jax.ShapeDtypeStruct((model.nsensordata,), jnp.float32),
        }
        fields = {name: getattr(data, name) for name in _STATE_FIELDS}
        host_step = _HostStep(self, num_substeps)
        after = jax.pure_callback(host_step, out, fields, vmap_method="broadcast_all")
        split = model.nsensordata - num_contacts  # contact sensors stand last
        sensors, contacts = after["sensordata"][:split], after["sensordata"][split:]
        del after["sensordata"]
        return data.replace(**after), PhysicsReading(sensors=sensors, contacts=contacts)

    def run_on_host(self, fields: dict[str, np.ndarray], num_substeps: int) -> dict[str, np.ndarray]:
        """Advance worlds in host memory. fields: name -> [..., n]; any leading axes are worlds."""
        worlds = fields["time"].shape
        num_worlds = int(np.prod(worlds))
        with self._lock:
            if num_worlds not in self._batches:
                self._batches[num_worlds] = _HostBatch(self.scene.model, num_worlds)
            flat = {name: value.reshape((num_worlds, *value.shape[len(worlds) :])) for name, value in fields.items()}
            after = self._batches[num_worlds].run(flat, num_substeps)
            with np.errstate(over="ignore", invalid="ignore"):  # a world that blows up: the environment sees to it
                return {name: v.astype(np.float32).reshape(worlds + v.shape[1:]) for name, v in after.items()}


class _HostStep:
    """The host side of one call. Equal to others of its kind, so that JAX compiles it once."""

    def __init__(self, physics: MujocoPhysics, num_substeps: int):
        self.physics, self.num_substeps = physics, num_substeps

    def __call__(self, fields: dict[str, jax.Array]) -> dict[str, np.ndarray]:
        return self.physics.run_on_host({name: np.asarray(value) for name, value in fields.items()}, self.num_substeps)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, _HostStep) and other.physics is self.physics
        return same and other.num_substeps == self.num_substeps

    def __hash__(self) -> int:
        return hash((id(self.physics), self.num_substeps))


class _HostBatch:
    """MuJoCo's batch for one number of worlds, with live views of its fields."""

    def __init__(self, model: mujoco.MjModel, num_worlds: int):
        self.batch = Batch(model, num_worlds)
        self.views = {name: self.batch.bind(name) for name in (*_STATE_FIELDS, "sensordata")}

    def run(self, fields: dict[str, np.ndarray], num_substeps: int) -> dict[str, np.ndarray]:
        for name, value in fields.items():
            view = self.views[name]
            view[...] = value.reshape(view.shape)
        if num_substeps:
            self.batch.step(nstep=num_substeps, stage=mujoco.mjtStage.mjSTAGE_ACC)
        else:
            self.batch.forward()
        after = {name: self.views[name] for name in ("qpos", "qvel", "qacc_warmstart", "sensordata")}
        return after | {"time": self.views["time"].reshape(-1)}
