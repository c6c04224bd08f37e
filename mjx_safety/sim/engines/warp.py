"""MJX-Warp: MuJoCo's kernels for NVIDIA GPUs behind JAX, with the C engine's shapes and contacts.

Warp logs its start and each kernel that it loads. This module raises its log level to errors, unless the user has set
`warp.config.log_level` before. The first use of a scene compiles its kernels for a minute or more. Warp keeps them in
the user's cache folder.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import warp
from flax import struct
from jax.custom_batching import custom_vmap
from typing_extensions import override

if warp.config.log_level == warp.LOG_INFO:  # Warp's default; set before mujoco.mjx starts Warp
    warp.config.log_level = warp.LOG_ERROR

from mujoco import mjx
from mujoco.mjx.third_party.mujoco_warp._src.types import OverflowType

from mjx_safety.sim.engines.base import AbstractPhysics, EngineScene, fields_of
from mjx_safety.sim.engines.derivatives import without_derivatives
from mjx_safety.sim.fixes.warp_colliders import correct_colliders
from mjx_safety.sim.model import SPARE_CONTACTS
from mjx_safety.sim.start_sensors import read_at_rest, starts_clear
from mjx_safety.sim.state import MOVES, Measurements, PhysicsState

CONVEX_PAIRS = 8  # per world, near pairs without a closed formula, such as pillar and vase
CONTACT_ROWS = 10  # solver rows of a contact point with sliding, torsional and rolling friction
WELD_ROWS = 6
DATA_WORLDS = 64  # worlds whose contacts fit into `WarpPhysics.data` under `jax.vmap`
_SHAPE = mujoco.mjtGeom
FLOOR_POINTS = {_SHAPE.mjGEOM_SPHERE: 1, _SHAPE.mjGEOM_CAPSULE: 2, _SHAPE.mjGEOM_ELLIPSOID: 1}  # 4 for all others
LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Buffers:
    """Sizes of Warp's buffers, per world. All worlds of a batch share one pool of contacts and of convex pairs."""

    contacts: int  # contact points, and near pairs of shapes
    rows: int  # rows of the constraint solver
    convex_pairs: int  # pairs of shapes for the iterative collider; at most `contacts`


@struct.dataclass
class WarpPhysics(AbstractPhysics):
    """MJX-Warp on one scene: all objects in the solver, contacts from MuJoCo's contact sensors.

    The model is a subtree of leaves. Vmap over those fields that should differ between worlds.

    Warp steps a batch in one call and sizes some buffers for all its worlds together. The functions below therefore
    handle B worlds and define `jax.vmap` themselves: it adds one more axis of worlds.
    """

    model: mjx.Model
    scene: EngineScene = struct.field(pytree_node=False)
    buffers: Buffers = struct.field(pytree_node=False)
    ranks: tuple[int, ...] = struct.field(pytree_node=False)  # of the model's leaves if all worlds share them

    name = "warp"

    @classmethod
    def create(cls, scene: EngineScene) -> WarpPhysics:
        """Put the model on the device."""
        correct_colliders()
        model = mjx.put_model(scene.model, impl="warp")
        ranks = tuple(leaf.ndim for leaf in jax.tree.leaves(model))
        return cls(model=model, scene=scene, buffers=default_buffers(scene), ranks=ranks)

    def with_buffers(self, **sizes: int) -> WarpPhysics:
        """Change some sizes of `Buffers`: `env.replace(physics=env.physics.with_buffers(rows=800))`."""
        return self.replace(buffers=dataclasses.replace(self.buffers, **sizes))

    @override
    def start(self, data: PhysicsState) -> tuple[PhysicsState, Measurements]:
        """Read the first state of an episode. If the robot is clear of all objects, this takes no solver."""
        sensors = read_at_rest(self.scene, data) if starts_clear(self.scene) else None
        return self.forward(data) if sensors is None else (data, self._reading(sensors, {}))

    @override
    def forward(self, data: PhysicsState) -> tuple[PhysicsState, Measurements]:
        return data, self._reading(*self._run(data, 0, None)[1:])

    @override
    def step(
        self, data: PhysicsState, ctrl: jax.Array, max_substeps: int, num_substeps: jax.Array | None = None
    ) -> tuple[PhysicsState, Measurements]:
        after, sensors, fields = self._run(data.replace(ctrl=ctrl), max_substeps, num_substeps)
        return after, self._reading(sensors, fields)

    @override
    def data(self, data: PhysicsState) -> mjx.Data:
        """Return the complete and current `mjx.Data` of a state.

        Under `jax.vmap` all worlds share one list of contacts, sized for `DATA_WORLDS` worlds.
        """
        full = _load(_blank(self.scene, self.buffers, DATA_WORLDS), data)
        return mjx.forward(self.model, full.replace(mocap_pos=self.scene.last_mocap_pos(data, data.time)))

    def _run(
        self, data: PhysicsState, max_substeps: int, num_substeps: jax.Array | None
    ) -> tuple[PhysicsState, jax.Array, dict[str, jax.Array]]:
        """Run one world as a batch of one. Returns its state, all sensors [S + K], and the fields of `Measurements`."""
        batch = jax.tree.map(lambda x: x[None], (data, num_substeps))
        advance = without_derivatives(_advance(max_substeps), self.name)
        return jax.tree.map(lambda x: x[0], advance(self, *batch))

    def axes(self, model: mjx.Model) -> mjx.Model:
        """Axis of worlds of each leaf of a batch's model, for `jax.vmap`: 0 if worlds differ, else None."""
        leaves, structure = jax.tree.flatten(model)
        return structure.unflatten(0 if x.ndim > rank else None for x, rank in zip(leaves, self.ranks, strict=True))

    def _reading(self, sensordata: jax.Array, fields: dict[str, jax.Array]) -> Measurements:
        split = self.scene.model.nsensordata - len(self.scene.solid_bodies)  # contact sensors stand last
        return Measurements(sensors=sensordata[:split], contacts=sensordata[split:], fields=fields)


