"""Dynamics of one world: factors on masses, friction, gains and damping, and the model's constants that follow.

Masses change what MuJoCo derives from them, too: how heavy a body feels to the solver (`body_invweight0`,
`dof_invweight0`). The C engine computes that by `mj_setConst`. Here the same follows in JAX. The robot's mass matrix in
its reference position is a sum with one term per body, and objects are free bodies.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjx_safety.core.compiled import KEPT
from mjx_safety.sim.engines.base import EngineScene
from mjx_safety.sim.planar import PlanarRobot
from mjx_safety.types import Dynamics
from mjx_safety.world.model_parts import have_affine_forces, part_name
from mjx_safety.world.randomize import Randomize

_JOINT = mujoco.mjtJoint
SMALLEST = 1e-15  # MuJoCo's own bound of an inverse weight


def draw(randomize: Randomize, scene: EngineScene, key: jax.Array) -> Dynamics:
    """Draw the factors of one world."""
    kinds, keys = scene.moving_kinds, jax.random.split(key, 5)

    def factors(index: int, bounds: tuple[float, float], *shape: int) -> jax.Array:
        return jax.random.uniform(keys[index], shape, jnp.float32, *bounds)

    return Dynamics(
        mass=factors(0, randomize.mass, len(robot_bodies(scene.model))),
        objects=dict(zip(kinds, factors(1, randomize.mass, len(kinds)), strict=True)),
        friction=factors(2, randomize.friction),
        gain=factors(3, randomize.gain, scene.model.nu),
        damping=factors(4, randomize.damping, len(robot_joints(scene.model))),
    )


def check(randomize: Randomize, model: mujoco.MjModel) -> None:
    """Raise ValueError if `randomize.gain` scales an actuator whose force is not affine (`have_affine_forces`)."""
    if randomize.gain == Randomize.gain:
        return
    for index in np.flatnonzero(~have_affine_forces(model)):
        name = part_name(model.actuator(index))
        raise ValueError(f"Randomize.gain is {randomize.gain}, but actuator {name} is neither a motor nor a servo")


def flat(dynamics: Dynamics) -> jax.Array:
    """All factors [D]: of the robot's bodies, of kinds by name, of friction, actuators and joints."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(dynamics)])


def size(scene: EngineScene) -> int:
    """D, the number of factors."""
    model = scene.model
    return len(robot_bodies(model)) + len(scene.moving_kinds) + 1 + model.nu + len(robot_joints(model))


def robot_bodies(model: mujoco.MjModel) -> np.ndarray:
    """Bodies of the robot, [R] int."""
    return np.flatnonzero(model.body_rootid == model.body("robot").id)


def robot_joints(model: mujoco.MjModel) -> np.ndarray:
    """Joints of the robot, [J] int."""
    return np.flatnonzero(model.body_rootid[model.jnt_bodyid] == model.body("robot").id)


def varied_fields(scene: EngineScene, base: Any, dynamics: Dynamics, xp: Any) -> dict[str, Any]:
    """Return the fields of a scene's model that the factors scale, with the leading axes of the factors.

    base: the model that the factors apply to; xp: numpy or jax.numpy.
    """
    model = scene.model
    mass_factors, damping_factors = _mass_factors(scene, dynamics, xp), _damping_factors(model, dynamics, xp)
    fields = {
        "body_mass": base.body_mass * mass_factors,
        "body_inertia": base.body_inertia * mass_factors[..., None],
        "geom_friction": base.geom_friction * dynamics.friction[..., None, None],
        "pair_friction": base.pair_friction * dynamics.friction[..., None, None],
        "actuator_gainprm": base.actuator_gainprm * dynamics.gain[..., None],
        "actuator_biasprm": base.actuator_biasprm * dynamics.gain[..., None],
        "actuator_forcerange": base.actuator_forcerange * dynamics.gain[..., None],
        "dof_damping": base.dof_damping * damping_factors,
        "dof_dampingpoly": base.dof_dampingpoly * damping_factors[..., None],
    }
    return {name: value for name, value in fields.items() if getattr(model, name).size}


