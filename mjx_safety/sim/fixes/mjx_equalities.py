"""The velocity term of connect and weld equalities, which MuJoCo 4 has and MJX 3.17 leaves out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from mujoco import mjx
from mujoco.mjx._src import constraint, math, smooth

from mjx_safety.sim.fixes.known import require_known

require_known()
_MAKE = constraint.make_constraint


def make_constraint(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """Build the constraint rows as MJX does, with the velocity term of those of connect and weld.

    The residual c of such a row bends along the motion. At a constant velocity v its second derivative is dJ/dt v. The
    solver holds J a at the reference, so the reference must not contain it. Welds to mocap bodies, which drive the
    gremlins, stay as MJX has them: their bodies do not turn.
    """
    data = _MAKE(model, data)
    if not _ties_bodies(model):
        return data
    motion = Motion.of(model, data)
    connects, welds = (np.flatnonzero(model.eq_type == kind).tolist() for kind in (mjx.EqType.CONNECT, mjx.EqType.WELD))
    bends = [motion.bend(model, data, row, is_weld=False) for row in connects]  # in MJX's order
    bends += [motion.bend(model, data, row, is_weld=True) for row in welds]
    bend = jnp.concatenate(bends)
    return data.tree_replace({"_impl.efc_aref": data._impl.efc_aref.at[: bend.size].add(-bend)})  # type: ignore[return-value]


@struct.dataclass
class Motion:
    """How the bodies move at a constant velocity of the joints: world frame, at the centre of mass of each tree."""

    origin: jax.Array  # [nbody, 3] m
    turn: jax.Array  # [nbody, 3] rad/s
    speed: jax.Array  # [nbody, 3] m/s
    turn_change: jax.Array  # [nbody, 3] rad/s^2
    speed_change: jax.Array  # [nbody, 3] m/s^2

    @classmethod
    def of(cls, model: mjx.Model, data: mjx.Data) -> Motion:
        """Read the motion from positions and velocities."""
        moving = smooth.com_vel(model, data)
        carries = np.eye(model.nbody, dtype=bool)  # [body, ancestor or itself]
        for body in range(1, model.nbody):
            carries[body] |= carries[model.body_parentid[body]]
        changes = jnp.asarray(carries[:, model.dof_bodyid], jnp.float32) @ (moving.cdof_dot * data.qvel[:, None])
        origin = data.subtree_com[model.body_rootid]
        return cls(origin, moving.cvel[:, :3], moving.cvel[:, 3:], changes[:, :3], changes[:, 3:])

    def point_change(self, body: int, pos: jax.Array) -> jax.Array:
        """Acceleration [3] m/s^2 of the point of a body at pos [3] m."""
        arm = pos - self.origin[body]
        speed = self.speed[body] + jnp.cross(self.turn[body], arm)
        along = self.speed_change[body] + jnp.cross(self.turn_change[body], arm)
        return along + jnp.cross(self.turn[body], speed)

    def bend(self, model: mjx.Model, data: mjx.Data, row: int, *, is_weld: bool) -> jax.Array:
        """Second derivative of the residual of an equality: [3] m/s^2, and for a weld three more of its rotation."""
        ids = int(model.eq_obj1id[row]), int(model.eq_obj2id[row])
        values = model.eq_data[row]
        anchors = (values[3:6], values[:3]) if is_weld else (values[:3], values[3:6])
        if model.eq_objtype[row] == mjx.ObjType.SITE:
            bodies = [int(model.site_bodyid[site]) for site in ids]
            points = [data.site_xpos[site] for site in ids]
            quats = [
                math.quat_mul(data.xquat[body], model.site_quat[site]) for body, site in zip(bodies, ids, strict=True)
            ]
        else:
            bodies = list(ids)
            points = [data.xmat[body] @ at + data.xpos[body] for body, at in zip(bodies, anchors, strict=True)]
            quats = [data.xquat[body] for body in bodies]
            quats[0] = math.quat_mul(quats[0], values[6:10]) if is_weld else quats[0]
        rows = self.point_change(bodies[0], points[0]) - self.point_change(bodies[1], points[1])
        if is_weld:
            rows = jnp.append(rows, values[10] * self._rotation_bend(bodies[0], bodies[1], quats[0], quats[1]))
        return rows * data.eq_active[row]

    def _rotation_bend(self, first: int, second: int, quat: jax.Array, other: jax.Array) -> jax.Array:
        """Second derivative [3] rad/s^2 of the imaginary part of conj(other) quat.

        Its first derivative is conj(other) (turn of the first - turn of the second) quat / 2.
        """
        turns = self.turn[first], self.turn[second]
        gap = turns[0] - turns[1]
        change = self.turn_change[first] - self.turn_change[second] + jnp.cross(*turns)
        inner = jnp.concatenate([-0.5 * jnp.dot(gap, gap)[None], change])
        return 0.5 * math.quat_mul(math.quat_mul(math.quat_inv(other), inner), quat)[1:]


def _ties_bodies(model: mjx.Model) -> bool:
    """Return whether a connect or weld equality holds two bodies together of which none is a mocap body."""
    if model.opt.disableflags & (mjx.DisableBit.CONSTRAINT | mjx.DisableBit.EQUALITY):
        return False
    ties = np.isin(model.eq_type, (mjx.EqType.CONNECT, mjx.EqType.WELD))
    of_sites = model.eq_objtype == mjx.ObjType.SITE
    drives = np.zeros(model.neq, bool)
    for ids in (model.eq_obj1id, model.eq_obj2id):
        drives |= ~of_sites & (np.take(model.body_mocapid, ids, mode="clip") >= 0)
    return bool(np.any(ties & ~drives))


@contextlib.contextmanager
def velocity_terms() -> Iterator[None]:
    """Use `make_constraint` only while MJX is traced."""
    constraint.make_constraint = make_constraint
    try:
        yield
    finally:
        constraint.make_constraint = _MAKE