def default_buffers(scene: EngineScene) -> Buffers:
    """Sizes for all bodies on the floor, and for `SPARE_CONTACTS` more points."""
    model = scene.model
    moves = model.body_dofnum[model.body_rootid[model.geom_bodyid]] > 0
    masks = model.geom_contype | model.geom_conaffinity
    on_floor = moves & ((masks & masks[model.geom("floor").id]) > 0)
    points = sum(FLOOR_POINTS.get(mujoco.mjtGeom(kind), 4) for kind in model.geom_type[on_floor])
    contacts = points + SPARE_CONTACTS
    rows = CONTACT_ROWS * contacts + WELD_ROWS * model.neq + int(model.jnt_limited.sum())
    return Buffers(contacts=contacts, rows=rows, convex_pairs=CONVEX_PAIRS)


# -- batches: from here on every array has B worlds on its first axis -------------------------------------------------


def _over_worlds(run: Callable) -> Callable:
    """Define `run(physics, data, num_substeps)` under `jax.vmap`: the new axis and B form one larger batch."""
    batched = custom_vmap(run)

    @batched.def_vmap
    def merge(
        axis_size: int, in_batched: tuple, physics: WarpPhysics, data: PhysicsState, num_substeps: jax.Array | None
    ) -> tuple:
        sizes = (axis_size, data.time.shape[-1])

        def flat(x: jax.Array, is_batched: bool, is_one: bool = False) -> jax.Array:
            """Shape [*sizes, ...] as one axis. is_one: x lacks the axis B."""
            x = x if is_batched else x[None]
            x = x[:, None] if is_one else x
            return jnp.broadcast_to(x, (*sizes, *x.shape[2:])).reshape(math.prod(sizes), *x.shape[2:])

        def flat_model(x: jax.Array, is_batched: bool, rank: int) -> jax.Array:
            is_one = x.ndim - is_batched == rank
            return flat(x, is_batched, is_one) if is_batched or not is_one else x

        leaves, structure = jax.tree.flatten(physics.model)
        is_batched = jax.tree.leaves(in_batched[0])
        model = structure.unflatten(map(flat_model, leaves, is_batched, physics.ranks))
        worlds = jax.tree.map(flat, (data, num_substeps), tuple(in_batched[1:]))
        out = batched(physics.replace(model=model), *worlds)
        out = jax.tree.map(lambda x: x.reshape(*sizes, *x.shape[1:]), out)
        return out, jax.tree.map(lambda _: True, out)

    return batched


@functools.cache
def _advance(max_substeps: int) -> Callable:
    """Return a function that advances B worlds and reads sensors [B, S] of the final state."""

    @_over_worlds
    def advance(
        physics: WarpPhysics, data: PhysicsState, num_substeps: jax.Array | None
    ) -> tuple[PhysicsState, jax.Array, dict[str, jax.Array]]:
        scene, num_worlds = physics.scene, len(data.time)
        model, blind = physics.model, _without_sensors(physics.model)

        def substep(index: jax.Array, carry: tuple[mjx.Data, Needs]) -> tuple[mjx.Data, Needs]:
            full, needs = carry
            driven = full.replace(mocap_pos=scene.mocap_pos(data, full.time))
            moved = jax.vmap(mjx.step, in_axes=(physics.axes(blind), 0))(blind, driven)
            needs = needs.and_of(moved)
            return (moved if num_substeps is None else _keep(index < num_substeps, moved, full)), needs

        full = jax.vmap(functools.partial(_load, _blank(scene, physics.buffers, num_worlds)))(data)
        needs = Needs(contacts=jnp.int32(0), rows=jnp.int32(0), convex_pairs=jnp.bool_(False))
        if max_substeps:
            full, needs = jax.lax.fori_loop(0, max_substeps, substep, (full, needs))
        after = data.replace(**{field: getattr(full, field) for field in MOVES})
        full = full.replace(mocap_pos=scene.last_mocap_pos(data, full.time))
        read = jax.vmap(mjx.forward, in_axes=(physics.axes(model), 0))(model, full)
        needs.and_of(read).report(physics.buffers, num_worlds)
        return after, read.sensordata, jax.vmap(functools.partial(fields_of, scene))(read)

    return advance


