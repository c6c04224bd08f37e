"""The diagonal Gaussian policy without squashing. The environment clips actions. Sums run over the A actions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mjx_safety.agents.types import Gaussian

LOG_TWO_PI = 1.8378770664093453


def bound_log_std(raw: jax.Array, low: float, high: float) -> jax.Array:
    """Clip log standard deviations [...] to [low, high], with the gradient of the identity.

    The gradient of a clip is 0 outside its range, so a parameter outside would never come back.
    """
    return raw + jax.lax.stop_gradient(jnp.clip(raw, low, high) - raw)


def sample(dist: Gaussian, noise: jax.Array) -> jax.Array:
    """Turn standard normal noise [..., A] into actions [..., A]."""
    return dist.mean + jnp.exp(dist.log_std) * noise


def log_prob(dist: Gaussian, action: jax.Array) -> jax.Array:
    """Log density. action: [..., A]. Returns [...]."""
    scaled = (action - dist.mean) * jnp.exp(-dist.log_std)
    return -jnp.sum(0.5 * jnp.square(scaled) + dist.log_std + 0.5 * LOG_TWO_PI, axis=-1)


def entropy(dist: Gaussian) -> jax.Array:
    """Differential entropy [...] (nats)."""
    return jnp.sum(dist.log_std + 0.5 * (1.0 + LOG_TWO_PI), axis=-1)


def kl(old: Gaussian, new: Gaussian) -> jax.Array:
    """KL(old || new) [...] (nats)."""
    scaled = (old.mean - new.mean) * jnp.exp(-new.log_std)
    log_ratio = old.log_std - new.log_std
    return jnp.sum(0.5 * (jnp.exp(2.0 * log_ratio) + jnp.square(scaled) - 1.0) - log_ratio, axis=-1)
