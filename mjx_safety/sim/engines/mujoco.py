"""The C engine on all CPU cores, as a batched host callback: exact, and ready in a second."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.batch import Batch

from mjx_safety.sim.engines.base import EngineScene, field_sizes, is_read
from mjx_safety.sim.relevance.slots import EXACT, Nearby
from mjx_safety.sim.state import PhysicsReading, PhysicsState

_STATE_FIELDS = ("qpos", "qvel", "act", "qacc_warmstart", "time", "ctrl")


@jax.tree_util.register_static
class MujocoPhysics:
    """MuJoCo's own solver in double precision. States live in JAX arrays, in single precision, between steps.

    Under `jax.vmap` all worlds of a batch go to the host in one call, where MuJoCo's thread pool steps them. The batch
    objects kept here are scratch space: no result depends on an earlier call.

    alone: the same robot in a scene without solid objects. Where it is given, it is all that the solver gets of worlds
    in which the robot cannot reach an object within the step and all objects are at rest (`Nearby.needs_objects`).
    """

    name = "mujoco"

    def __init__(self, scene: EngineScene, alone: EngineScene | None = None):
        self.scene = scene
        self.nearby = Nearby(full=scene, near=scene if alone is None else alone, still=EXACT)
        self._batches: dict[tuple[int, bool], _HostBatch] = {}
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
        data = data.replace(ctrl=ctrl)
        if self.nearby.is_all:
            return self._run(data, max_substeps, num_substeps)
        seconds = max_substeps * float(self.scene.model.opt.timestep)
        needed = self.nearby.needs_objects(data, seconds)
        after, reading = self._run(data, max_substeps, num_substeps, needed)
        alone = self.nearby.scatter(data, self.nearby.gather(after, {}).replace(time=after.time), {})
        return jax.tree.map(lambda full, rest: jnp.where(needed, full, rest), after, alone), reading

    def data(self, data: PhysicsState) -> Any:
        """Refuse: complete data in JAX exist on `mjx` only."""
        raise ValueError(
            "env.data is not available with physics='mujoco', whose data live outside JAX; use physics='mjx', or"
            " env.mj_model with env.snapshot(state)"
        )

    def _run(
        self,
        data: PhysicsState,
        max_substeps: int,
        num_substeps: jax.Array | None = None,
        needs_objects: jax.Array | None = None,
    ) -> tuple[PhysicsState, PhysicsReading]:
        """Advance one world; without `needs_objects` [] its robot only, and coordinates of objects mean nothing."""
        out = {name: jax.ShapeDtypeStruct((size,), jnp.float32) for name, size in self._sizes.items()}
        host_step = _HostStep(self, max_substeps)
        after = jax.pure_callback(host_step, out, data, num_substeps, needs_objects, vmap_method="broadcast_all")
        sensordata = after.pop("sensordata")
        sensors, contacts = jnp.split(sensordata, [len(sensordata) - len(self.scene.solid_bodies)])
        reading = PhysicsReading(
            sensors=sensors, contacts=contacts, fields={f: after.pop(f) for f in self.scene.fields}
        )
        return data.replace(**after | {"time": after["time"][0]}), reading

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        """How many numbers a world comes back with. In sensordata those of contacts stand last."""
        model = self.scene.model
        sizes = {"qpos": model.nq, "qvel": model.nv, "act": model.na, "qacc_warmstart": model.nv}
        return sizes | {"sensordata": model.nsensordata, "time": 1} | field_sizes(self.scene)

    def run_on_host(
        self,
        data: PhysicsState,
        max_substeps: int,
        num_substeps: np.ndarray | None,
        needs_objects: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """Advance worlds in host memory. Any leading axes of the state's fields, [..., n], are worlds."""
        shape = data.time.shape
        num_worlds = int(np.prod(shape))
        data, num_substeps, needs_objects = jax.tree.map(
            lambda x: x.reshape((num_worlds, *x.shape[len(shape) :])), (data, num_substeps, needs_objects)
        )
        everything = np.ones(num_worlds, bool) if needs_objects is None else needs_objects
        after = {name: np.zeros((num_worlds, size), np.float32) for name, size in self._sizes.items()}
        with self._lock, np.errstate(over="ignore", invalid="ignore"):  # of a blow-up, which the environment sees to
            for alone in (False, True):
                worlds = np.flatnonzero(everything != alone)
                if len(worlds):
                    for name, values in self._batch(num_worlds, alone).run(data, max_substeps, num_substeps, worlds):
                        after[name][worlds, : values.shape[-1]] = values
        return {name: values.reshape(shape + values.shape[1:]) for name, values in after.items()}

    def _batch(self, num_worlds: int, alone: bool) -> _HostBatch:
        if (num_worlds, alone) not in self._batches:
            scene = self.nearby.near if alone else self.scene
            self._batches[num_worlds, alone] = _HostBatch(scene, num_worlds)
        return self._batches[num_worlds, alone]


