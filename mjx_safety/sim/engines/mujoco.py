"""The C engine on all CPU cores, as a batched host callback. It is exact and compiles in a second."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import threading
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.batch import Batch
from typing_extensions import override

from mjx_safety.sim.dynamics import varied_fields
from mjx_safety.sim.engines.alone import ClosedForm, closed_form
from mjx_safety.sim.engines.base import AbstractPhysics, EngineScene, Scenes, field_sizes, is_measured
from mjx_safety.sim.engines.derivatives import without_derivatives
from mjx_safety.sim.quiet import no_warnings
from mjx_safety.sim.relevance.bounds import farther
from mjx_safety.sim.relevance.slots import EXACT, Nearby
from mjx_safety.sim.relevance.where_needed import vary_like, where_needed
from mjx_safety.sim.state import Measurements, PhysicsState

RARE = 0.0  # share of the worlds in which the robot gets farther than guessed
NEWEST = 4  # number of batch sizes per scene whose scratch space and threads are kept
_STATE_FIELDS = ("qpos", "qvel", "act", "qacc_warmstart", "time", "ctrl")

Request = tuple[EngineScene, PhysicsState, jax.Array]  # a scene, the world's state in it, whether to solve it


class MujocoPhysics(AbstractPhysics):
    """MuJoCo's own solver in double precision. Between steps, states are JAX arrays in single precision.

    Under `jax.vmap` the worlds of a batch are sorted (`relevance.where_needed`). In worlds without relevant objects the
    robot steps alone, in closed form if it has one, else by the solver. The other worlds go to the host. There MuJoCo's
    thread pool steps them with the objects that matter. It takes all objects if more matter than there are slots, or if
    the robot gets farther than guessed.

    As a pytree this has no leaves. Programs compiled for it keep its scenes, not its threads.
    """

    name = "mujoco"

    def __init__(self, scenes: Scenes):
        self.scenes = scenes
        self.scene: EngineScene = scenes.full
        self.nearby: Nearby = Nearby(full=self.scene, near=scenes.near or self.scene, still=EXACT)
        self._alone = Nearby(full=self.scene, near=scenes.alone or self.scene, still=EXACT)
        self._closed_form = closed_form(self._alone) if scenes.alone is not None else None
        different = {scenes.full, scenes.near, scenes.alone} - {None}
        self._solvers = {scene: _Solver(scene) for scene in different}

    @override
    def start(self, data: PhysicsState) -> tuple[PhysicsState, Measurements]:
        return self.forward(data)

    @override
    def forward(self, data: PhysicsState) -> tuple[PhysicsState, Measurements]:
        def forward(data: PhysicsState) -> tuple[PhysicsState, Measurements]:
            return self._solve([(self.scene, data, jnp.bool_(True))], 0, None)[0][0]

        return without_derivatives(forward, self.name)(data)

    @override
    def step(
        self, data: PhysicsState, ctrl: jax.Array, max_substeps: int, num_substeps: jax.Array | None = None
    ) -> tuple[PhysicsState, Measurements]:
        step = without_derivatives(functools.partial(self._step, max_substeps), self.name)
        return step(data.replace(ctrl=ctrl), num_substeps)

    def _step(
        self, max_substeps: int, data: PhysicsState, num_substeps: jax.Array | None
    ) -> tuple[PhysicsState, Measurements]:
        if self.scenes.alone is None:
            return self._solve([(self.scene, data, jnp.bool_(True))], max_substeps, num_substeps)[0][0]
        form = self._exact_form(max_substeps)
        if form is None and not self.scene.solid_bodies:
            return self._step_alone(data, jnp.bool_(True), max_substeps, num_substeps)[0]
        seconds = max_substeps * float(self.scene.model.opt.timestep)

        def cheap(_: None, active: jax.Array, data: PhysicsState, num: jax.Array | None) -> tuple:
            return self._step_alone(data, active, max_substeps, num)

        def everything(_: None, active: jax.Array, __: jax.Array, data: PhysicsState, num: jax.Array | None) -> tuple:
            return self._solve([(self.scene, data, active)], max_substeps, num)[0][0]

        def near(_: None, active: jax.Array, hint: jax.Array, data: PhysicsState, num: jax.Array | None) -> tuple:
            return self._step_near(data, active, hint, max_substeps, num)[0]

        def guess(_: None, active: jax.Array, data: PhysicsState, num: jax.Array | None) -> tuple:
            assumed = self.nearby.guess_excursion(data, seconds)
            result, way = self._step_near(data, active, assumed, max_substeps, num)
            return result, way - assumed

        def guessed(_: None, active: jax.Array, __: jax.Array, data: PhysicsState, num: jax.Array | None) -> tuple:
            """Without a closed form, stepping alone costs as much as stepping with few objects: guess, then check."""
            check = where_needed(lambda _, excess, *__: excess > 0, everything, guess, smallest=1, share=RARE)
            return check(None, active, data, num)

        def needs(_: None, hint: jax.Array, data: PhysicsState, num: jax.Array | None) -> jax.Array:
            return self.nearby.needs_objects(data, seconds, hint) | jnp.isinf(hint)

        full = everything if self.nearby.has_all_slots else guessed if form is None else near
        choose = where_needed(needs, full, cheap, smallest=1, full_uses_hint=full is near)
        return choose(None, jnp.bool_(True), data, num_substeps)

    @override
    def data(self, data: PhysicsState) -> Any:
        """Raise ValueError, because this engine has no complete data in JAX."""
        raise ValueError(
            "env.mjx_data is not available with physics='mujoco', whose data live outside JAX; use physics='mjx', or"
            " env.mj_model with env.snapshot(state)"
        )

    def _exact_form(self, max_substeps: int) -> ClosedForm | None:
        """The robot's closed form, if in single precision so many physics steps agree with the C engine."""
        form = self._closed_form
        return form if form is not None and max_substeps <= form.max_exact_substeps else None

    def _step_alone(
        self, data: PhysicsState, active: jax.Array, max_substeps: int, num_substeps: jax.Array | None
    ) -> tuple[tuple[PhysicsState, Measurements], jax.Array]:
        """Step the robot alone. Also returns its largest distance from its start, [] m; infinity: solve instead."""
        form = self._exact_form(max_substeps)
        if form is not None:
            result, excursion = form.step(data, max_substeps, num_substeps)
            return result, jnp.where(form.is_coarse(data, max_substeps), jnp.inf, excursion)
        nearby, robot = self._alone, self._alone.gather(data, {})
        request = (nearby.near, robot, active)
        (moved, reading), excursion = self._solve([request], max_substeps, num_substeps, tracks=True)[0]
        return (nearby.scatter(data, moved, {}), nearby.spread(reading, {})), excursion

    def _step_near(
        self,
        data: PhysicsState,
        active: jax.Array,
        excursion: jax.Array,
        max_substeps: int,
        num_substeps: jax.Array | None,
    ) -> tuple[tuple[PhysicsState, Measurements], jax.Array]:
        """Step the robot and the objects that matter if it gets as far as `excursion` [] m.

        If more objects matter than there are slots, all are stepped. Also returns how far the robot gets, [] m; 0 where
        all objects are stepped, or where the closed form has told it.
        """
        nearby = self.nearby
        relevant = nearby.relevant(data, max_substeps * float(self.scene.model.opt.timestep), excursion)
        fits, chosen = nearby.fits(relevant), nearby.select(data, relevant)
        requests = [(nearby.near, nearby.gather(data, chosen), active & fits), (self.scene, data, active & ~fits)]
        tracks = self._exact_form(max_substeps) is None
        ((moved, reading), way), (everything, _) = self._solve(requests, max_substeps, num_substeps, tracks)
        some = nearby.scatter(data, moved, chosen), nearby.spread(reading, chosen)
        return jax.tree.map(lambda whole, part: jnp.where(fits, part, whole), everything, some), way

    def _solve(
        self, requests: list[Request], max_substeps: int, num_substeps: jax.Array | None, tracks: bool = False
    ) -> list[tuple[tuple[PhysicsState, Measurements], jax.Array]]:
        """Advance one world on the host, once for each request that is active. Inactive requests return zeros.

        tracks: also return the robot's largest distance from its start, [] m, else 0. All numbers travel as one array
        each way, because each array costs time.
        """
        num = jnp.float32(max_substeps) if num_substeps is None else jnp.asarray(num_substeps, jnp.float32)
        packed = jnp.concatenate([num[None], *(_pack(data, active) for _, data, active in requests)])
        layouts = tuple((scene, *_layout(data)) for scene, data, _ in requests)
        sizes = [self._solvers[scene].sizes for scene, _, _ in requests]
        out = jax.ShapeDtypeStruct((sum(sum(of_one.values()) for of_one in sizes),), jnp.float32)
        on_host = _OnHost(self.scenes, layouts, max_substeps, num_substeps is not None, tracks)
        flat = vary_like(packed, jax.pure_callback(on_host, out, packed, vmap_method="broadcast_all"))
        parts = jnp.split(flat, np.cumsum([sum(of_one.values()) for of_one in sizes])[:-1])
        results = []
        for (scene, data, _), of_one, part in zip(requests, sizes, parts, strict=True):
            values = jnp.split(part, np.cumsum([*of_one.values()])[:-1])
            results.append(_unpack(scene, data, dict(zip(of_one, values, strict=True))))
        return results

    def solver(self, scene: EngineScene) -> _Solver:
        """Return the solver of one of the scenes."""
        return self._solvers[scene]

    def __reduce__(self) -> tuple[Any, ...]:
        return physics_of, (self.scenes,)

    def __deepcopy__(self, _: dict[int, Any]) -> MujocoPhysics:
        return self


