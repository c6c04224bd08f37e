"""Estimates of how much a new policy gains on the old one's samples.

Ratios and reward advantages [M] give []; cost advantages [M, K], one column for each limited cost, give [K].
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def surrogate(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
    """Importance-weighted advantage E[ratio * A]; ratio = new density / old density."""
    return jnp.mean(ratio * advantage)


def cost_surrogates(ratio: jax.Array, cost_advantages: jax.Array) -> jax.Array:
    """The same for every limited cost, [M, K] to [K]."""
    return ratio @ cost_advantages / ratio.shape[0]


def clipped_surrogate(ratio: jax.Array, advantage: jax.Array, clip_eps: jax.Array | float) -> jax.Array:
    """Pessimistic gain in reward (PPO, arXiv 1707.06347): the smaller of the plain and the clipped term."""
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))


def clipped_cost_surrogates(ratio: jax.Array, cost_advantages: jax.Array, clip_eps: jax.Array | float) -> jax.Array:
    """Pessimistic gain in cost (arXiv 2007.03964): the larger of the plain and the clipped term, [M, K] to [K]."""
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return jnp.mean(jnp.maximum(ratio[:, None] * cost_advantages, clipped[:, None] * cost_advantages), axis=0)


def may_exceed(violations: jax.Array, cost_advantages: jax.Array, clip_eps: jax.Array | float) -> jax.Array:
    """Whether a clipped step may push any cost [K] over its limit, as far as it can move that cost at all, [] bool."""
    return jnp.any(violations + clip_eps * jnp.mean(jnp.abs(cost_advantages), axis=0) > 0.0)


def clipped_share(ratio: jax.Array, clip_eps: jax.Array | float) -> jax.Array:
    """Share of samples whose ratio lies outside the clip range (1)."""
    return jnp.mean((jnp.abs(ratio - 1.0) > clip_eps).astype(jnp.float32))
