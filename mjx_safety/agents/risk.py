"""Limits on the CVaR of an episode's cost: the mean of its worst share 1 - risk_level, instead of the mean of all.

`limit_cvar(lagrangian(25.0), 0.9)` holds the mean cost of the worst tenth of the episodes to 25. The estimate is the
CVaR of the newest `MEMORY` whole episodes. It acts once the worst share holds at least one of them.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from mjx_safety.agents.types import Constraint, RecentCosts

MEMORY = 128  # episodes whose costs are kept
MAX_LEVEL = 0.99  # highest level: above, the worst share of so many episodes is no more than one


def limit_cvar(constraint: Constraint, risk_level: float) -> Constraint:
    """Hold the CVaR of an episode's cost to the limits, for on-policy algorithms. risk_level: static; 0: the mean.

    Raises ValueError for a level outside of [0, 0.99].
    """
    if not 0.0 <= risk_level <= MAX_LEVEL:
        raise ValueError(f"risk_level is {risk_level}; it must lie between 0 and {MAX_LEVEL}")
    return constraint._replace(risk_level=risk_level)


def cvar(values: jax.Array, risk_level: float, num: jax.Array | None = None) -> jax.Array:
    """Mean of the worst (largest) share 1 - risk_level of values [..., N], as [...]. A share may cut a value in two.

    num: [] the first so many values count; None: all. 0 of them give 0, and a share of less than one gives the largest.
    """
    size = values.shape[-1]
    number = jnp.float32(size) if num is None else num.astype(jnp.float32)
    rank = jnp.arange(size, dtype=jnp.float32)
    worst_first = -jnp.sort(-jnp.where(rank < number, values, -jnp.inf), axis=-1)
    share = (1.0 - risk_level) * number
    weights = jnp.clip(share - rank, 0.0, 1.0)
    total = jnp.sum(jnp.where(weights > 0.0, weights * worst_first, 0.0), axis=-1)
    return total / jnp.maximum(share, jnp.finfo(jnp.float32).tiny)


def init(num_costs: int) -> RecentCosts:
    """Start without an episode. num_costs: K."""
    return RecentCosts(jnp.zeros((MEMORY, num_costs)), jnp.int32(0))


def remember(recent: RecentCosts, ended: jax.Array, costs: jax.Array) -> RecentCosts:
    """Add the whole episodes that ended in a rollout. ended: [T, B] bool; costs: [T, B, K] of the episode so far.

    Of more than `MEMORY` episodes the newest stay. Costs that are not finite are left out.
    """
    # All steps of the rollout, newest first, stand before the memory. `there` marks those that are whole episodes, and
    # `kept` are the places of the first MEMORY marks. Places that are not filled (-1) lie beyond `num` and never count.
    newest = costs.reshape(-1, costs.shape[-1])[::-1]
    added = ended.reshape(-1)[::-1] & jnp.all(jnp.isfinite(newest), axis=-1)
    there = jnp.concatenate([added, jnp.arange(MEMORY) < recent.num])
    (kept,) = jnp.nonzero(there, size=MEMORY, fill_value=-1)
    num = jnp.minimum(jnp.sum(there, dtype=jnp.int32), MEMORY)
    return RecentCosts(jnp.concatenate([newest, recent.costs])[kept], num)


def estimate(recent: RecentCosts, risk_level: float) -> jax.Array:
    """CVaR of the K costs of the newest episodes, [K]; 0 without an episode."""
    return cvar(recent.costs.T, risk_level, recent.num)


def is_known(recent: RecentCosts, risk_level: float) -> jax.Array:
    """Return whether the worst share holds at least one episode, [] bool."""
    return recent.num >= math.ceil(1.0 / (1.0 - risk_level) - 1e-6)