_LIVE: weakref.WeakValueDictionary[Scenes, MujocoPhysics] = weakref.WeakValueDictionary()


def physics_of(scenes: Scenes) -> MujocoPhysics:
    """Return the physics of some scenes. Equal scenes share one object while it is alive."""
    physics = _LIVE.get(scenes)
    if physics is None:
        physics = _LIVE.setdefault(scenes, MujocoPhysics(scenes))
    return physics


jax.tree_util.register_pytree_node(
    MujocoPhysics, lambda physics: ((), physics.scenes), lambda scenes, _: physics_of(scenes)
)


def _sizes(scene: EngineScene) -> dict[str, int]:
    """Number of values that a world returns. In sensordata, those of contacts stand last."""
    model = scene.model
    sizes = {"qpos": model.nq, "qvel": model.nv, "act": model.na, "qacc_warmstart": model.nv}
    return sizes | {"sensordata": model.nsensordata, "time": 1, "excursion": 1} | field_sizes(scene)


def _pack(data: PhysicsState, active: jax.Array) -> jax.Array:
    """One world as one array: whether it is active, then its state."""
    return jnp.concatenate([jnp.asarray(active, jnp.float32)[None], *map(jnp.ravel, jax.tree.leaves(data))])


def _layout(data: PhysicsState) -> tuple[Any, tuple[tuple[int, ...], ...]]:
    """Structure of a state, and the shapes of its leaves."""
    leaves, structure = jax.tree.flatten(data)
    return structure, tuple(map(jnp.shape, leaves))


