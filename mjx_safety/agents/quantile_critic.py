"""Cost critic of quantiles, and cost advantages by their CVaR.

After WCSAC (Yang et al. 2021) and QR-DQN (arXiv 1710.10044).

Each cost value is N quantiles, at the levels (i + 1/2) / N, of the discounted cost Z(s) that follows an observation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mjx_safety.agents import risk
from mjx_safety.agents.networks import make_networks
from mjx_safety.agents.types import Networks, TrainConfig, Trajectory

NUM_QUANTILES = 32  # N


def make_quantile_networks(hidden_sizes: Sequence[int], init_log_std: float | jax.Array, num_costs: int) -> Networks:
    """Bundle the networks of `make_networks`, with cost values [..., K, N]."""
    networks = make_networks(hidden_sizes, init_log_std, num_costs * NUM_QUANTILES)

    def cost_values(params: object, obs: jax.Array) -> jax.Array:
        output = networks.cost_values(params, obs)
        return output.reshape(*output.shape[:-1], num_costs, NUM_QUANTILES)

    return networks._replace(cost_values=cost_values, cost_loss=quantile_loss)


def quantile_loss(quantiles: jax.Array, targets: jax.Array) -> jax.Array:
    """Loss [] that is least at the true quantiles. quantiles, targets: [M, K, N]; each target counts for each quantile.

    There is no Huber part, which would draw the quantiles towards the mean.
    """
    size = quantiles.shape[-1]
    levels = (jnp.arange(size) + 0.5) / size
    error = targets[..., None, :] - quantiles[..., :, None]
    return jnp.mean(error * (levels[:, None] - (error < 0.0)))


def advantages(
    trajectory: Trajectory, config: TrainConfig, risk_level: float, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Advantages [T, B, K] of the CVaR of cost, and targets [T, B, K, N] of the quantiles.

    Let v be the risk_level quantile of Z(s), and y the cost from here on. The advantage is
    v + E[max(0, y - v)] / (1 - risk_level) - CVaR(Z(s)). Its mean over y ~ Z(s) is 0 (Rockafellar and Uryasev 2000).
    So only what is worse than the quantile counts, 1 / (1 - risk_level) times.
    """
    t = trajectory
    targets = sample_targets(t, config, key)
    size = t.cost_values.shape[-1]
    index = max(math.ceil(risk_level * size - 1e-6) - 1, 0)
    quantile = jnp.sort(t.cost_values, axis=-1)[..., index]
    excess = jnp.mean(jnp.maximum(targets - quantile[..., None], 0.0), axis=-1)
    return quantile + excess / (1.0 - risk_level) - risk.cvar(t.cost_values, risk_level), targets


def sample_targets(trajectory: Trajectory, config: TrainConfig, key: jax.Array) -> jax.Array:
    """N samples [T, B, K, N] of the discounted cost that follows each step.

    Each sample follows the trajectory on with probability `cost_gae_lambda` per step, up to its end, and then goes on
    with a quantile of the critic. Its mean is the target of generalised advantage estimation.
    """
    t = trajectory
    ends = (t.terminated | t.truncated).at[-1].set(True)[..., None, None]
    bootstrap = jnp.where(t.terminated[..., None, None], 0.0, t.next_cost_values)
    goes_on = ~ends & jax.random.bernoulli(key, config.cost_gae_lambda, bootstrap.shape)

    def accumulate(future: jax.Array, step: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        cost, rest, goes_on = step
        target = cost[..., None] + config.cost_discount * jnp.where(goes_on, future, rest)
        return target, target

    _, targets = jax.lax.scan(accumulate, jnp.zeros_like(bootstrap[0]), (t.costs, bootstrap, goes_on), reverse=True)
    return targets
