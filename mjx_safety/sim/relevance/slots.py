"""Finds the objects that matter in a step, and maps them to a model with a few slots per kind.

A solver takes time for each body, but only few of ten vases are near the robot or move. The others need no solver:
fixed objects do nothing, free objects rest, and driven objects follow the law of their weld. In most steps this holds
for all objects, and the robot can step alone.

An object matters in a step if the robot can reach it, if it moves, or if it can meet an object that matters. The robot
steps alone first. Its largest distance from its start then bounds its reach while it touches nothing. The test
therefore needs no bound on its acceleration. Where objects matter for certain, engines may guess that distance instead.
They step again if the robot gets farther.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mjx_safety.core.geometry import planar_distance
from mjx_safety.sim.engines.base import EngineScene
from mjx_safety.sim.gremlins import target_offset, undisturbed_step, uses_rk4, usual_lag
from mjx_safety.sim.relevance.bounds import LIFTED, SUNKEN, farther, lies_flat, reach, settle
from mjx_safety.sim.state import Measurements, PhysicsState
from mjx_safety.world.objects import AbstractObject

LAST = 1e3  # m, distance that puts objects that do not matter last
SLOWEST = 0.5  # m/s, added to every bound on a speed
USUAL_SPEED = 1.0  # m/s, of a robot that drives about


class Stillness(NamedTuple):
    """Bounds below which an object counts as at rest, so that the solver can leave it out."""

    speed: float  # m/s, of a free object
    turning: float  # rad/s, of any object
    pull: float  # m/s^2 and rad/s^2, of a free object, from the solver's last solution
    turned: float  # 1 - |cos(half the angle)| between a driven object and its target
    sinking: float  # m, of a free object between its place at reset and its rest


# single precision; costs ignore less
ROUNDING = Stillness(speed=1e-4, turning=1e-4, pull=np.inf, turned=1e-4, sinking=1e-5)
EXACT = Stillness(speed=1e-6, turning=1e-5, pull=1e-3, turned=1e-6, sinking=0.0)  # double precision, at rest


@dataclasses.dataclass(frozen=True)
class Nearby:
    """Maps a scene to a reduced one with a fixed number of slots per object kind, and back.

    Objects that matter get slots first, from the nearest to the robot on. The choice is made before every environment
    step. K: the solid objects, in the order of `EngineScene.solid_kinds`.
    """

    full: EngineScene
    near: EngineScene
    still: Stillness = ROUNDING

    @property
    def has_all_slots(self) -> bool:
        """Whether every object has a slot."""
        return self.near.solid_bodies == self.full.solid_bodies

    def relevant(self, data: PhysicsState, seconds: float, excursion: jax.Array) -> jax.Array:
        """Find the objects that matter within `seconds` from now, [K] bool.

        excursion: [] m, how much farther the robot reaches in that time if it touches nothing: the largest distance of
        its root from its place, and what its slides exceed their ranges by.
        """
        matters = self._first_to_matter(data, seconds, excursion)
        xy = self._positions(self._parts(data))
        if not len(xy):
            return matters
        is_movable = jnp.asarray(self._per_object(lambda kind: kind.body_kind != "fixed").astype(bool))
        size = self._per_object(_bounding_radius)
        push = jnp.where(is_movable, self._max_push(data, seconds, excursion), 0.0)
        meets = is_movable[:, None] & (_gaps(xy) < size[:, None] + size + push[:, None] + push)

        def reach_others(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            old, _ = carry
            new = old | jnp.any(old[:, None] & meets, axis=0)
            return new, jnp.any(new != old)

        return jax.lax.while_loop(lambda carry: carry[1], reach_others, (matters, jnp.any(matters)))[0]

    def needs_objects(self, data: PhysicsState, seconds: float, excursion: jax.Array | float) -> jax.Array:
        """Whether any object matters within `seconds` from now, [] bool. excursion: as in `relevant`."""
        return jnp.any(self._first_to_matter(data, seconds, excursion))

    def excursion(self, start: PhysicsState, data: PhysicsState) -> jax.Array:
        """How much farther the robot reaches than its joints' ranges allow at its place in `start`, [] m."""
        return farther(self.full, planar_distance(data.qpos[:2], start.qpos[:2]), data.qpos)

    def guess_excursion(self, data: PhysicsState, seconds: float) -> jax.Array:
        """Estimate how far the robot gets in `seconds`, [] m, without stepping it alone."""
        guess = 1.5 * jnp.linalg.norm(data.qvel[:2]) * seconds + 10.0 * seconds**2
        guess = farther(self.full, guess, data.qpos)
        if data.dynamics is None:
            return guess
        return guess * jnp.maximum(1.0, jnp.max(data.dynamics.gain, initial=1.0) / jnp.min(data.dynamics.mass))

    def fits(self, relevant: jax.Array) -> jax.Array:
        """Whether each object that matters [K] has a slot, [] bool."""
        counts = [
            jnp.sum(rows) <= self.near.objects[name].num
            for name, rows in self.full.split(self.full.solid_kinds, relevant).items()
        ]
        return jnp.all(jnp.stack([jnp.bool_(True), *counts]))

    def select(self, data: PhysicsState, relevant: jax.Array) -> dict[str, jax.Array]:
        """Choose the objects for the slots of each solid kind: kind -> [slots] int32. relevant: [K] bool."""
        gaps = planar_distance(self._positions(self._parts(data)), data.qpos[:2])
        score = jnp.where(relevant, 0.0, LAST) + jnp.minimum(gaps, 0.5 * LAST)
        rows = self.full.split(self.full.solid_kinds, score)
        return {name: jax.lax.top_k(-rows[name], self.near.objects[name].num)[1] for name in self.near.solid_kinds}

    def without(self, relevant: jax.Array, chosen: dict[str, jax.Array]) -> jax.Array:
        """Remove the chosen objects from those that matter, [K] bool."""
        rows = self.full.split(self.full.solid_kinds, relevant)
        rows |= {name: rows[name].at[index].set(False) for name, index in chosen.items()}
        return jnp.concatenate([jnp.zeros(0, bool), *rows.values()])

    def gather(self, data: PhysicsState, chosen: dict[str, jax.Array]) -> PhysicsState:
        """Return the state of the robot and the chosen objects."""
        parts = self._parts(data)
        nq, nv = self.full.robot_nq, self.full.robot_nv
        rows = {
            field: [rows[chosen[name]].ravel() for name, rows in kinds.items() if name in chosen]
            for field, kinds in parts.items()
        }
        return data.replace(
            qpos=jnp.concatenate([data.qpos[:nq], *rows["qpos"]]),
            qvel=jnp.concatenate([data.qvel[:nv], *rows["qvel"]]),
            qacc_warmstart=jnp.concatenate([data.qacc_warmstart[:nv], *rows["qacc_warmstart"]]),
            mocap_pos=jnp.concatenate([jnp.zeros(0), *rows["mocap_pos"]]).reshape(-1, 3),
            mocap_quat=jnp.concatenate([jnp.zeros(0), *rows["mocap_quat"]]).reshape(-1, 4),
        )

    def keep_at_rest(self, before: PhysicsState, moved: PhysicsState, touched: jax.Array) -> PhysicsState:
        """Undo rounding in free objects that were at rest and touched only the floor.

        before, moved: of the chosen objects; touched: [K] bool, for each solid object in the model.
        """
        scene = self.near
        old, new = self._parts_of(scene, before), self._parts_of(scene, moved)
        nq, nv = scene.robot_nq, scene.robot_nv
        touches = scene.split(scene.solid_kinds, touched)
        qpos, qvel = [moved.qpos[:nq]], [moved.qvel[:nv]]
        for name in scene.moving_kinds:
            q, v = new["qpos"][name], new["qvel"][name]
            if scene.objects[name].body_kind == "free":
                stays = (~touches[name] & self._rests(name, old["qpos"][name], old["qvel"][name]))[:, None]
                q, v = jnp.where(stays, old["qpos"][name], q), jnp.where(stays, 0.0, v)
            qpos.append(q.ravel())
            qvel.append(v.ravel())
        return moved.replace(qpos=jnp.concatenate(qpos), qvel=jnp.concatenate(qvel))

    def scatter(self, data: PhysicsState, moved: PhysicsState, chosen: dict[str, jax.Array]) -> PhysicsState:
        """Return the whole state after a step. data: the whole state before; moved: the chosen objects after."""
        old = self._parts(data)
        rest = {name: self._left_alone(name, old, data.time, moved.time) for name in self.full.moving_kinds}
        fields = {
            "qpos": jnp.concatenate([moved.qpos[: self.full.robot_nq], *(q.ravel() for q, _ in rest.values())]),
            "qvel": jnp.concatenate([moved.qvel[: self.full.robot_nv], *(v.ravel() for _, v in rest.values())]),
            "qacc_warmstart": data.qacc_warmstart.at[: self.full.robot_nv].set(
                moved.qacc_warmstart[: self.full.robot_nv]
            ),
        }
        return self.put(data.replace(**fields, act=moved.act, time=moved.time, ctrl=moved.ctrl), moved, chosen)

    def put(
        self,
        data: PhysicsState,
        moved: PhysicsState,
        chosen: dict[str, jax.Array],
        *,
        only: jax.Array | None = None,
        takes_robot: jax.Array | bool = False,
    ) -> PhysicsState:
        """Return the whole state with the chosen objects of `moved`.

        only: [K] bool, which of them; None: all. takes_robot: also with the robot of `moved`, [] bool.
        """
        parts, new = self._parts(data), self._parts_of(self.near, moved)
        wanted = {} if only is None else self.full.split(self.full.solid_kinds, only)

        def replaced(name: str, old: jax.Array, moved: jax.Array) -> jax.Array:
            index = chosen[name]
            is_wanted = wanted[name][index][:, None] if name in wanted else True
            return old.at[index].set(jnp.where(is_wanted, moved, old[index]))

        fields = {"act": jnp.where(takes_robot, moved.act, data.act)}
        for field, start in (
            ("qpos", self.full.robot_nq),
            ("qvel", self.full.robot_nv),
            ("qacc_warmstart", self.full.robot_nv),
        ):
            rows = [
                (replaced(name, part, new[field][name]) if name in chosen else part).ravel()
                for name, part in parts[field].items()
            ]
            robot = jnp.where(takes_robot, getattr(moved, field)[:start], getattr(data, field)[:start])
            fields[field] = jnp.concatenate([robot, *rows])
        return data.replace(**fields)

    def spread(self, reading: Measurements, chosen: dict[str, jax.Array]) -> Measurements:
        """Return the contacts [K] of all solid objects. Objects without a slot have none."""
        near = self.near.split(self.near.solid_kinds, reading.contacts)
        rows = {name: jnp.zeros(self.full.objects[name].num) for name in self.full.solid_kinds}
        rows |= {name: rows[name].at[chosen[name]].set(near[name]) for name in near}
        return reading.replace(contacts=jnp.concatenate([jnp.zeros(0), *rows.values()]))

    def _first_to_matter(self, data: PhysicsState, seconds: float, excursion: jax.Array | float) -> jax.Array:
        """Find objects that the robot reaches, that move or that meet gremlins, [K] bool."""
        scene, parts = self.full, self._parts(data)
        xy = self._positions(parts)
        if not len(xy):
            return jnp.zeros(0, bool)
        radius = self._per_object(lambda kind: kind.planar_radius)
        ways = jnp.concatenate([self._way(name, parts, data.time, seconds) for name in scene.solid_kinds])
        matters = planar_distance(xy, data.qpos[:2]) < reach(scene) + excursion + radius + ways
        has_begun = data.time > 0
        settled = [
            self._is_settled(name, parts) & (has_begun | self._starts_at_rest(name))
            if name in parts["qpos"]
            else jnp.ones(scene.objects[name].num, bool)
            for name in scene.solid_kinds
        ]
        matters |= ~jnp.concatenate(settled)
        is_driven = self._per_object(lambda kind: kind.body_kind == "driven").astype(bool)
        if is_driven.any():
            meets = _gaps(xy) < radius[:, None] + radius + ways[:, None] + ways
            matters |= jnp.any(meets & (is_driven[:, None] | is_driven), axis=-1)
        return matters

    def _way(self, name: str, parts: dict[str, dict[str, jax.Array]], time: jax.Array, seconds: float) -> jax.Array:
        """Bound on the way of driven objects within `seconds` from `time` [] s if they touch nothing, [N] m.

        Targets make one turn in 2 pi s. An object does not get faster than the speed at which its weld closes its lag.
        The lag is large at first, when targets jump to their circles, and after contacts.
        """
        travel, dt = self.full.travel(name), float(self.full.model.opt.timestep)
        if self.full.objects[name].body_kind != "driven":
            return jnp.zeros(self.full.objects[name].num)
        offset = parts["qpos"][name][:, :3] - parts["mocap_pos"][name]
        lag = planar_distance(offset, target_offset(travel, time, jnp))
        speed = jnp.linalg.norm(parts["qvel"][name][:, :2], axis=-1)
        return seconds * (travel + jnp.maximum(speed, lag / usual_lag(1.0, dt)))

    def _positions(self, parts: dict[str, dict[str, jax.Array]]) -> jax.Array:
        """Places of the solid objects, [K, 2] m."""
        rows = [(parts["mocap_pos"] | parts["qpos"])[name][:, :2] for name in self.full.solid_kinds]
        return jnp.concatenate([jnp.zeros((0, 2)), *rows])

    def _per_object(self, value: Callable[[AbstractObject], float]) -> np.ndarray:
        """Return one number per solid object, [K]."""
        kinds = [self.full.objects[name] for name in self.full.solid_kinds]
        return np.concatenate([np.zeros(0), *(np.full(kind.num, value(kind), float) for kind in kinds)])

    def _max_push(self, data: PhysicsState, seconds: float, excursion: jax.Array) -> jax.Array:
        """Bound on the way of objects that the robot hits, [] m, at twice the speed of its fastest point.

        The speed at the end of a steady acceleration v to v' follows from the excursion (v + v') / 2 * seconds.
        """
        nv, scene = self.full.robot_nv, self.full
        radius, speed = min(reach(scene), LAST), jnp.linalg.norm(data.qvel[:2])
        robot = jnp.maximum(speed * seconds, 2 * excursion - speed * seconds)
        turning = radius * jnp.sum(jnp.abs(data.qvel[2:nv])) * seconds
        objects = jnp.linalg.norm(data.qvel[nv:].reshape(-1, 6)[:, :3], axis=-1)
        return 2 * (robot + turning) + (jnp.max(objects, initial=0.0) + SLOWEST) * seconds

    def _is_settled(self, name: str, parts: dict[str, dict[str, jax.Array]]) -> jax.Array:
        """Which objects of a moving kind follow `_left_alone`, [N] bool."""
        q, v, still = parts["qpos"][name], parts["qvel"][name], self.still
        turns = jnp.any(jnp.abs(v[:, 3:]) >= still.turning, axis=-1)
        if self.full.objects[name].body_kind == "free":
            is_pulled = jnp.any(jnp.abs(parts["qacc_warmstart"][name]) >= still.pull, axis=-1)
            return self._rests(name, q, v) & ~turns & ~is_pulled
        aligned = jnp.abs(jnp.sum(q[:, 3:] * parts["mocap_quat"][name], axis=-1))  # 1 if aligned
        return (1 - aligned < still.turned) & ~turns

    def _starts_at_rest(self, name: str) -> bool:
        """Whether objects of a moving kind follow `_left_alone` from reset on. A gremlin touches the floor then."""
        return self.full.objects[name].body_kind == "free" and settle(self.full)[name].way <= self.still.sinking

    def _rests(self, name: str, q: jax.Array, v: jax.Array) -> jax.Array:
        """Which free objects of a kind lie flat on the floor and do not move, [N] bool. q: [N, 7], v: [N, 6]."""
        is_slow = jnp.sum(v[:, :3] ** 2, axis=-1) < self.still.speed**2
        rise = q[:, 2] - settle(self.full)[name].height
        is_low = (rise > -SUNKEN) & (rise < LIFTED)
        return is_slow & is_low & lies_flat(self.full.objects[name], q[:, 3:])

    def _left_alone(
        self, name: str, old: dict[str, dict[str, jax.Array]], before: jax.Array, after: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Coordinates [N, 7] and [N, 6] at time `after` of a kind whose objects touch nothing from `before` on."""
        q, v = old["qpos"][name], jnp.zeros_like(old["qvel"][name])
        kind = self.full.objects[name]
        if kind.body_kind != "driven":
            return q, v
        start, dt, is_rk4 = old["mocap_pos"][name], float(self.full.model.opt.timestep), uses_rk4(self.full.model)

        def step(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            return undisturbed_step(self.full.travel(name), before + index * dt, dt, *carry, is_rk4)

        num_steps = jnp.round((after - before) / dt).astype(jnp.int32)
        offset, velocity = jax.lax.fori_loop(0, num_steps, step, (q[:, :3] - start, old["qvel"][name][:, :3]))
        return q.at[:, :3].set(start + offset), v.at[:, :3].set(velocity)

    def _parts(self, data: PhysicsState) -> dict[str, dict[str, jax.Array]]:
        return self._parts_of(self.full, data)

    def _parts_of(self, scene: EngineScene, data: PhysicsState) -> dict[str, dict[str, jax.Array]]:
        """Rows of each kind in each field of the state."""
        nq, nv = scene.robot_nq, scene.robot_nv
        rows = {
            "qpos": data.qpos[nq:].reshape(-1, 7),
            "qvel": data.qvel[nv:].reshape(-1, 6),
            "qacc_warmstart": data.qacc_warmstart[nv:].reshape(-1, 6),
        }
        parts = {field: scene.split(scene.moving_kinds, value) for field, value in rows.items()}
        return parts | {
            field: scene.split(scene.mocap_kinds, getattr(data, field)) for field in ("mocap_pos", "mocap_quat")
        }


def _gaps(xy: jax.Array) -> jax.Array:
    """Distances between objects, [K, K] m. `LAST` on the diagonal: no object meets itself."""
    return planar_distance(xy[:, None], xy) + np.diag(np.full(len(xy), LAST))


def _bounding_radius(kind: AbstractObject) -> float:
    """Largest horizontal distance of an object's surface from its centre, m, over all headings."""
    if kind.body_kind == "fixed":
        return kind.planar_radius
    return max(math.hypot(*shape.pos) + math.hypot(*shape.size) for shape in kind.shapes)


def expected_share(scene: EngineScene, seconds: float, area: float) -> float:
    """Return the share of worlds in which a robot is within reach of an object if it drives at random about `area` m^2.

    That is more than random driving measures, since a robot starts away from objects: 1.4 to 1.8 times as much. It
    leaves room for policies that look for objects.
    """
    if area <= 0.0:
        return 1.0
    within = 0.0
    for name in scene.solid_kinds:
        kind = scene.objects[name]
        radius = kind.planar_radius + 2 * scene.travel(name) * seconds
        within += kind.num * math.pi * (reach(scene) + USUAL_SPEED * seconds + radius) ** 2
    return 1.0 - math.exp(-within / area)
