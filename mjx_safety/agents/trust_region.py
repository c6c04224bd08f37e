"""Steps inside a KL ball: natural gradients, the solutions of CPO and PCPO under a linear limit, line search.

Everything is in minimisation convention on flat vectors [P]. g is the gradient of minus the reward surrogate, b the
gradient of the cost surrogate, and c the present violation in units of the cost surrogate (per step). A step is
x = -direction. H is the Fisher matrix plus damping. The KL of a step is x.H.x / 2 <= delta.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.agents.types import Gaussian

Product = Callable[[jax.Array], jax.Array]  # v [P] -> H v [P]
TINY = 1e-30  # avoids division by zero; smaller than any relevant product
NO_COST_GRADIENT = 1e-8  # of b.(H^-1 b); below it the step cannot change the cost
CONVERGED = 1e-12  # of the squared residual relative to the first; the limit of float32


@struct.dataclass
class CPOInfo:
    """Numbers behind CPO's direction. All scalars []."""

    case: jax.Array  # int32, 0 ... 4 as in `solve_cpo_dual`
    multiplier: jax.Array  # of the KL ball
    nu: jax.Array  # of the limit
    q: jax.Array  # g.(H^-1 g)
    r: jax.Array  # g.(H^-1 b)
    s: jax.Array  # b.(H^-1 b)


def conjugate_gradient(fvp: Product, b: jax.Array, num_iterations: int) -> jax.Array:
    """Solve H x = b [P] approximately from 0, by up to `num_iterations` products, fewer at the limit of float32."""
    scale = jnp.linalg.norm(b)
    start = b / jnp.maximum(scale, TINY)
    squared = start @ start

    def iterate(_: int, carry: tuple) -> tuple:
        x, residual, p, squared = carry
        z = fvp(p)
        step = jnp.where(squared > CONVERGED, squared / jnp.maximum(p @ z, TINY), 0.0)
        x, residual = x + step * p, residual - step * z
        new = residual @ residual
        more = squared > CONVERGED
        p = jnp.where(more, residual + new / jnp.maximum(squared, TINY) * p, p)
        return x, residual, p, jnp.where(more, new, squared)

    x = jax.lax.fori_loop(0, num_iterations, iterate, (jnp.zeros_like(b), start, start, squared))[0]
    return scale * x


def fisher_vector_product(
    policy_fn: Callable[[jax.Array], Gaussian], theta: jax.Array, v: jax.Array, damping: jax.Array | float
) -> jax.Array:
    """(F + damping I) v [P], F the Fisher matrix of a diagonal Gaussian policy, mean over its M samples.

    In Gauss-Newton form, F v = mean_m J^T W J v with J of (mean, log_std) and W = (1 / std^2, 2): one forward and one
    backward product, never negative. It is the Hessian of the KL at theta. policy_fn: theta [P] -> [M, A].
    """
    dist, tangent = jax.jvp(policy_fn, (theta,), (v,))
    num_samples = dist.mean.shape[0]
    weighted = Gaussian(
        mean=tangent.mean * jnp.exp(-2.0 * dist.log_std) / num_samples, log_std=2.0 * tangent.log_std / num_samples
    )
    return jax.vjp(policy_fn, theta)[1](weighted)[0] + damping * v


