"""Estimates of a new policy's gain on the old policy's samples. All are 0 for the old policy itself.

Ratios (new density / old density) and reward advantages [M] give []; cost advantages [M, K], one column for each
limited cost, give [K].
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def surrogate(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
    """Gain in reward by importance weights, E[(ratio - 1) * A]."""
    return jnp.mean((ratio - 1.0) * advantage)


def cost_surrogates(ratio: jax.Array, cost_advantages: jax.Array) -> jax.Array:
    """The same for every limited cost, [M, K] to [K]: an unbiased prediction of its change per step."""
    return (ratio - 1.0) @ cost_advantages / ratio.shape[0]


def clipped_surrogate(ratio: jax.Array, advantage: jax.Array, clip_eps: jax.Array | float) -> jax.Array:
    """Pessimistic gain in reward (PPO, arXiv 1707.06347): the smaller of the plain and the clipped term."""
    change = ratio - 1.0
    clipped = jnp.clip(change, -clip_eps, clip_eps)
    return jnp.mean(jnp.minimum(change * advantage, clipped * advantage))


def clipped_cost_surrogates(ratio: jax.Array, cost_advantages: jax.Array, clip_eps: jax.Array | float) -> jax.Array:
    """Pessimistic gain in cost (arXiv 2007.03964): the larger of the plain and the clipped term, [M, K] to [K].

    Its gradient guides a step, as in PPO. It is no prediction: its mean rises with the distance from the old policy.
    """
    change = (ratio - 1.0)[:, None]
    clipped = jnp.clip(change, -clip_eps, clip_eps)
    return jnp.mean(jnp.maximum(change * cost_advantages, clipped * cost_advantages), axis=0)


def clipped_share(ratio: jax.Array, clip_eps: jax.Array | float) -> jax.Array:
    """Share of samples whose ratio lies outside the clip range (1)."""
    return jnp.mean((jnp.abs(ratio - 1.0) > clip_eps).astype(jnp.float32))
