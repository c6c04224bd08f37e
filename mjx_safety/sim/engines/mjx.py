"""MJX-JAX: the physics as pure JAX, on any accelerator."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from mujoco import mjx
from typing_extensions import override

from mjx_safety.core.precision import single_precision
from mjx_safety.sim.dynamics import derived_fields, varied_fields
from mjx_safety.sim.engines.alone import ClosedForm, closed_form
from mjx_safety.sim.engines.base import AbstractPhysics, EngineScene, Scenes, field_sizes, fields_of, is_measured
from mjx_safety.sim.engines.derivatives import forward_only
from mjx_safety.sim.engines.mjx_gaps import what_mjx_lacks, without_friction_cones, without_idle_parts, without_touch
from mjx_safety.sim.fixes.mjx_colliders import corrected
from mjx_safety.sim.fixes.mjx_equalities import velocity_terms
from mjx_safety.sim.fixes.mjx_line_search import exact_line_search
from mjx_safety.sim.fixes.mjx_solver import own_solver
from mjx_safety.sim.relevance.bounds import farther
from mjx_safety.sim.relevance.slots import Nearby
from mjx_safety.sim.relevance.where_needed import UNKNOWN, where_needed
from mjx_safety.sim.start_sensors import read_at_rest, starts_clear
from mjx_safety.sim.state import MOVES, Measurements, PhysicsState

ATTEMPTS = 4  # at a step whose robot gets farther than assumed
SMALL = 32  # worlds; smaller batches do not profit from a second program
_TRACING = threading.RLock()


@struct.dataclass
class StepFacts:
    """What happened to the robot during a step."""

    farthest: jax.Array  # [] m, its largest excursion (`Nearby.excursion`)
    is_touched: jax.Array  # [] bool, it touched an object


@struct.dataclass
class Part:
    """One MJX model of the robot and of the objects in its slots, applied to the state of a whole scene."""

    model: mjx.Model
    nearby: Nearby = struct.field(pytree_node=False)

    @classmethod
    @single_precision
    def create(cls, nearby: Nearby) -> Part:
        """Put the model on the device."""
        name, lacking = nearby.full.robot.name, what_mjx_lacks(nearby.near.model, nearby.full.fields)
        if lacking is not None:
            raise ValueError(f"robot {name} cannot run on mjx: MJX lacks {lacking}; use physics='mujoco'")
        try:
            model = without_idle_parts(mjx.put_model(nearby.near.model))
            if model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC:
                mjx.make_data(model)  # refuses contacts without friction
            return cls(model=model, nearby=nearby)
        except NotImplementedError as error:
            raise ValueError(f"robot {name} cannot run on mjx: {error}; use physics='mujoco'") from error

    def forward(self, data: PhysicsState) -> Measurements:
        """Read a state."""
        near, chosen = self.gather(data)
        near = near.replace(mocap_pos=self.nearby.near.last_mocap_pos(near, near.time))
        return self._spread(self._measure(_forward(self.model_of(near), near)), chosen)

    def step(
        self, data: PhysicsState, max_substeps: int, num_substeps: jax.Array | None, excursion: jax.Array | np.floating
    ) -> tuple[PhysicsState, Measurements]:
        """Take a step (`AbstractPhysics.step`). excursion: [] m, as in `Nearby.relevant`, or `UNKNOWN`, no JAX array.

        An unknown excursion is guessed. A step in which the robot gets farther is taken again with the true one.
        """
        if self.nearby.has_all_slots:
            moved, reading, _ = self._advance(data, max_substeps, num_substeps)
            return moved, reading
        if isinstance(excursion, jax.Array):
            return self._step_near(data, max_substeps, num_substeps, excursion)[:2]
        guess = self.nearby.guess_excursion(data, max_substeps * float(self.nearby.near.model.opt.timestep))

        def attempt(carry: tuple) -> tuple:
            index, assumed, way, *_ = carry
            assumed = jnp.maximum(assumed, way)
            moved, reading, way = self._step_near(data, max_substeps, num_substeps, assumed)
            return index + 1, assumed, way, moved, reading

        def is_unfinished(carry: tuple) -> jax.Array:
            index, assumed, way, *_ = carry
            return (index == 0) | (way > assumed) & (index < ATTEMPTS)

        start = jnp.int32(0), guess, jnp.float32(0), data, self._no_reading()
        return jax.lax.while_loop(is_unfinished, attempt, start)[3:]

    def _step_near(
        self, data: PhysicsState, max_substeps: int, num_substeps: jax.Array | None, excursion: jax.Array
    ) -> tuple[PhysicsState, Measurements, jax.Array]:
        """Step the objects that matter if the robot gets as far as `excursion` [] m. Also returns how far it gets.

        If more objects matter than there are slots, the others get further passes. The robot's motion comes from the
        first pass in which it touches an object. Objects keep the motion and the contacts of their own pass, even if
        they fill slots of a later one. Objects of different passes do not meet.
        """
        nearby = self.nearby
        left = nearby.relevant(data, max_substeps * float(nearby.near.model.opt.timestep), excursion)

        def next_pass(carry: tuple) -> tuple:
            index, left, is_settled, after, reading, way = carry
            chosen = nearby.select(data, left)
            moved, found, facts = self._advance(nearby.gather(data, chosen), max_substeps, num_substeps)
            found = self._spread(found, chosen)
            first = nearby.scatter(data, moved, chosen), found, facts.farthest
            takes_robot = facts.is_touched & ~is_settled
            later = (
                nearby.put(after, moved, chosen, only=left, takes_robot=takes_robot),
                found.replace(
                    sensors=jnp.where(takes_robot, found.sensors, reading.sensors),
                    contacts=jnp.where(left, found.contacts, reading.contacts),
                ),
                jnp.where(takes_robot, facts.farthest, way),
            )
            results = jax.tree.map(lambda first, later: jnp.where(index == 0, first, later), first, later)
            return index + 1, nearby.without(left, chosen), is_settled | facts.is_touched, *results

        def is_unfinished(carry: tuple) -> jax.Array:
            return (carry[0] == 0) | jnp.any(carry[1])

        start = jnp.int32(0), left, jnp.bool_(False), data, self._no_reading(), jnp.float32(0)
        return jax.lax.while_loop(is_unfinished, next_pass, start)[3:]

    def _no_reading(self) -> Measurements:
        return Measurements(
            sensors=jnp.zeros(self.nearby.near.model.nsensordata),
            contacts=jnp.zeros(len(self.nearby.full.solid_bodies)),
        )

    def step_alone(
        self, data: PhysicsState, max_substeps: int, num_substeps: jax.Array | None = None
    ) -> tuple[tuple[PhysicsState, Measurements], jax.Array]:
        """Step a model of the robot alone. Also returns its largest distance from its start, [] m."""
        moved, reading, facts = self._advance(self.nearby.gather(data, {}), max_substeps, num_substeps)
        return (self.nearby.scatter(data, moved, {}), self._spread(reading, {})), facts.farthest

    def _advance(
        self, near: PhysicsState, max_substeps: int, num_substeps: jax.Array | None
    ) -> tuple[PhysicsState, Measurements, StepFacts]:
        """Step the bodies in the model. Substeps and last reading share one loop body, which halves compile time."""
        scene, model = self.nearby.near, self.model_of(near)
        wanted = max_substeps if num_substeps is None else num_substeps
        untouched = jnp.zeros(len(scene.solid_bodies), bool)
        nothing = Measurements(
            sensors=jnp.zeros(scene.model.nsensordata),
            contacts=jnp.zeros(len(scene.solid_bodies)),
            fields={name: jnp.zeros(size) for name, size in field_sizes(scene).items()},
        )

        def substep(index: jax.Array, carry: tuple) -> tuple:
            data, _, touched, facts = carry
            is_over = index >= wanted  # such rounds only read; the last round reads too, if needed
            last, now = scene.last_mocap_pos(data, data.time), scene.mocap_pos(data, data.time)
            full = _forward(model, data.replace(mocap_pos=jnp.where(is_over, last, now)))
            moved = _integrate(model, full)
            after = data.replace(**{name: getattr(moved, name) for name in MOVES})
            data = jax.tree.map(lambda old, new: jnp.where(is_over, old, new), data, after)
            reading = self._measure(full)
            facts = StepFacts(
                farthest=jnp.maximum(facts.farthest, self.nearby.excursion(near, data)),
                is_touched=facts.is_touched | jnp.any(reading.contacts > 0),
            )
            return data, reading, touched | self._touched(full), facts

        begin = StepFacts(farthest=farther(scene, jnp.float32(0), near.qpos), is_touched=jnp.bool_(False))
        start = near, nothing, untouched, begin
        moved, reading, touched, facts = jax.lax.fori_loop(0, max_substeps + is_measured(scene), substep, start)
        return self.nearby.keep_at_rest(near, moved, touched), reading, facts

    def model_of(self, data: PhysicsState) -> mjx.Model:
        """Return the model of a world, with its own dynamics if it has any."""
        return _varied(self.nearby.near, self.model, data)

    def gather(self, data: PhysicsState) -> tuple[PhysicsState, dict[str, jax.Array]]:
        """Return the state of the objects in slots, and their indices: the nearest and the moving ones."""
        if self.nearby.has_all_slots:
            return data, {}
        excursion = farther(self.nearby.full, jnp.float32(0), data.qpos)
        chosen = self.nearby.select(data, self.nearby.relevant(data, 0.0, excursion))
        return self.nearby.gather(data, chosen), chosen

    def _spread(self, reading: Measurements, chosen: dict[str, jax.Array]) -> Measurements:
        """Return the contacts of all solid objects of the scene, those without a slot included."""
        return reading if self.nearby.has_all_slots else self.nearby.spread(reading, chosen)

    def _measure(self, full: mjx.Data) -> Measurements:
        fields = fields_of(self.nearby.near, full)
        return Measurements(sensors=full.sensordata, contacts=self._count_contacts(full), fields=fields)

    def _count_contacts(self, full: mjx.Data) -> jax.Array:
        """Contact points of the robot with each solid object [K]. A point counts if its distance is at most 0."""
        objects = self._object_geoms()
        if not len(objects):
            return jnp.zeros(0)
        contact = full._impl.contact  # the only place of MJX-JAX's contacts
        robot = jnp.asarray(self._robot_geoms())
        first, second = contact.geom[:, 0], contact.geom[:, 1]
        other = jnp.where(robot[first], second, first)
        counts = (contact.dist <= 0) & (robot[first] ^ robot[second])
        return jnp.sum(counts[:, None] & jnp.asarray(objects)[:, other].T, axis=0, dtype=jnp.float32)

    def _touched(self, full: mjx.Data) -> jax.Array:
        """Whether each solid object touches anything but the floor, [K] bool."""
        objects = self._object_geoms()
        if not len(objects):
            return jnp.zeros(0, bool)
        contact, floor = full._impl.contact, self.nearby.near.model.geom("floor").id
        first, second = contact.geom[:, 0], contact.geom[:, 1]
        real = (contact.dist <= 0) & (first != floor) & (second != floor)
        members = jnp.asarray(objects)
        return jnp.any(real & (members[:, first] | members[:, second]), axis=-1)

    def _robot_geoms(self) -> np.ndarray:
        """Mask of the robot's geoms, [ngeom] bool."""
        model = self.nearby.near.model
        return model.body_rootid[model.geom_bodyid] == model.body("robot").id

    def _object_geoms(self) -> np.ndarray:
        """Mask of each solid object's geoms, [K, ngeom] bool."""
        model, names = self.nearby.near.model, self.nearby.near.solid_bodies
        bodies = [model.body(name).id for name in names]
        return np.array([model.geom_bodyid == body for body in bodies], bool).reshape(-1, model.ngeom)


