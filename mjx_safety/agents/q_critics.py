"""Critics of actions: two of future reward and two of future costs, with target networks, for off-policy algorithms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mjx_safety.agents import optimize
from mjx_safety.agents.networks import Net, relu_net
from mjx_safety.agents.off_policy import Objective, OffPolicyConfig, Step
from mjx_safety.agents.types import Metrics, squared_error
from mjx_safety.types import Sizes


@struct.dataclass
class Critics:
    """The four networks. Observations are normalised [..., O], actions [..., A]."""

    q: tuple[Net, Net]  # future discounted reward
    cost_q: tuple[Net, Net]  # K future discounted costs

    def rewards(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Return [2, ...]."""
        both = jnp.concatenate([obs, action], axis=-1)
        return jnp.stack([net(both)[..., 0] for net in self.q])

    def costs(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Return [2, ..., K]."""
        both = jnp.concatenate([obs, action], axis=-1)
        return jnp.stack([net(both) for net in self.cost_q])


def init_critics(config: OffPolicyConfig, sizes: Sizes, num_costs: int, key: jax.Array) -> Critics:
    """Start the networks. num_costs: K."""
    num_inputs = sizes.obs_size + sizes.action_size
    keys = jax.random.split(key, 4)
    first, second, *of_cost = (
        relu_net(each, num_inputs, config.hidden_sizes, num_outputs)
        for each, num_outputs in zip(keys, (1, 1, num_costs, num_costs), strict=True)
    )
    return Critics(q=(first, second), cost_q=(of_cost[0], of_cost[1]))


def n_step_targets(
    objective: Objective, target_critics: Critics, batch: Step, next_action: jax.Array, next_bonus: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Targets of the critics for a batch [M, ...]: of reward [M] and of costs [M, K].

    next_bonus: [M] added to the value of the next action. The smaller of two reward critics and the mean of two cost
    critics count, because the larger of two cost critics runs away upwards. No cost target is below 0, because a policy
    finds actions that a critic wrongly rates below 0. Only a true end cuts the future off. After the time limit the
    value of `next_obs` counts. With `bootstrap_costs_at_ends` nothing cuts the future costs off.
    """
    next_q = jnp.min(target_critics.rewards(batch.next_obs, next_action), axis=0) + next_bonus
    next_cost_q = jnp.maximum(jnp.mean(target_critics.costs(batch.next_obs, next_action), axis=0), 0.0)
    goes_on = 1.0 - batch.terminated.astype(jnp.float32)
    costs_go_on = jnp.ones_like(goes_on) if objective.train_config.bootstrap_costs_at_ends else goes_on
    config = objective.train_config
    target = batch.reward + config.discount**batch.num_steps * goes_on * next_q
    cost_rest = (config.cost_discount**batch.num_steps * costs_go_on)[:, None] * next_cost_q
    return target, batch.costs + cost_rest


def fit_critics(
    config: OffPolicyConfig,
    critics: Critics,
    target_critics: Critics,
    opt_state: Any,
    batch: Step,
    targets: tuple[jax.Array, jax.Array],
) -> tuple[Critics, Critics, Any, Metrics]:
    """Take one least-squares step, or none if the gradient is not finite, then move the target critics.

    Returns critics, target critics, optimiser state, and metrics.
    """

    def loss_fn(critics: Critics) -> tuple[jax.Array, Metrics]:
        q, cost_q = critics.rewards(batch.obs, batch.action), critics.costs(batch.obs, batch.action)
        q_loss = squared_error(q, targets[0][None])
        cost_q_loss = squared_error(cost_q, targets[1][None])
        means = {"q_mean": jnp.mean(q), "cost_q_mean": jnp.mean(cost_q)}
        return q_loss + cost_q_loss, {"q_loss": q_loss, "cost_q_loss": cost_q_loss} | means

    descent = optimize.Descent(loss_fn, critic_optimizer(config))
    critics, opt_state, taken, metrics = optimize.step(descent, critics, opt_state)
    metrics = optimize.select(taken, metrics, jax.tree.map(jnp.zeros_like, metrics))
    target_critics = optimize.move_towards(target_critics, critics, config.tau)
    return critics, target_critics, opt_state, metrics | {"skipped_critic_share": 1.0 - taken.astype(jnp.float32)}


def critic_optimizer(config: OffPolicyConfig) -> optax.GradientTransformation:
    """The optimiser of all four networks."""
    return optax.adam(config.critic_learning_rate)


def action_value(critics: Critics, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What a policy maximises and what it pays: the smaller reward value [M], and the mean cost values [M, K]."""
    return jnp.min(critics.rewards(obs, action), axis=0), jnp.mean(critics.costs(obs, action), axis=0)
