"""Fitting value and cost value to their targets, the same in every on-policy algorithm."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from mjx_safety.agents import optimize
from mjx_safety.agents.types import Batch, Metrics, Networks, TrainState


def fit_critics(
    networks: Networks,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    passes: optimize.Passes,
) -> tuple[TrainState, Metrics]:
    """Least squares on the batch, each network with its own gradient clip and step sizes. Never stopped by KL."""

    def loss_fn(params: Any, data: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, Metrics]:
        obs, target, cost_target = data
        value_loss = jnp.mean(jnp.square(networks.value(params["value"], obs) - target))
        cost_value_loss = jnp.mean(jnp.square(networks.value(params["cost_value"], obs) - cost_target))
        return value_loss + cost_value_loss, {"value_loss": value_loss, "cost_value_loss": cost_value_loss}

    params, opt_state, metrics = optimize.fit(
        optimize.Descent(loss_fn, each(optimizer)),
        {"value": state.params.value, "cost_value": state.params.cost_value},
        {"value": state.opt_state.value, "cost_value": state.opt_state.cost_value},
        (batch.obs, batch.value_target, batch.cost_value_target),
        key,
        passes,
    )
    return state.replace(params=state.params.replace(**params), opt_state=state.opt_state.replace(**opt_state)), metrics


def each(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Apply an optimiser to every entry of a dict of parameters on its own."""

    def init(params: Any) -> Any:
        return {name: optimizer.init(entry) for name, entry in params.items()}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        pairs = {name: optimizer.update(updates[name], state[name], params[name]) for name in updates}
        return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}

    return optax.GradientTransformation(init, update)