def _unpack(
    scene: EngineScene, data: PhysicsState, values: dict[str, jax.Array]
) -> tuple[tuple[PhysicsState, Measurements], jax.Array]:
    """State, reading and excursion of a world that was `data` before. values: by the names of `_sizes`."""
    sensordata, excursion = values.pop("sensordata"), values.pop("excursion")[0]
    sensors, contacts = jnp.split(sensordata, [len(sensordata) - len(scene.solid_bodies)])
    fields = {name: values.pop(name) for name in scene.fields}
    moved = data.replace(**values | {"time": values["time"][0]})
    return (moved, Measurements(sensors=sensors, contacts=contacts, fields=fields)), excursion


@dataclasses.dataclass(frozen=True)
class _OnHost:
    """The host side of a call. Instances compare equal, so that JAX compiles once."""

    scenes: Scenes
    layouts: tuple[tuple[EngineScene, Any, tuple[tuple[int, ...], ...]], ...]  # of each request, see `_layout`
    max_substeps: int
    varies: bool  # whether worlds have their own number of substeps
    tracks: bool  # whether to return the robot's largest distance from its start

    def __call__(self, packed: jax.Array) -> np.ndarray:
        numbers = np.asarray(packed)  # [..., n]; all leading axes are worlds
        worlds = numbers.reshape(-1, numbers.shape[-1])
        num, start, parts = worlds[:, 0].astype(int) if self.varies else None, 1, []
        physics = physics_of(self.scenes)
        with no_warnings(), np.errstate(over="ignore", invalid="ignore"):  # of a blow-up, which the environment handles
            for scene, structure, shapes in self.layouts:
                active, start, leaves = worlds[:, start] > 0, start + 1, []
                for shape in shapes:
                    size = math.prod(shape)
                    leaves.append(worlds[:, start : start + size].reshape(len(worlds), *shape))
                    start += size
                data = jax.tree.unflatten(structure, leaves)
                parts.append(physics.solver(scene).run(data, active, num, self))
        return np.concatenate(parts, axis=-1).reshape(*numbers.shape[:-1], -1)