@struct.dataclass
class MjxPhysics(AbstractPhysics):
    """MJX on one scene. Models are subtrees of leaves: vmap over `near.model` to randomise masses, frictions, gains.

    A state carries only positions, velocities, warm start and time: 0.1 KiB per world for Goal1, while `mjx.Data` takes
    10 KiB. The forward pass at the start of every MJX step rebuilds the rest. Such states are cheap to move, so a batch
    is sorted. All worlds step with the robot alone. Those in which objects matter step again, with the objects near the
    robot (`relevance.where_needed`).
    """

    near: Part  # the robot and the objects near it
    # The robot alone, in closed form if it has one; None: `near` steps all worlds. It must fit the model in `near`.
    alone: Part | ClosedForm | None
    share: float = struct.field(pytree_node=False, default=1.0)  # of worlds that get objects at a time

    name = "mjx"

    @classmethod
    def create(cls, scenes: Scenes) -> MjxPhysics:
        """Put the models on the device."""
        near, alone = (Nearby(full=scenes.full, near=scene or scenes.full) for scene in (scenes.near, scenes.alone))
        if scenes.alone is None:
            return cls(near=Part.create(near), alone=None)
        form = closed_form(alone)
        if form is None and alone.has_all_slots:  # `near` is the robot alone
            return cls(near=Part.create(near), alone=None)
        return cls(near=Part.create(near), alone=form or Part.create(alone), share=scenes.share)

    @property
    @override
    def scene(self) -> EngineScene:
        """The whole scene."""
        return self.near.nearby.full

    @property
    def nearby(self) -> Nearby:
        """The choice of objects that matter."""
        return self.near.nearby

    @property
    def model(self) -> mjx.Model:
        """The model of the robot and the objects near it."""
        return self.near.model

    def with_model(self, model: mjx.Model) -> MjxPhysics:
        """Return this engine with another model of the robot and the objects near it, for all steps."""
        return self.replace(near=self.near.replace(model=model), alone=None)

    @override
    def start(self, data: PhysicsState) -> tuple[PhysicsState, Measurements]:
        """Read the first state of an episode. If the robot is clear of all objects, this takes no solver."""
        if not starts_clear(self.scene):
            return self.forward(data)
        sensors = read_at_rest(self.scene, data) if data.dynamics is None else None
        if sensors is None:
            near = self.near.gather(data)[0]
            sensors = _forward(_without_contacts(self.near.model_of(near)), near).sensordata
        return data, Measurements(sensors=sensors, contacts=jnp.zeros(len(self.scene.solid_bodies)))

    @override
    def forward(self, data: PhysicsState) -> tuple[PhysicsState, Measurements]:
        return data, self.near.forward(data)

    @override
    def step(
        self, data: PhysicsState, ctrl: jax.Array, max_substeps: int, num_substeps: jax.Array | None = None
    ) -> tuple[PhysicsState, Measurements]:
        data, alone = data.replace(ctrl=ctrl), self.alone

        def full(parts: tuple, data: PhysicsState, num: jax.Array | None) -> tuple[PhysicsState, Measurements]:
            return parts[0].step(data, max_substeps, num, UNKNOWN)

        def by_itself(parts: tuple, data: PhysicsState, num: jax.Array | None) -> tuple[PhysicsState, Measurements]:
            return _step_alone(parts[1], data, max_substeps, num)[0]

        if alone is None or not self.scene.solid_bodies:
            step = full if alone is None else by_itself
            return forward_only(step, step)((self.near, alone), data, num_substeps)
        seconds = max_substeps * float(self.scene.model.opt.timestep)
        choose = where_needed(
            needs=lambda parts, hint, data, _: parts[0].nearby.needs_objects(data, seconds, hint),
            full=lambda parts, _, hint, data, num: parts[0].step(data, max_substeps, num, hint),
            cheap=lambda parts, _, data, num: _step_alone(parts[1], data, max_substeps, num),
            smallest=SMALL,
            share=self.share,
        )
        step = forward_only(lambda parts, data, num: choose(parts, jnp.bool_(True), data, num), full)
        return step((self.near, alone), data, num_substeps)

    @override
    def data(self, data: PhysicsState) -> mjx.Data:
        """Return the complete and current `mjx.Data` of a state, with all objects."""
        model = self.model if self.near.nearby.has_all_slots else mjx.put_model(self.scene.model)
        model = _varied(self.scene, model, data)
        return _forward(model, data.replace(mocap_pos=self.scene.last_mocap_pos(data, data.time)))


