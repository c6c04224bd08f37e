"""The constraint solver of MJX in fewer operations: the same steps, without library calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from mujoco import mjx
from mujoco.mjx._src import math, smooth, solver, support

from mjx_safety.sim.fixes import small_systems
from mjx_safety.sim.fixes.known import require_known
from mjx_safety.sim.fixes.mjx_line_search import line_search

require_known()
NOISE, USUAL = 4.0, 8  # after the usual number of steps, gains of so many last bits of the cost are rounding
_SOLVE, _SOLVE_M = solver.solve, smooth.solve_m


@struct.dataclass
class Descent:
    """Where the search for the acceleration stands. r: rows of constraints."""

    qacc: jax.Array  # [nv]
    Ma: jax.Array  # [nv] M @ qacc
    Jaref: jax.Array  # [r] J @ qacc - aref
    search: jax.Array  # [nv] direction of the next step
    qfrc_constraint: jax.Array  # [nv]
    cost: jax.Array  # []
    wants_more: jax.Array  # [] bool


def newton(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """Find the acceleration that satisfies the constraints, as `mjx.solver.solve` does.

    MJX 3.17 evaluates both guesses and the better one again, and ends with a Hessian that no step follows. Here all
    guesses are evaluated together, and a Hessian is made where a step is taken. After `USUAL` steps, one whose gain is
    within rounding is the last: under `vmap` all worlds wait for the slowest, and one of thousands would follow noise.
    MJX's solver stays for elliptic cones, friction loss and the conjugate gradient method. No robot here has them.
    """
    has_friction_loss = model._impl.dof_hasfrictionloss.any() or model._impl.tendon_hasfrictionloss.any()
    is_plain = model.opt.cone == mjx.ConeType.PYRAMIDAL and model.opt.solver == mjx.SolverType.NEWTON
    if has_friction_loss or not is_plain or support.is_sparse(model):
        return _SOLVE(model, data)
    rows, tolerance = data._impl, model.opt.tolerance * solver._trace_m(model, data)
    noise = NOISE * jnp.finfo(data.qpos.dtype).eps
    is_equality = jnp.arange(rows.efc_D.size) < rows.ne

    def at(qacc: jax.Array, momentum: jax.Array, residual: jax.Array) -> Descent:
        acting = jnp.where(is_equality, residual, jnp.minimum(residual, 0.0))
        gauss = jnp.dot(momentum - data.qfrc_smooth, qacc - data.qacc_smooth)
        return Descent(
            qacc=qacc,
            Ma=momentum,
            Jaref=residual,
            search=jnp.zeros_like(qacc),
            qfrc_constraint=-((rows.efc_D * acting) @ rows.efc_J),
            cost=0.5 * (gauss + jnp.sum(rows.efc_D * acting * acting)),
            wants_more=jnp.array(True),
        )

    def gradient(now: Descent) -> jax.Array:
        return now.Ma - data.qfrc_smooth - now.qfrc_constraint

    def step(carry: tuple[Descent, jax.Array]) -> tuple[Descent, jax.Array]:
        now, index = carry
        acts = jnp.where((now.Jaref < 0.0) | is_equality, rows.efc_D, 0.0)
        hessian = rows.M + (rows.efc_J.T * acts) @ rows.efc_J
        search = -small_systems.solve(hessian, gradient(now))
        moved = line_search(model, data, now.replace(search=search))
        after = at(moved.qacc, moved.Ma, moved.Jaref)
        least = jnp.where(index < USUAL, tolerance, jnp.maximum(tolerance, noise * now.cost))
        gains = now.cost - after.cost >= least
        is_over = index + 1 >= model.opt.iterations
        return after.replace(wants_more=gains & (math.norm(gradient(after)) >= tolerance) & ~is_over), index + 1

    uses_warm_start = not model.opt.disableflags & mjx.DisableBit.WARMSTART
    guesses = jnp.stack([data.qacc_warmstart, data.qacc_smooth] if uses_warm_start else [data.qacc_smooth])
    tried = jax.vmap(at)(guesses, guesses @ rows.M, guesses @ rows.efc_J.T - rows.efc_aref)
    best = jax.tree.map(lambda leaf: leaf[-1], tried)
    if uses_warm_start:
        best = jax.tree.map(lambda leaf: jnp.where(tried.cost[0] < tried.cost[1], leaf[0], leaf[1]), tried)
    start = best.replace(wants_more=math.norm(gradient(best)) >= tolerance)
    if model.opt.iterations == 1:
        end, _ = step((start, jnp.int32(0)))
    else:
        end, _ = jax.lax.while_loop(lambda carry: carry[0].wants_more, step, (start, jnp.int32(0)))
    acts = (end.Jaref < 0.0) | is_equality
    fields = {"qfrc_constraint": end.qfrc_constraint, "qacc": end.qacc}
    found = data.tree_replace(fields | {"_impl.efc_force": -rows.efc_D * end.Jaref * acts})
    return cast(mjx.Data, found)


def solve_m(model: mjx.Model, data: mjx.Data, vector: jax.Array) -> jax.Array:
    """Solve M @ x = vector [nv], as `mjx.smooth.solve_m` does, which takes the factor of M that nothing else needs.

    Each kinematic tree has its own block of M, and blocks of one size are solved together.
    """
    if support.is_sparse(model):
        return _SOLVE_M(model, data, vector)
    trees = _trees(model)
    parts = []
    for size in sorted({size for _, size in trees}):
        starts = [start for start, own in trees if own == size]
        matrices = jnp.stack([data._impl.M[s : s + size, s : s + size] for s in starts])
        vectors = jnp.stack([vector[s : s + size] for s in starts])
        parts += zip(starts, jax.vmap(small_systems.solve)(matrices, vectors), strict=True)
    return jnp.concatenate([part for _, part in sorted(parts, key=lambda part: part[0])])


def _trees(model: mjx.Model) -> list[tuple[int, int]]:
    """First degree of freedom, and their number, of each kinematic tree."""
    roots = np.asarray(model.body_rootid)[np.asarray(model.dof_bodyid)]
    starts = np.flatnonzero(np.append(True, roots[1:] != roots[:-1]))
    return list(zip(starts.tolist(), np.diff(np.append(starts, len(roots))).tolist(), strict=True))


@contextlib.contextmanager
def own_solver() -> Iterator[None]:
    """Use `newton` and `solve_m` while MJX is being traced, and no longer."""
    solver.solve, smooth.solve_m = newton, solve_m
    try:
        yield
    finally:
        solver.solve, smooth.solve_m = _SOLVE, _SOLVE_M