class _Solver:
    """Steps worlds of one scene. It keeps scratch space only: no result depends on an earlier call."""

    def __init__(self, scene: EngineScene):
        self.scene: EngineScene = scene
        self.sizes: dict[str, int] = _sizes(scene)
        self._batches: collections.OrderedDict[tuple[int, bool], _HostBatch] = collections.OrderedDict()
        self._lock = threading.Lock()

    def run(self, data: PhysicsState, wanted: np.ndarray, num_substeps: np.ndarray | None, call: _OnHost) -> np.ndarray:
        """Advance the wanted worlds [B] bool. The others return zeros. Returns [B, n], in the order of `_sizes`."""
        worlds = np.flatnonzero(wanted)
        after, start = np.zeros((len(wanted), sum(self.sizes.values())), np.float32), 0
        if len(worlds):
            with self._lock:
                batch = self._batch(len(wanted), varies=data.dynamics is not None)
                found = batch.run(data, worlds, num_substeps, call)
                for name, size in self.sizes.items():
                    if size:
                        after[worlds, start : start + size] = found[name]
                    start += size
        return after

    def _batch(self, num_worlds: int, varies: bool) -> _HostBatch:
        """Return the batch for this number of worlds, which may have models of their own. The newest few are kept."""
        key = num_worlds, varies
        batch = self._batches.pop(key, None) or (_VariedBatch if varies else _HostBatch)(self.scene, num_worlds)
        self._batches[key] = batch
        while len(self._batches) > NEWEST:
            self._batches.popitem(last=False)
        return batch


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
        self.is_measured = is_measured(scene)
        read_fields = (*moving_fields, "time", "sensordata", *scene.fields)
        self.outputs = {name: self.batch.bind(name) for name in read_fields}
        # Start of the next solve: the solution in the final state, if it is solved for.
        self.outputs["qacc_warmstart"] = self.batch.bind("qacc" if self.is_measured else "qacc_warmstart")

    def run(
        self, data: PhysicsState, worlds: np.ndarray, num_substeps: np.ndarray | None, call: _OnHost
    ) -> dict[str, np.ndarray]:
        """Advance worlds by index [W]. Returns their values [W, n]."""
        rows = np.arange(len(worlds))
        start = jax.tree.map(lambda x: x[worlds], data)
        for name, view in self.inputs.items():
            view[rows] = getattr(start, name)
        self.set_dynamics(start, rows)
        farthest = np.zeros(len(worlds))
        if call.max_substeps == 0 or not (self.is_driven or call.tracks or num_substeps is not None):
            self._set_targets(start, start.time, rows, before=True)
            self._advance(call.max_substeps, rows)
        else:
            num = None if num_substeps is None else num_substeps[worlds]
            farthest = self._advance_one_by_one(start, call.max_substeps, num, rows)
        after = {name: view[rows].reshape(len(worlds), -1) for name, view in self.outputs.items()}
        return after | {"excursion": farthest[:, None]}

    def set_dynamics(self, start: PhysicsState, rows: np.ndarray) -> None:
        """Give each world its own model. Here all share one."""

    def _advance(self, num_substeps: int, rows: np.ndarray) -> None:
        """Step worlds at once, and read their final state if needed."""
        if num_substeps:
            stage = mujoco.mjtStage.mjSTAGE_ACC if self.is_measured else mujoco.mjtStage.mjSTAGE_NONE
            self.batch.step(ids=rows, nstep=num_substeps, stage=stage)
        elif self.is_measured:
            self.batch.forward(ids=rows)

    def _advance_one_by_one(
        self, start: PhysicsState, max_substeps: int, num_substeps: np.ndarray | None, rows: np.ndarray
    ) -> np.ndarray:
        """Step worlds, each its own number of times, with new targets before each step. Read their final state.

        Returns the largest excursion of each robot, [W] m (`Nearby.excursion`).
        """
        qpos, time = self.inputs["qpos"], self.inputs["time"].reshape(-1)
        place, farthest = qpos[rows, :2].copy(), farther(self.scene, np.zeros(len(rows)), qpos[rows])
        for index in range(max_substeps):
            running = rows if num_substeps is None else rows[index < num_substeps]
            if len(running):
                self._set_targets(start, time[rows], running)
                self.batch.step(ids=running, stage=mujoco.mjtStage.mjSTAGE_NONE)
                ways = np.linalg.norm(qpos[rows, :2] - place, axis=-1)
                farthest = np.maximum(farthest, farther(self.scene, ways, qpos[rows]))
        self._advance(0, rows)
        return farthest

    def _set_targets(self, start: PhysicsState, time: np.ndarray, rows: np.ndarray, before: bool = False) -> None:
        """Set the targets at `time` [W] s, or (before) those of one physics step earlier."""
        if self.is_driven:
            targets = self.scene.last_mocap_pos(start, time) if before else self.scene.mocap_pos(start, time)
            self.inputs["mocap_pos"][rows] = targets[rows].reshape(-1, *self.inputs["mocap_pos"].shape[1:])


class _VariedBatch(_HostBatch):
    """The same for worlds with dynamics of their own: MuJoCo's batch holds the varied fields of each world."""

    def __init__(self, scene: EngineScene, num_worlds: int):
        super().__init__(scene, num_worlds)
        self.fields: dict[str, np.ndarray] = {}
        self.factors = np.full((num_worlds, 0), np.nan)

    @override
    def set_dynamics(self, start: PhysicsState, rows: np.ndarray) -> None:
        """Write the fields of worlds whose factors differ from those of the row, and what follows from them."""
        factors = np.concatenate([leaf.reshape(len(rows), -1) for leaf in jax.tree.leaves(start.dynamics)], axis=-1)
        if not self.factors.shape[1]:
            self.factors = np.full((len(self.factors), factors.shape[1]), np.nan)
        changed = rows[np.any(self.factors[rows] != factors, axis=-1)]
        if not len(changed):
            return
        dynamics = jax.tree.map(lambda leaf: leaf[changed].astype(float), start.dynamics)
        for name, values in varied_fields(self.scene, self.scene.model, dynamics, np).items():
            self.fields.setdefault(name, self.batch.expand(name))[changed] = values
        self.batch.set_const(changed)
        self.factors[changed] = factors[changed]