def natural_step(v: jax.Array, fvp: Product, delta: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """Scale v = H^-1 g to the edge of the KL ball. Returns the direction [P] and v.H.v []."""
    q = jnp.maximum(v @ fvp(v), 0.0)
    return jnp.sqrt(2.0 * delta / jnp.maximum(q, TINY)) * v, q


def solve_cpo_dual(
    q: jax.Array, r: jax.Array, s: jax.Array, c: jax.Array, delta: jax.Array | float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Solve min g.x subject to c + b.x <= 0 and x.H.x / 2 <= delta (CPO, arXiv 1705.10528) for its multipliers.

    q = g.(H^-1 g), r = g.(H^-1 b), s = b.(H^-1 b), all []. Returns (multiplier of the KL ball, nu of the limit, case):
    4: the cost is under the limit and has no gradient. 3: no step in the ball breaks the limit. 2: some steps break it.
    1: the limit is broken and some steps restore it. 0: none does, so lower the cost as far as the ball allows.
    """
    q, r, s, c, delta = (jnp.asarray(value, jnp.float32) for value in (q, r, s, c, delta))
    s_safe = jnp.maximum(s, TINY)
    reward_left = jnp.maximum(q - r * r / s_safe, 0.0)  # the paper's A: g.(H^-1 g) of the part of g across b
    ball_left = 2.0 * delta - c * c / s_safe  # the paper's B: >= 0 where the edge of the limit cuts the ball
    feasible, cut = c < 0.0, ball_left >= 0.0
    case = jnp.where(feasible, jnp.where(s <= NO_COST_GRADIENT, 4, jnp.where(cut, 2, 3)), jnp.where(cut, 1, 0))

    # Without nu, the dual is a function of the multiplier m of the ball alone, in two pieces that meet at m = r / c:
    #   where the limit binds, m * c > r:  -(A / m + B * m) / 2 - r * c / s, highest at m = sqrt(A / B)
    #   where it does not:                 -(q / m + 2 * delta * m) / 2, highest at m = sqrt(q / (2 * delta))
    # Each maximum is moved to its own piece of m >= 0. The higher one is the solution.
    meet = r / jnp.where(jnp.abs(c) > TINY, c, TINY)
    edge = jnp.maximum(meet, 0.0)
    binding = jnp.sqrt(reward_left / jnp.maximum(ball_left, TINY))
    binding = jnp.where(feasible, jnp.minimum(binding, edge), jnp.maximum(binding, edge))
    natural = jnp.sqrt(q / (2.0 * delta))  # the multiplier of a step without a limit
    free = jnp.where(feasible, jnp.maximum(natural, edge), jnp.minimum(natural, edge))
    binding_value = -0.5 * (reward_left / jnp.maximum(binding, TINY) + ball_left * binding) - r * c / s_safe
    free_value = -0.5 * (q / jnp.maximum(free, TINY) + 2.0 * delta * free)
    is_one_piece = meet < 0.0  # of m >= 0: the other piece is empty
    binding_value = jnp.where(feasible & is_one_piece, -jnp.inf, binding_value)
    free_value = jnp.where(~feasible & is_one_piece, -jnp.inf, free_value)
    multiplier = jnp.where(binding_value >= free_value, binding, free)
    nu = jnp.maximum(0.0, multiplier * c - r) / s_safe

    solved = (case == 1) | (case == 2)
    recovery = jnp.sqrt(2.0 * delta / s_safe)
    multiplier = jnp.where(solved, multiplier, jnp.where(case == 0, 0.0, natural))
    return multiplier, jnp.where(solved, nu, jnp.where(case == 0, recovery, 0.0)), case.astype(jnp.int32)


def cpo_direction(
    fvp: Product, g: jax.Array, b: jax.Array, c: jax.Array, delta: jax.Array | float, num_iterations: int
) -> tuple[jax.Array, CPOInfo]:
    """CPO's direction [P] to subtract, and the numbers behind it. c []: < 0 under the limit, in units of b.x.

    q, r and s come from the same products H v and H w, so they obey Cauchy-Schwarz for inexact v and w too.
    """
    v, w = conjugate_gradient(fvp, g, num_iterations), conjugate_gradient(fvp, b, num_iterations)
    hv, hw = fvp(v), fvp(w)
    q, r, s = jnp.maximum(v @ hv, 0.0), w @ hv, jnp.maximum(w @ hw, 0.0)
    multiplier, nu, case = solve_cpo_dual(q, r, s, c, delta)
    # Where the limit binds, the solution (v + nu w) / multiplier is 0 / 0 if g is parallel to b. The same step in two
    # parts is safe: c / s w goes straight to the edge of the limit, and `across` goes along it by the KL that is left.
    s_safe, multiplier_safe = jnp.maximum(s, TINY), jnp.maximum(multiplier, TINY)
    across = v - r / s_safe * w
    across = across - (across @ hw) / s_safe * w  # again, to remove rounding if g is nearly parallel to b
    kl_left = jnp.maximum(2.0 * delta - c * c / s_safe, 0.0)
    scale = jnp.sqrt(kl_left / jnp.maximum(across @ fvp(across), TINY))
    at_the_limit = c / s_safe * w + scale * across
    binds = (nu > 0.0) | ((case == 1) & (multiplier <= TINY))
    direction = jnp.where(case == 0, nu * w, jnp.where(binds, at_the_limit, v / multiplier_safe))
    return direction, CPOInfo(case, multiplier, nu, q, r, s)


def pcpo_direction(
    fvp: Product, g: jax.Array, b: jax.Array, c: jax.Array, delta: jax.Array | float, num_iterations: int
) -> jax.Array:
    """PCPO's direction [P] to subtract: a full natural step, then a KL projection under the limit.

    (arXiv 2010.03152). The result may lie outside the KL ball, so a line search must follow.
    """
    v, w = conjugate_gradient(fvp, g, num_iterations), conjugate_gradient(fvp, b, num_iterations)
    step, _ = natural_step(v, fvp, delta)
    hw = fvp(w)
    excess = jnp.maximum(0.0, c - step @ hw)
    return step + excess / jnp.maximum(w @ hw, TINY) * w


def predict_violation(b: jax.Array, c: jax.Array, direction: jax.Array) -> jax.Array:
    """Violation [] after a step by its linear model, or 0 while no limit acts, which is where c is minus infinity."""
    return jnp.where(jnp.isfinite(c), c - b @ direction, 0.0)


def line_search(
    theta: jax.Array,
    direction: jax.Array,
    accept_fn: Callable[[jax.Array], tuple[jax.Array, Any]],
    num_backtracks: int,
    factor: jax.Array | float,
) -> tuple[jax.Array, jax.Array, Any]:
    """Try theta - factor^j * direction for j = 0, 1, ... and take the first accepted point, else keep theta.

    accept_fn: theta [P] -> ([] bool, scalars to report). Returns theta, the share of the step taken [] (0 if none is
    accepted), and the scalars of the last try.
    """

    def searching(carry: tuple) -> jax.Array:
        index, accepted, _, _ = carry
        return (index < num_backtracks) & ~accepted

    def attempt(carry: tuple) -> tuple:
        index, _, _, _ = carry
        share = jnp.power(jnp.asarray(factor, jnp.float32), index)
        accepted, reported = accept_fn(theta - share * direction)
        return index + 1, accepted, share, reported

    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(accept_fn, theta)[1])
    start = (jnp.int32(0), jnp.bool_(False), jnp.float32(0.0), nothing)
    _, accepted, share, reported = jax.lax.while_loop(searching, attempt, start)
    share = jnp.where(accepted, share, 0.0)
    return jnp.where(accepted, theta - share * direction, theta), share, reported