class _HostStep:
    """The host side of one call. Equal to others of its kind, so that JAX compiles it once."""

    def __init__(self, physics: MujocoPhysics, max_substeps: int):
        self.physics, self.max_substeps = physics, max_substeps

    def __call__(
        self, data: PhysicsState, num_substeps: jax.Array | None, needs_objects: jax.Array | None
    ) -> dict[str, np.ndarray]:
        data, num, needs = jax.tree.map(np.asarray, (data, num_substeps, needs_objects))
        return self.physics.run_on_host(data, self.max_substeps, num, needs)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, _HostStep) and other.physics is self.physics
        return same and other.max_substeps == self.max_substeps

    def __hash__(self) -> int:
        return hash((id(self.physics), self.max_substeps))


class _HostBatch:
    """MuJoCo's batch for one number of worlds, with live views of its fields."""

    def __init__(self, scene: EngineScene, num_worlds: int):
        self.scene = scene
        self.batch = Batch(scene.model, num_worlds)
        self.is_driven = bool(scene.driven_kinds)
        mocap_fields = ("mocap_pos", "mocap_quat") if scene.model.nmocap else ()
        moving_fields = ("qpos", "qvel", "act") if scene.model.na else ("qpos", "qvel")
        state_fields = [name for name in _STATE_FIELDS if name != "act" or scene.model.na]
        self.inputs = {name: self.batch.bind(name) for name in (*state_fields, *mocap_fields)}
        self.is_read = is_read(scene)
        read_fields = (*moving_fields, "time", "sensordata", *scene.fields)
        self.outputs = {name: self.batch.bind(name) for name in read_fields}
        # where the next solve begins: the answer in the final state, where that is solved for
        self.outputs["qacc_warmstart"] = self.batch.bind("qacc" if self.is_read else "qacc_warmstart")

    def run(
        self, data: PhysicsState, max_substeps: int, num_substeps: np.ndarray | None, worlds: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Advance some worlds, by index [W]. Yields what they come back with, [W, n]: less if the scene is smaller."""
        for name, view in self.inputs.items():
            rows = getattr(data, name)[worlds]
            view[worlds] = rows[:, : view.shape[1]] if view.ndim == 2 else rows
        if max_substeps == 0 or (num_substeps is None and not self.is_driven):
            self._set_targets(data, np.asarray(data.time), worlds, before=True)
            self._advance(max_substeps, worlds)
        else:
            self._advance_one_by_one(data, max_substeps, num_substeps, worlds)
        for name, view in self.outputs.items():
            yield name, view[worlds].reshape(len(worlds), -1)

    def _advance(self, num_substeps: int, worlds: np.ndarray) -> None:
        """Step worlds at once and read their final state, where there is anything to read."""
        if num_substeps:
            stage = mujoco.mjtStage.mjSTAGE_ACC if self.is_read else mujoco.mjtStage.mjSTAGE_NONE
            self.batch.step(ids=worlds, nstep=num_substeps, stage=stage)
        elif self.is_read:
            self.batch.forward(ids=worlds)

    def _advance_one_by_one(
        self, data: PhysicsState, max_substeps: int, num_substeps: np.ndarray | None, worlds: np.ndarray
    ) -> None:
        """Step worlds, each as often as it wants, with new targets before each step; read their final state."""
        for index in range(max_substeps):
            running = worlds if num_substeps is None else worlds[index < num_substeps[worlds]]
            if len(running):
                self._set_targets(data, self.inputs["time"].reshape(-1), running)
                self.batch.step(ids=running, stage=mujoco.mjtStage.mjSTAGE_NONE)
        self.batch.forward(ids=worlds)

    def _set_targets(self, data: PhysicsState, time: np.ndarray, worlds: np.ndarray, before: bool = False) -> None:
        """Put what is driven where it is to be at `time` [B] s, or (before) where it was one physics step earlier."""
        if self.is_driven:
            targets = self.scene.last_mocap_pos(data, time) if before else self.scene.mocap_pos(data, time)
            self.inputs["mocap_pos"][worlds] = targets[worlds].reshape(-1, *self.inputs["mocap_pos"].shape[1:])
