"""Fits value and cost value to their targets, in the same way for all on-policy algorithms."""

from __future__ import annotations

from typing import Any

import jax
import optax
from flax import struct

from mjx_safety.agents import optimize
from mjx_safety.agents.networks import make_networks
from mjx_safety.agents.quantile_critic import make_quantile_networks
from mjx_safety.agents.types import Batch, Constraint, Metrics, Networks, Params, TrainState, squared_error


@struct.dataclass
class ActorCriticConfig:
    """Shared settings of all on-policy algorithms: networks and critics."""

    hidden_sizes: tuple[int, ...] = struct.field(pytree_node=False, default=(64, 64))
    """Units per layer of each network."""
    num_minibatches: int = struct.field(pytree_node=False, default=16)
    """Gradient steps per pass over a batch."""
    num_critic_passes: int = struct.field(pytree_node=False, default=8)
    """Critic passes over a batch; the KL stop does not end them."""
    init_log_std: float = -0.5
    """Logarithm of the policy's initial standard deviation."""
    critic_learning_rate: float = 1e-3
    """Step size of Adam, value and cost values."""
    max_grad_norm: float = 1.0
    """Largest norm of each network's gradient."""


def make_actor_critic(
    config: ActorCriticConfig, constraint: Constraint
) -> tuple[Networks, optax.GradientTransformation]:
    """Build networks for all limited costs, and the critics' optimiser."""
    make = make_quantile_networks if constraint.risk_level else make_networks
    networks = make(config.hidden_sizes, config.init_log_std, constraint.num_costs)
    return networks, optimize.make_optimizer(config.critic_learning_rate, config.max_grad_norm)


def init_critic_optimizer(optimizer: optax.GradientTransformation, params: Params) -> dict[str, Any]:
    """Start the critics' half of an `OptState`."""
    return {"value": optimizer.init(params.value), "cost_values": optimizer.init(params.cost_values)}


def fit_critics(
    networks: Networks,
    optimizer: optax.GradientTransformation,
    config: ActorCriticConfig,
    state: TrainState,
    batch: Batch,
    key: jax.Array,
) -> tuple[TrainState, Metrics]:
    """Fit the critics. Each network has its own gradient clip and step sizes. No KL stop."""

    def loss_fn(params: Any, data: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, Metrics]:
        obs, target, cost_targets = data
        value_loss = squared_error(networks.value(params["value"], obs), target)
        cost_value_loss = networks.cost_loss(networks.cost_values(params["cost_values"], obs), cost_targets)
        return value_loss + cost_value_loss, {"value_loss": value_loss, "cost_value_loss": cost_value_loss}

    params, opt_state, metrics = optimize.fit(
        optimize.Descent(loss_fn, each(optimizer)),
        {"value": state.params.value, "cost_values": state.params.cost_values},
        {"value": state.opt_state.value, "cost_values": state.opt_state.cost_values},
        (batch.obs, batch.value_target, batch.cost_value_targets),
        key,
        optimize.Passes(config.num_critic_passes, config.num_minibatches),
    )
    metrics["skipped_critic_share"] = metrics.pop("skipped_share")
    return state.replace(params=state.params.replace(**params), opt_state=state.opt_state.replace(**opt_state)), metrics


def each(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Apply an optimiser to each entry of a dict of parameters separately."""

    def init(params: Any) -> Any:
        return {name: optimizer.init(entry) for name, entry in params.items()}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        pairs = {name: optimizer.update(updates[name], state[name], params[name]) for name in updates}
        return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}

    return optax.GradientTransformation(init, update)