def derived_fields(scene: EngineScene, base: Any, dynamics: Dynamics, body_mass: jax.Array) -> dict[str, jax.Array]:
    """Return the fields of a scene's model that follow from its masses, as `mj_setConst` computes them."""
    model, terms = scene.model, _terms(scene)
    bodies, num_dofs, factors = robot_bodies(model), scene.robot_nv, _mass_factors(scene, dynamics, jnp)
    inverse = inverse_of(terms.mass_matrix(dynamics.mass))
    weights = jnp.einsum("bij,jk,bik->bi", terms.jacobians, inverse, terms.jacobians).reshape(-1, 2, 3).mean(axis=-1)
    of_bodies = (base.body_invweight0 / factors[:, None]).at[bodies].set(jnp.maximum(weights, SMALLEST))
    of_dofs = base.dof_invweight0 / factors[model.dof_bodyid]
    fields = {
        "body_subtreemass": _subtrees(scene) @ body_mass,
        "body_invweight0": of_bodies,
        "dof_invweight0": of_dofs.at[:num_dofs].set(terms.averages @ jnp.diag(inverse)),
    }
    if model.ntendon:
        fields["tendon_invweight0"] = jnp.einsum("ti,ij,tj->t", terms.tendons, inverse, terms.tendons)
    return fields


def varied_planar(robot: PlanarRobot, scene: EngineScene, dynamics: Dynamics) -> PlanarRobot:
    """Return the closed form of a scene's robot with the dynamics of a world."""
    model, terms = scene.model, _terms(scene)
    masses = model.body_mass[robot_bodies(model)] * dynamics.mass
    mass = jnp.sum(masses)
    return dataclasses.replace(
        robot,
        mass=mass,
        com=masses @ terms.centres / mass,
        inertia=jnp.diag(terms.mass_matrix(dynamics.mass)),
        damping=robot.damping * dynamics.damping,
        actuators=tuple(each.scaled(factor) for each, factor in zip(robot.actuators, dynamics.gain, strict=True)),
    )


def inverse_of(matrix: jax.Array) -> jax.Array:
    """Invert a symmetric positive definite matrix [n, n], without a library call, by one sweep per row.

    Library calls that run at the same time as those of MJX can wait for each other on a CPU (see `mjx._euler`).
    """
    for k in range(len(matrix)):
        pivot = 1.0 / matrix[k, k]
        row, column = matrix[k] * pivot, matrix[:, k]
        matrix = matrix - column[:, None] * row
        matrix = matrix.at[k].set(row).at[:, k].set(-column * pivot).at[k, k].set(pivot)
    return matrix


@dataclasses.dataclass(frozen=True, eq=False)
class _Terms:
    """What the robot's mass matrix in its reference position is made of."""

    armature: np.ndarray  # [n, n]
    per_body: np.ndarray  # [R, n, n] kg, kg m^2
    jacobians: np.ndarray  # [R, 6, n] of each body's centre of mass: translation, rotation
    centres: np.ndarray  # [R, 3] m, centres of mass from the root
    averages: np.ndarray  # [n, n] means over the directions of free and ball joints
    tendons: np.ndarray  # [T, n] Jacobian of the tendons

    def mass_matrix(self, factors: jax.Array) -> jax.Array:
        """Return the mass matrix [n, n] for factors [R] on the bodies."""
        return jnp.asarray(self.armature, jnp.float32) + jnp.einsum("b,bij->ij", factors, self.per_body)


