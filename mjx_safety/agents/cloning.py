"""Behaviour cloning: a policy that imitates recorded steps, the baseline of offline learning."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mjx_safety.agents import running_stats
from mjx_safety.agents.networks import MAX_LOG_STD, MIN_LOG_STD, make_networks
from mjx_safety.agents.types import Actor


@struct.dataclass
class CloningConfig:
    """Settings of behaviour cloning."""

    hidden_sizes: tuple[int, ...] = struct.field(pytree_node=False, default=(64, 64))
    """Units per layer."""
    num_updates: int = struct.field(pytree_node=False, default=20_000)
    """Gradient steps."""
    batch_size: int = struct.field(pytree_node=False, default=512)
    """Recorded steps per gradient step."""
    learning_rate: float = 1e-3
    """Step size of Adam at the start; it falls to 0 along a cosine."""


def clone(config: CloningConfig, obs: jax.Array, action: jax.Array, key: jax.Array) -> tuple[Actor, jax.Array]:
    """Fit the mean action to recorded actions by least squares, and the spread to what is left.

    obs: [M, O] raw; action: [M, A] in [-1, 1]. Returns the policy, and the mean squared error [num_updates] of each
    batch. Pure.
    """
    networks = make_networks(config.hidden_sizes)
    init_key, batch_key = jax.random.split(key)
    normaliser = running_stats.merge(running_stats.init(obs.shape[-1]), obs)
    params = networks.init(init_key, obs.shape[-1], action.shape[-1]).policy
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_updates))

    def errors(params: dict, index: jax.Array) -> jax.Array:
        mean = networks.policy(params, running_stats.normalise(normaliser, obs[index])).mean
        return jnp.square(mean - action[index])

    def update(carry: tuple, step: jax.Array) -> tuple[tuple, jax.Array]:
        params, opt_state = carry
        key = jax.random.fold_in(batch_key, step)
        index = jax.random.randint(key, (config.batch_size,), 0, obs.shape[0])
        loss, gradient = jax.value_and_grad(lambda params: jnp.mean(errors(params, index)))(params)
        change, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, change), opt_state), loss

    (params, _), losses = jax.lax.scan(update, (params, optimizer.init(params)), jnp.arange(config.num_updates))
    left = jnp.sqrt(jnp.mean(errors(params, jnp.arange(min(obs.shape[0], 100_000))), axis=0))
    log_std = jnp.clip(jnp.log(jnp.maximum(left, jnp.exp(MIN_LOG_STD))), MIN_LOG_STD, MAX_LOG_STD)
    return networks.actor(params | {"log_std": log_std}, normaliser), losses