def _varied(scene: EngineScene, model: mjx.Model, data: PhysicsState) -> mjx.Model:
    """Return the model of a scene with the dynamics of a world."""
    if data.dynamics is None:
        return model
    varied = varied_fields(scene, model, data.dynamics, jnp)
    return model.replace(**varied, **derived_fields(scene, model, data.dynamics, varied["body_mass"]))


def _step_alone(
    alone: Part | ClosedForm, data: PhysicsState, max_substeps: int, num_substeps: jax.Array | None
) -> tuple[tuple[PhysicsState, Measurements], jax.Array]:
    step = alone.step if isinstance(alone, ClosedForm) else alone.step_alone
    return step(data, max_substeps, num_substeps)


def _euler(model: mjx.Model, full: mjx.Data) -> mjx.Data:
    """Integrate as `mjx.euler` does, after the constraint solver has finished.

    Implicit damping factors a second mass matrix, independent of the first. On a CPU XLA may run both at once. Each
    then waits for worker threads that the other holds, and with two threads the program hangs (jaxlib 0.10, batched
    LAPACK calls). The added term is zero and makes the second factorisation wait for the first.
    """
    after_solver = 0.0 * full.qacc[0]
    return mjx.euler(model, full.tree_replace({"_impl.M": full._impl.M + after_solver}))


