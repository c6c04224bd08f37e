"""Physics for what is near: a model with a few slots per kind of object, filled with those that can touch something.

A solver pays for every body it holds, but of ten vases at most a few are near the robot or still move. The others need
no solver: fixed things do nothing, free things lie at rest, driven things follow the law of their weld. In most steps
that is true of all objects, and the robot can be solved for by itself.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjx_safety.core.geometry import planar_distance
from mjx_safety.sim.engines.base import EngineScene
from mjx_safety.sim.gremlins import undisturbed_step
from mjx_safety.sim.state import PhysicsReading, PhysicsState

FLAT = 1e-3  # m, a cube whose centre is higher than this above its height at reset leans on something
FIRST = 1e3  # m, head start of what must not leave the solver
FASTEST_START = 20.0  # m/s^2, more than any robot accelerates by


class Stillness(NamedTuple):
    """What still counts as no motion, so that the solver can do without an object."""

    speed: float  # m/s, of a free object
    turning: float  # rad/s, of any object
    pull: float  # m/s^2 and rad/s^2, of a free object, by the solver's last answer
    turned: float  # 1 - |cos(half the angle)| between a driven object and its target


ROUNDING = Stillness(speed=1e-4, turning=1e-4, pull=np.inf, turned=1e-4)  # single precision; no cost counts less
EXACT = Stillness(speed=1e-6, turning=1e-5, pull=1e-3, turned=1e-6)  # double precision has come to rest by then


@dataclasses.dataclass(frozen=True, eq=False)
class Nearby:
    """The way between a scene and the smaller one with slots. Slots go to what moves, then by distance.

    Distance is that to the robot or to the nearest free object that moves (or that always has a slot). Chosen before
    every environment step, in which nothing gets further than the gap to those that are left out.
    """

    full: EngineScene
    near: EngineScene
    still: Stillness = ROUNDING

    @property
    def is_all(self) -> bool:
        """Whether every object has a slot."""
        return self.near.solid_bodies == self.full.solid_bodies

    def select(self, data: PhysicsState) -> dict[str, jax.Array]:
        """Choose, for each solid kind, the objects that get its slots: kind -> [slots] int32."""
        parts = self._parts(data)
        movers, moves = [data.qpos[None, :2]], [jnp.ones(1, bool)]
        for name in self._kinds("free"):
            q, v = parts["qpos"][name], parts["qvel"][name]
            movers.append(q[:, :2])
            moves.append(~self._rests(name, q, v) | (self.full.objects[name].slots is None))
        where, active = jnp.concatenate(movers), jnp.concatenate(moves)
        chosen = {}
        for name in self.near.solid_kinds:
            xy = (parts["qpos"][name] if name in parts["qpos"] else parts["mocap_pos"][name])[:, :2]
            gaps = planar_distance(xy[:, None], where)  # [N, movers]; 0 to itself puts a mover first
            score = jnp.min(jnp.where(active, gaps, FIRST), axis=-1)
            chosen[name] = jax.lax.top_k(-score, self.near.objects[name].num)[1]
        return chosen

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
        """Undo what rounding did to free objects that lay at rest and that nothing but the floor touched.

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
        """Return the whole state after the chosen objects have `moved`, from `data`, the whole state before."""
        old, new = self._parts(data), self._parts_of(self.near, moved)
        nq, nv = self.full.robot_nq, self.full.robot_nv
        qpos, qvel, warm = [moved.qpos[:nq]], [moved.qvel[:nv]], [moved.qacc_warmstart[:nv]]
        for name in self.full.moving_kinds:
            q, v = self._left_alone(name, old, data.time, moved.time)
            w = old["qacc_warmstart"][name]
            if name in chosen:
                index = chosen[name]
                q, v = q.at[index].set(new["qpos"][name]), v.at[index].set(new["qvel"][name])
                w = w.at[index].set(new["qacc_warmstart"][name])
            for whole, rows in ((qpos, q), (qvel, v), (warm, w)):
                whole.append(rows.ravel())
        return data.replace(
            qpos=jnp.concatenate(qpos),
            qvel=jnp.concatenate(qvel),
            act=moved.act,
            qacc_warmstart=jnp.concatenate(warm),
            time=moved.time,
            ctrl=moved.ctrl,
        )

    def spread(self, reading: PhysicsReading, chosen: dict[str, jax.Array]) -> PhysicsReading:
        """Give the contacts [K] of all solid objects; those without a slot have none."""
        near = self.near.split(self.near.solid_kinds, reading.contacts)
        rows = {name: jnp.zeros(self.full.objects[name].num) for name in self.full.solid_kinds}
        rows |= {name: rows[name].at[chosen[name]].set(near[name]) for name in near}
        return reading.replace(contacts=jnp.concatenate([jnp.zeros(0), *rows.values()]))

    def needs_objects(self, data: PhysicsState, seconds: float) -> jax.Array:
        """Whether any object can touch something, or has not come to rest, within `seconds` from now. [] bool."""
        scene, parts = self.full, self._parts(data)
        speed = jnp.linalg.norm(data.qvel[:2])
        reach = _reach(scene) + (speed + 0.5 * FASTEST_START * seconds) * seconds
        needed = (data.time <= 0) & bool(self._kinds("free"))  # what has just been put down has yet to come to rest
        for name in scene.solid_kinds:
            moves = name in parts["qpos"]
            xy = (parts["qpos"][name] if moves else parts["mocap_pos"][name])[:, :2]
            radius = max(shape.planar_radius for shape in scene.objects[name].shapes)
            radius += 2 * scene.travel(name) * seconds  # a driven object follows its target, which takes 2 pi s a turn
            needed |= jnp.any(planar_distance(xy, data.qpos[:2]) < reach + radius)
            if moves:
                needed |= ~jnp.all(self._is_settled(name, parts))
            for driven in scene.driven_kinds if scene.objects[name].body_kind == "free" else ():
                gaps = planar_distance(xy[:, None], parts["qpos"][driven][:, :2])
                size = max(shape.planar_radius for shape in scene.objects[driven].shapes)
                needed |= jnp.any(gaps < radius + size + 2 * scene.travel(driven) * seconds)
        return needed

    def _is_settled(self, name: str, parts: dict[str, dict[str, jax.Array]]) -> jax.Array:
        """Which objects of a kind that moves do what `_left_alone` says, [N] bool."""
        q, v, still = parts["qpos"][name], parts["qvel"][name], self.still
        turns = jnp.any(jnp.abs(v[:, 3:]) >= still.turning, axis=-1)
        if self.full.objects[name].body_kind == "free":
            is_pulled = jnp.any(jnp.abs(parts["qacc_warmstart"][name]) >= still.pull, axis=-1)
            return self._rests(name, q, v) & ~turns & ~is_pulled
        aligned = jnp.abs(jnp.sum(q[:, 3:] * parts["mocap_quat"][name], axis=-1))  # 1 at no angle between them
        return (1 - aligned < still.turned) & ~turns

    def _rests(self, name: str, q: jax.Array, v: jax.Array) -> jax.Array:
        """Which free objects of a kind lie flat on the floor and do not move, [N] bool. q: [N, 7], v: [N, 6]."""
        is_slow = jnp.sum(v[:, :3] ** 2, axis=-1) < self.still.speed**2
        return is_slow & (jnp.abs(q[:, 2] - self.full.objects[name].height) < FLAT)

    def _left_alone(
        self, name: str, old: dict[str, dict[str, jax.Array]], before: jax.Array, after: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Coordinates [N, 7] and [N, 6] at time `after` of a kind whose objects touch nothing since `before`."""
        q, v = old["qpos"][name], jnp.zeros_like(old["qvel"][name])
        kind = self.full.objects[name]
        if kind.body_kind != "driven":
            return q, v
        start, dt = old["mocap_pos"][name], float(self.full.model.opt.timestep)

        def step(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            return undisturbed_step(self.full.travel(name), before + index * dt, dt, *carry)

        num_steps = jnp.round((after - before) / dt).astype(jnp.int32)
        offset, velocity = jax.lax.fori_loop(0, num_steps, step, (q[:, :3] - start, old["qvel"][name][:, :3]))
        return q.at[:, :3].set(start + offset), v.at[:, :3].set(velocity)

    def _kinds(self, body_kind: str) -> list[str]:
        return [name for name in self.full.moving_kinds if self.full.objects[name].body_kind == body_kind]

    def _parts(self, data: PhysicsState) -> dict[str, dict[str, jax.Array]]:
        return self._parts_of(self.full, data)

    def _parts_of(self, scene: EngineScene, data: PhysicsState) -> dict[str, dict[str, jax.Array]]:
        """Each kind's rows of each field of the state."""
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


def _reach(scene: EngineScene) -> float:
    """Farthest that anything of the robot can be from its root's origin, m, whatever its joints do."""
    model = scene.model
    root, far = model.body("robot").id, np.zeros(model.nbody)
    for body in range(root, model.nbody):  # parents come before children
        joints = range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body])
        inner = [] if body == root else joints
        far[body] = 0 if body == root else far[model.body_parentid[body]] + np.linalg.norm(model.body_pos[body])
        far[body] += sum(2 * np.linalg.norm(model.jnt_pos[joint]) + _slides(model, joint) for joint in inner)
    own = (model.body_rootid[model.geom_bodyid] == root) & ((model.geom_contype | model.geom_conaffinity) > 0)
    outer = far[model.geom_bodyid] + np.linalg.norm(model.geom_pos, axis=-1) + model.geom_rbound
    return float(outer[own].max(initial=0.0))


def _slides(model: mujoco.MjModel, joint: int) -> float:
    """How far a joint can shift its body, m."""
    if model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_SLIDE:
        return 0.0
    return float(np.abs(model.jnt_range[joint]).max()) if model.jnt_limited[joint] else np.inf
