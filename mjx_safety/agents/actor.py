"""The acting half of any algorithm as plain arrays, so that a policy leaves its training behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mjx_safety.agents import running_stats
from mjx_safety.agents.types import Actor, RunningStats
from mjx_safety.core.precision import single_precision

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}
SQUASHES: dict[str, Callable[[jax.Array], jax.Array]] = {"clip": lambda x: jnp.clip(x, -1.0, 1.0), "tanh": jnp.tanh}


@single_precision
def act(actor: Actor, obs: jax.Array, noise: jax.Array | None = None) -> jax.Array:
    """Return actions [..., A] in [-1, 1] for raw observations [..., O]: the mean, or a sample.

    noise: [..., A] standard normal, or None for the mean.
    """
    x = normalise(actor, obs)
    for weight, bias in zip(actor.weights[:-1], actor.biases[:-1], strict=True):
        x = ACTIVATIONS[actor.activation](x @ weight + bias)
    mean, log_std = x @ actor.weights[-1] + actor.biases[-1], actor.log_std
    if log_std is None:
        mean, log_std = jnp.split(mean, 2, axis=-1)
    else:
        log_std = jnp.broadcast_to(log_std, mean.shape)
    if noise is not None:
        mean = mean + jnp.exp(jnp.clip(log_std, *actor.log_std_range)) * noise
    return SQUASHES[actor.squash](mean)


def normalise(actor: Actor, obs: jax.Array) -> jax.Array:
    """What the network sees of raw observations [..., O]."""
    mean, std = (jnp.broadcast_to(moment, obs.shape) for moment in (actor.obs_mean, actor.obs_std))
    return jnp.clip((obs - mean) / std, -actor.obs_clip, actor.obs_clip)


def make_actor(
    normaliser: RunningStats, network: Mapping[str, Any], log_std: jax.Array | None, **choices: Any
) -> Actor:
    """Build an actor from the parameters of a flax network of dense layers, which come in the order of their names.

    log_std: [A], or None if the network has 2A outputs; choices: the static fields of `Actor`.
    """
    hidden = [f"Dense_{i}" for i in range(len(network)) if f"Dense_{i}" in network]
    names = [*hidden, *(name for name in network if name not in hidden)]
    return Actor(
        obs_mean=normaliser.mean,
        obs_std=running_stats.std(normaliser),
        weights=tuple(network[name]["kernel"] for name in names),
        biases=tuple(network[name]["bias"] for name in names),
        log_std=log_std,
        obs_clip=running_stats.CLIP,
        **choices,
    )