_INTEGRATORS = {
    mjx.IntegratorType.EULER: _euler,
    mjx.IntegratorType.RK4: mjx.rungekutta4,
    mjx.IntegratorType.IMPLICITFAST: mjx.implicit,
}


@jax.jit
def _integrate(model: mjx.Model, full: mjx.Data) -> mjx.Data:
    """Run the model's integrator."""
    with _corrections():
        return _INTEGRATORS[model.opt.integrator](model, full)


@contextlib.contextmanager
def _corrections() -> Iterator[None]:
    """Trace MJX with our colliders, equalities and solver, which replace MJX's own meanwhile. One thread at a time."""
    with _TRACING, corrected(), velocity_terms(), exact_line_search(), own_solver():
        yield


def _without_contacts(model: mjx.Model) -> mjx.Model:
    """Switch off contacts, and touch sensors."""
    flags = model.opt.disableflags | mjx.DisableBit.CONTACT
    model = without_friction_cones(without_touch(model))
    return model.replace(opt=model.opt.replace(disableflags=flags))


@jax.jit  # traces MJX once for all batches and loops
def _forward(model: mjx.Model, data: PhysicsState) -> mjx.Data:
    """Run `mjx.forward`. In models without any constraint MJX 3.17 leaves acceleration sensors at zero."""
    with _corrections():
        full = mjx.forward(model, _load(model, data))
    return full if full._impl.efc_J.size else mjx.sensor_acc(model, full)


def _load(model: mjx.Model, data: PhysicsState) -> mjx.Data:
    return mjx.make_data(model).replace(**data.mjx_fields)
