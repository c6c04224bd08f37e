"""An exact line search for the constraint solver, in a few operations instead of ten rounds."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx
from mujoco.mjx._src import solver, support

from mjx_safety.sim.fixes.known import require_known

require_known()
FEW_ROWS, MANY_ROWS = 150, 600  # up to these numbers, reading all slopes at once is faster: on a CPU, on a GPU
_BRACKETING = solver._linesearch


def line_search(model: mjx.Model, data: mjx.Data, ctx: solver.Context) -> solver.Context:
    """Move `ctx.qacc` along `ctx.search` to the minimum of the solver's cost.

    Along a line the cost is convex. It is quadratic between the points where a constraint starts or stops acting. The
    slopes at all these points give the two points around the minimum. One division then gives the minimum itself. MJX
    3.17 searches for it in `ls_iterations` rounds, one after the other. On a GPU they take most of the time of a step.
    With friction loss or elliptic cones, which no robot here has, MJX's search stays in use.

    All slopes at once take work that grows with the square of the number of rows. Of many rows, a sorted search reads
    only some slopes, and finds the same points.
    """
    has_friction_loss = model._impl.dof_hasfrictionloss.any() or model._impl.tendon_hasfrictionloss.any()
    if has_friction_loss or model.opt.cone != mjx.ConeType.PYRAMIDAL:
        return _BRACKETING(model, data, ctx)
    moved_momentum = support.mul_m(model, data, ctx.search)
    slope_0 = jnp.dot(ctx.search, ctx.Ma - data.qfrc_smooth)  # of the Gauss term: slope_0 + alpha * bend_0
    bend_0 = jnp.dot(ctx.search, moved_momentum)
    rows = data._impl
    speed = rows.efc_J @ ctx.search  # change of each row's residual per unit of alpha
    weight = rows.efc_D * speed
    is_equality = jnp.arange(speed.size) < rows.ne

    turns = speed != 0.0
    crossing = jnp.where(turns, -ctx.Jaref / jnp.where(turns, speed, 1.0), 0.0)  # alpha at which a row's residual is 0
    is_ahead = turns & ~is_equality & (crossing > 0.0)

    def slope(alpha: jax.Array) -> jax.Array:
        residual = ctx.Jaref[:, None] + alpha * speed[:, None]  # [row, alpha]
        acting = jnp.where(is_equality[:, None], residual, jnp.minimum(residual, 0.0))
        return slope_0 + alpha * bend_0 + jnp.sum(weight[:, None] * acting, axis=0)

    low, high = _around_the_minimum(slope, crossing, is_ahead)
    between = jnp.where(speed < 0.0, crossing <= low, jnp.where(turns, crossing > low, ctx.Jaref < 0.0)) | is_equality
    fall = -slope_0 - jnp.sum(between * weight * ctx.Jaref)
    bend = bend_0 + jnp.sum(between * weight * speed)
    alpha = jnp.clip(fall / jnp.maximum(bend, mujoco.mjMINVAL), low, high)

    def cost(residual: jax.Array) -> jax.Array:
        acting = jnp.where(is_equality, residual, jnp.minimum(residual, 0.0))
        return 0.5 * jnp.sum(rows.efc_D * acting * acting)

    after = ctx.Jaref + alpha * speed
    change = alpha * (slope_0 + 0.5 * alpha * bend_0) + cost(after) - cost(ctx.Jaref)
    alpha = jnp.where(change < 0.0, alpha, 0.0)  # 0 if rounding decides
    return ctx.replace(
        qacc=ctx.qacc + alpha * ctx.search,
        Ma=ctx.Ma + alpha * moved_momentum,
        Jaref=ctx.Jaref + alpha * speed,
    )


Slope = Callable[[jax.Array], jax.Array]  # of a convex function, at some points


def _around_the_minimum(slope: Slope, points: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the last point [] at which the function falls, or 0, and the next one [], or infinity.

    points: [r], in any order; counts: [r] bool, which of them to look at, all of them positive.
    """
    if points.size <= FEW_ROWS:
        return _read_all(slope, points, counts)
    if points.size > MANY_ROWS:
        return _search_sorted(slope, points, counts)
    cpu, others = functools.partial(_search_sorted, slope), functools.partial(_read_all, slope)
    return jax.lax.platform_dependent(points, counts, cpu=cpu, default=others)


def _read_all(slope: Slope, points: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Read all slopes at once."""
    falls = slope(points) <= 0.0
    low = jnp.max(jnp.where(counts & falls, points, 0.0))
    return low, jnp.min(jnp.where(counts & ~falls & (points > low), points, jnp.inf))


def _search_sorted(slope: Slope, points: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Read the slopes at the ends of blocks of sorted points, then those within one block."""
    size = math.isqrt(points.size - 1) + 1  # of a block, and number of blocks
    ordered = jnp.sort(jnp.where(counts, points, jnp.inf))
    ordered = jnp.concatenate([ordered, jnp.full(size * (size + 1) - points.size, jnp.inf)])

    def num_falling(some: jax.Array) -> jax.Array:
        is_point = jnp.isfinite(some)
        return jnp.sum(is_point & (slope(jnp.where(is_point, some, 0.0)) <= 0.0))

    first = size * num_falling(ordered[size - 1 :: size])
    number = first + num_falling(jax.lax.dynamic_slice(ordered, (first,), (size,)))
    return jnp.where(number > 0, ordered[number - 1], 0.0), ordered[number]


@contextlib.contextmanager
def exact_line_search() -> Iterator[None]:
    """Use `line_search` only while MJX is traced."""
    solver._linesearch = line_search
    try:
        yield
    finally:
        solver._linesearch = _BRACKETING
