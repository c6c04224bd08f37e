"""The C engine on all CPU cores, as a batched host callback: exact, and ready in a second."""

from __future__ import annotations

import threading
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.batch import Batch

from mjx_safety.readings import PhysicsReading, PhysicsState
from mjx_safety.scene import Scene

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
        return self._run(data, 0)

    def forward(self, data: PhysicsState) -> tuple[PhysicsState, PhysicsReading]:
        """See `Physics.forward`."""
        return self._run(data, 0)

    def step(
        self, data: PhysicsState, ctrl: jax.Array, max_substeps: int, num_substeps: jax.Array | None = None
    ) -> tuple[PhysicsState, PhysicsReading]:
        """See `Physics.step`."""
        return self._run(data.replace(ctrl=ctrl), max_substeps, num_substeps)

    def data(self, data: PhysicsState) -> Any:
        """Refuse: complete data in JAX exist on `mjx` only."""
        raise ValueError(
            "env.data is not available with physics='mujoco', whose data live outside JAX; use physics='mjx', or"
            " env.mj_model with env.snapshot(state)"
        )

    def _run(
        self, data: PhysicsState, max_substeps: int, num_substeps: jax.Array | None = None
    ) -> tuple[PhysicsState, PhysicsReading]:
        model = self.scene.model
        sizes = {"qpos": model.nq, "qvel": model.nv, "qacc_warmstart": model.nv, "sensordata": model.nsensordata}
        out = {name: jax.ShapeDtypeStruct((size,), jnp.float32) for name, size in sizes.items()}
        out["time"] = jax.ShapeDtypeStruct((), jnp.float32)
        host_step = _HostStep(self, max_substeps)
        after = jax.pure_callback(host_step, out, data, num_substeps, vmap_method="broadcast_all")
        split = model.nsensordata - len(self.scene.solid_bodies)  # contact sensors stand last
        sensors, contacts = after["sensordata"][:split], after["sensordata"][split:]
        del after["sensordata"]
        return data.replace(**after), PhysicsReading(sensors=sensors, contacts=contacts)

    def run_on_host(
        self, data: PhysicsState, max_substeps: int, num_substeps: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Advance worlds in host memory. Any leading axes of the state's fields, [..., n], are worlds."""
        worlds = data.time.shape
        num_worlds = int(np.prod(worlds))
        with self._lock:
            if num_worlds not in self._batches:
                self._batches[num_worlds] = _HostBatch(self.scene, num_worlds)
            flat = jax.tree.map(lambda x: x.reshape((num_worlds, *x.shape[len(worlds) :])), (data, num_substeps))
            after = self._batches[num_worlds].run(flat[0], max_substeps, flat[1])
            with np.errstate(over="ignore", invalid="ignore"):  # a world that blows up: the environment sees to it
                return {name: v.astype(np.float32).reshape(worlds + v.shape[1:]) for name, v in after.items()}


class _HostStep:
    """The host side of one call. Equal to others of its kind, so that JAX compiles it once."""

    def __init__(self, physics: MujocoPhysics, max_substeps: int):
        self.physics, self.max_substeps = physics, max_substeps

    def __call__(self, data: PhysicsState, num_substeps: jax.Array | None) -> dict[str, np.ndarray]:
        data = jax.tree.map(np.asarray, data)
        num = None if num_substeps is None else np.asarray(num_substeps)
        return self.physics.run_on_host(data, self.max_substeps, num)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, _HostStep) and other.physics is self.physics
        return same and other.max_substeps == self.max_substeps

    def __hash__(self) -> int:
        return hash((id(self.physics), self.max_substeps))


class _HostBatch:
    """MuJoCo's batch for one number of worlds, with live views of its fields."""

    def __init__(self, scene: Scene, num_worlds: int):
        self.scene = scene
        self.batch = Batch(scene.model, num_worlds)
        self.has_mocap = scene.model.nmocap > 0
        self.is_driven = any(scene.objects[name].body_kind == "driven" for name in scene.moving_kinds)
        mocap_fields = ("mocap_pos", "mocap_quat") if self.has_mocap else ()
        self.views = {name: self.batch.bind(name) for name in (*_STATE_FIELDS, *mocap_fields, "sensordata")}

    def run(self, data: PhysicsState, max_substeps: int, num_substeps: np.ndarray | None) -> dict[str, np.ndarray]:
        for name, view in self.views.items():
            if name != "sensordata":
                view[...] = getattr(data, name).reshape(view.shape)
        if max_substeps == 0 or (num_substeps is None and not self.is_driven):
            self._set_targets(data, np.asarray(data.time), before=True)
            self._advance(max_substeps)
        else:
            self._advance_one_by_one(data, max_substeps, num_substeps)
        after = {name: self.views[name] for name in ("qpos", "qvel", "qacc_warmstart", "sensordata")}
        return after | {"time": self.views["time"].reshape(-1)}

    def _advance(self, num_substeps: int) -> None:
        """Step all worlds at once and read their final state."""
        if num_substeps:
            self.batch.step(nstep=num_substeps, stage=mujoco.mjtStage.mjSTAGE_ACC)
        else:
            self.batch.forward()

    def _advance_one_by_one(self, data: PhysicsState, max_substeps: int, num_substeps: np.ndarray | None) -> None:
        """Step all worlds, each as often as it wants, with new targets before each step; read their final state."""
        for index in range(max_substeps):
            running = None if num_substeps is None else np.flatnonzero(index < num_substeps)
            if running is None or len(running):
                self._set_targets(data, self.views["time"].reshape(-1), running)
                self.batch.step(ids=running, stage=mujoco.mjtStage.mjSTAGE_NONE)
        self.batch.forward()

    def _set_targets(
        self, data: PhysicsState, time: np.ndarray, worlds: np.ndarray | None = None, before: bool = False
    ) -> None:
        """Put what is driven where it is to be at `time` [B] s, or (before) where it was one physics step earlier."""
        if not self.is_driven:
            return
        scene = self.scene
        targets = scene.last_mocap_pos(data, time) if before else scene.mocap_pos(data, time)
        rows = slice(None) if worlds is None else worlds
        self.views["mocap_pos"][rows] = targets.reshape(self.views["mocap_pos"].shape)[rows]