@functools.lru_cache(KEPT)
def _terms(scene: EngineScene) -> _Terms:
    model, num_dofs = scene.model, scene.robot_nv
    data, bodies = mujoco.MjData(model), robot_bodies(model)
    mujoco.mj_fwdPosition(model, data)
    jacobians = np.zeros((len(bodies), 6, model.nv))
    for jacobian, body in zip(jacobians, bodies, strict=True):
        mujoco.mj_jacBodyCom(model, data, jacobian[:3], jacobian[3:], body)
    jacobians = jacobians[..., :num_dofs].copy()
    axes = data.ximat[bodies].reshape(-1, 3, 3)
    inertia = np.einsum("bij,bj,bkj->bik", axes, model.body_inertia[bodies], axes)
    per_body = np.einsum("b,bix,biy->bxy", model.body_mass[bodies], jacobians[:, :3], jacobians[:, :3])
    per_body += np.einsum("bix,bij,bjy->bxy", jacobians[:, 3:], inertia, jacobians[:, 3:])
    return _Terms(
        armature=np.diag(model.dof_armature[:num_dofs]),
        per_body=per_body,
        jacobians=jacobians,
        centres=data.xipos[bodies] - data.xpos[model.body("robot").id],
        averages=_averages(model, num_dofs),
        tendons=_tendons(model, data)[:, :num_dofs],
    )


def _tendons(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Jacobian of the tendons in the reference position, [T, nv]."""
    dense = np.zeros((model.ntendon, model.nv))
    if model.ntendon:
        mujoco.mju_sparse2dense(dense, data.ten_J, model.ten_J_rownnz, model.ten_J_rowadr, model.ten_J_colind)
    return dense


def _averages(model: mujoco.MjModel, num_dofs: int) -> np.ndarray:
    """Means over groups of directions that MuJoCo treats alike, [n, n]."""
    averages = np.eye(num_dofs)
    for joint in robot_joints(model):
        groups = {_JOINT.mjJNT_FREE: 2, _JOINT.mjJNT_BALL: 1}.get(_JOINT(model.jnt_type[joint]), 0)
        for group in range(groups):
            start = model.jnt_dofadr[joint] + 3 * group
            averages[start : start + 3, start : start + 3] = 1 / 3
    return averages


@functools.lru_cache(KEPT)
def _subtrees(scene: EngineScene) -> np.ndarray:
    """Which bodies lie in the subtree of each body, [nbody, nbody] of 0 and 1."""
    model = scene.model
    subtrees = np.eye(model.nbody)
    for body in range(model.nbody - 1, 0, -1):  # children come after parents
        subtrees[model.body_parentid[body]] += subtrees[body]
    return subtrees


@functools.lru_cache(KEPT)
def _source(scene: EngineScene) -> np.ndarray:
    """Index of each body's factor in (1, the robot's bodies, kinds that move), [nbody] int."""
    model = scene.model
    bodies = robot_bodies(model)
    source = np.zeros(model.nbody, int)
    source[bodies] = 1 + np.arange(len(bodies))
    for index, name in enumerate(scene.moving_kinds):
        for number in range(scene.objects[name].num):
            source[model.body(f"{name}{number}").id] = 1 + len(bodies) + index
    return source


def _mass_factors(scene: EngineScene, dynamics: Dynamics, xp: Any) -> Any:
    """Factors on the mass of each body, [..., nbody]. xp: numpy or jax.numpy."""
    kinds = [dynamics.objects[name][..., None] for name in scene.moving_kinds]
    factors = [xp.ones_like(dynamics.mass[..., :1]), dynamics.mass, *kinds]
    return xp.concatenate(factors, axis=-1)[..., _source(scene)]


def _damping_factors(model: mujoco.MjModel, dynamics: Dynamics, xp: Any) -> Any:
    """Factors on the damping of each degree of freedom, [..., nv]. xp: numpy or jax.numpy."""
    source, joints = np.zeros(model.nv, int), list(robot_joints(model))
    for dof, joint in enumerate(model.dof_jntid):
        source[dof] = 1 + joints.index(joint) if joint in joints else 0
    factors = [xp.ones_like(dynamics.mass[..., :1]), dynamics.damping]
    return xp.concatenate(factors, axis=-1)[..., source]
