"""Facts of a scene that bound what its bodies do: how far the robot reaches, and how its free objects lie at rest."""

from __future__ import annotations

import copy
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjx_safety.core.compiled import KEPT
from mjx_safety.sim.engines.base import EngineScene
from mjx_safety.sim.quiet import no_warnings
from mjx_safety.world.objects import AbstractObject

LIFTED = 2e-5  # m; an object that is farther above its height at rest falls or leans on something
SUNKEN = 9e-5  # m; one that is farther below rises; vases of MJX rest 43 um lower than those of C
TILTED = 1e-4  # rad; one that is tilted more falls or leans on something
PARKED = 1e3  # m, distance between the objects while they settle
SETTLING, SETTLED = 0.2, 1.0  # s, in which an object comes to rest after a reset; in which any one does
STOPPED = 1e-6  # m/s and rad/s, of an object that has come to rest
EQUAL = 1e-6  # m, between two heights on which an object can lie alike


class Settled(NamedTuple):
    """What objects of one kind do after a reset if nothing touches them."""

    way: float  # m, farthest rise or fall while they come to rest
    height: float  # m, of their centre at rest


@functools.lru_cache(KEPT)
def settle(scene: EngineScene) -> dict[str, Settled]:
    """Let the objects of each moving kind come to rest on the floor, from their heights at reset."""
    model = copy.copy(scene.model)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_EQUALITY  # no gremlin is pulled to its target
    data = mujoco.MjData(model)
    objects = data.qpos[scene.robot_nq :].reshape(-1, 7)  # a view
    kinds = [scene.objects[name] for name in scene.moving_kinds for _ in range(scene.objects[name].num)]
    heights, is_free = [kind.height for kind in kinds], np.array([kind.body_kind == "free" for kind in kinds], bool)
    objects[:] = 0.0
    objects[:, 0] = data.qpos[0] + PARKED * np.arange(1, len(objects) + 1)
    objects[:, 2], objects[:, 3] = heights, 1.0
    way, velocities = np.zeros(len(objects)), data.qvel[scene.robot_nv :].reshape(-1, 6)
    with no_warnings():
        for index in range(round(SETTLED / model.opt.timestep)):
            mujoco.mj_step(model, data)
            if index < round(SETTLING / model.opt.timestep):
                way = np.maximum(way, np.abs(objects[:, 2] - heights))
            elif np.all(np.abs(velocities[is_free]) < STOPPED):
                break
    ways, ends = (scene.split(scene.moving_kinds, rows) for rows in (way, objects[:, 2]))
    return {name: Settled(float(ways[name].max()), float(ends[name].mean())) for name in scene.moving_kinds}


def lies_flat(kind: AbstractObject, quat: jax.Array) -> jax.Array:
    """Which objects of a kind, at orientations [N, 4], lie on the floor as at reset or on a like side, [N] bool.

    A cube has three such axes and an upright cylinder or a push box has one. A ball lies flat however it is turned.
    """
    axes = _upright_axes(kind)
    if not axes:
        return jnp.ones(quat.shape[:-1], bool)
    w, x, y, z = jnp.moveaxis(quat, -1, 0)
    up = [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]  # the upright axis in the object's frame
    tilts = [sum(part**2 for part in up[:axis] + up[axis + 1 :]) for axis in axes]  # sin^2
    return jnp.any(jnp.stack(tilts) < TILTED**2, axis=0)


def _upright_axes(kind: AbstractObject) -> list[int]:
    """Axes of an object's frame that may stand upright while its centre is as high as at reset. Empty: of a ball."""
    if all(shape.kind == "sphere" and not any(shape.pos) for shape in kind.shapes):
        return []
    sizes = {"box": (0, 1, 2), "cylinder": (0, 0, 1), "sphere": (0, 0, 0)}  # entry of a shape's size along each axis
    half = [max(abs(s.pos[axis]) + s.size[sizes[s.kind][axis]] for s in kind.shapes) for axis in range(3)]
    return [axis for axis in range(3) if abs(half[axis] - half[2]) < EQUAL]


@functools.lru_cache(KEPT)
def reach(scene: EngineScene) -> float:
    """Largest distance of any part of the robot from its root's origin, m, over all joint positions in their ranges.

    Ranges of slides are soft: `farther` adds what they are exceeded by.
    """
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
    """Largest shift of a body by a joint, m. A coordinate at `qpos0`, the joint's `ref`, shifts nothing."""
    if model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_SLIDE:
        return 0.0
    shifts = np.abs(model.jnt_range[joint] - model.qpos0[model.jnt_qposadr[joint]])
    return float(shifts.max()) if model.jnt_limited[joint] else np.inf


def farther(scene: EngineScene, way: Any, qpos: Any) -> Any:
    """Add to a way [...] m how far the robot's inner slides are beyond their ranges. qpos: [..., n], NumPy or JAX.

    A strong motor, a servo or a start brings a slide beyond its range, which is soft.
    """
    index, low, high = ranged_slides(scene)
    if not len(index):
        return way
    xp, slides = (np if isinstance(qpos, np.ndarray) else jnp), qpos[..., index]
    return way + xp.sum(xp.maximum(xp.maximum(low - slides, slides - high), 0.0), axis=-1)


@functools.lru_cache(KEPT)
def ranged_slides(scene: EngineScene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates of the robot's inner slides that have a range, and its ends in m, each [S]."""
    model = scene.model
    root = model.body("robot").id
    inner = (model.body_rootid[model.jnt_bodyid] == root) & (model.jnt_bodyid != root)
    slides = np.flatnonzero(inner & (model.jnt_type == int(mujoco.mjtJoint.mjJNT_SLIDE)) & (model.jnt_limited > 0))
    low, high = model.jnt_range[slides].astype(np.float32).T
    return model.jnt_qposadr[slides], low, high