def _keep(moves: jax.Array, moved: mjx.Data, before: mjx.Data) -> mjx.Data:
    """Keep worlds that do not move. moves: [B] bool."""

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(moves.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return moved.replace(**{field: choose(getattr(moved, field), getattr(before, field)) for field in MOVES})


def _without_sensors(model: mjx.Model) -> mjx.Model:
    """Switch off sensors for the substeps, whose readings are unused."""
    return model.replace(opt=model.opt.replace(disableflags=model.opt.disableflags | mjx.DisableBit.SENSOR))


def _blank(scene: EngineScene, buffers: Buffers, num_worlds: int) -> mjx.Data:
    """Data of one world, with the contact buffers of a batch.

    It is small on the host and grows inside the program. As constants, the buffers would make the program grow with the
    batch.
    """
    with jax.ensure_compile_time_eval():
        host = jax.devices("cpu")[0]
        blank = mjx.make_data(scene.model, host, "warp", naconmax=1, naccdmax=1, njmax=buffers.rows)
        blank = jax.tree.map(np.asarray, blank)
    slots = buffers.contacts * num_worlds
    private = {field: getattr(blank._impl, field) for field in blank._impl.__dataclass_fields__}
    lists = {name: x for name, x in private.items() if name.startswith("contact__") and len(x)}
    pool = {name: jnp.full((slots, *x.shape[1:]), x.flat[0]) for name, x in lists.items()}
    sizes = {"naconmax": slots, "naccdmax": min(buffers.convex_pairs, buffers.contacts) * num_worlds}
    blank = jax.tree.map(_filled, blank)
    return blank.replace(_impl=blank._impl.replace(**pool, **sizes))


def _filled(x: np.ndarray) -> jax.Array:
    is_uniform = x.size > 0 and np.all(x == x.flat[0])
    return jnp.full(x.shape, x.flat[0]) if is_uniform else jnp.asarray(x)


def _load(blank: mjx.Data, data: PhysicsState) -> mjx.Data:
    """Load the state of one world."""
    return blank.replace(**data.mjx_fields)


@struct.dataclass
class Needs:
    """Buffer sizes that a batch has needed so far. Full buffers drop entries, but Warp still counts them."""

    contacts: jax.Array  # [] int32, of all worlds together
    rows: jax.Array  # [] int32, of the world with most rows
    convex_pairs: jax.Array  # [] bool, whether there were too many; Warp does not count them

    def and_of(self, full: mjx.Data) -> Needs:
        """Add the needs of a call."""
        found = full._impl
        too_many = (found.overflow & int(OverflowType.CCD)) > 0
        return Needs(
            contacts=jnp.maximum(self.contacts, jnp.maximum(found.nacon, found.ncollision)[0]),
            rows=jnp.maximum(self.rows, jnp.max(found.nefc)),
            convex_pairs=self.convex_pairs | jnp.any(too_many),
        )

    def report(self, buffers: Buffers, num_worlds: int) -> None:
        """Warn about too small buffers, once per buffer and size."""
        room = buffers.contacts * num_worlds
        lacks = (self.contacts > room) | (self.rows > buffers.rows) | self.convex_pairs
        say = functools.partial(_say_what_lacks, buffers, num_worlds)
        jax.lax.cond(lacks, lambda: jax.debug.callback(say, self), lambda: None)


def _say_what_lacks(buffers: Buffers, num_worlds: int, needs: Needs) -> None:
    contacts = -(-int(needs.contacts) // num_worlds)  # per world, rounded up
    needed = {"contacts": contacts, "rows": int(needs.rows)}
    lacking = {name: size for name, size in needed.items() if size > getattr(buffers, name)}
    if needs.convex_pairs:
        lacking["convex_pairs"] = 2 * buffers.convex_pairs
    for name, size in lacking.items():
        _warn_once(name, getattr(buffers, name), size)


_warned: set[tuple[str, int]] = set()


def _warn_once(name: str, room: int, size: int) -> None:
    if (name, room) not in _warned:
        _warned.add((name, room))
        LOG.warning(
            "physics='warp' ran out of room and dropped contacts: %s=%d a world is too small; try"
            " env.replace(physics=env.physics.with_buffers(%s=%d))",
            *(name, room, name, size + size // 4),
        )
