"""Networks: three separate tanh MLPs for on-policy algorithms, and ReLU MLPs that know their shape for the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from mjx_safety.agents import distributions
from mjx_safety.agents.actor import make_actor
from mjx_safety.agents.types import Actor, Gaussian, Networks, Params, RunningStats

MIN_LOG_STD, MAX_LOG_STD = -5.0, 1.0


class MLP(nn.Module):
    """Tanh layers and a linear layer, with orthogonal weights and zero biases."""

    hidden_sizes: Sequence[int]
    output_size: int
    output_gain: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., inputs]. Returns [..., output_size]."""
        for size in self.hidden_sizes:
            x = nn.tanh(nn.Dense(size, kernel_init=nn.initializers.orthogonal(math.sqrt(2.0)))(x))
        return nn.Dense(self.output_size, kernel_init=nn.initializers.orthogonal(self.output_gain))(x)


def make_networks(hidden_sizes: Sequence[int], init_log_std: float | jax.Array = -0.5, num_costs: int = 1) -> Networks:
    """Bundle the three networks. The policy's standard deviation is a parameter, independent of obs."""
    critic = MLP(hidden_sizes, output_size=1, output_gain=1.0)
    cost_critic = MLP(hidden_sizes, output_size=num_costs, output_gain=1.0)

    def init(key: jax.Array, obs_size: int, action_size: int) -> Params:
        policy_key, value_key, cost_value_key = jax.random.split(key, 3)
        obs = jnp.zeros(obs_size)
        actor = MLP(hidden_sizes, output_size=action_size, output_gain=0.01)
        return Params(
            policy={"mean": actor.init(policy_key, obs), "log_std": jnp.full(action_size, init_log_std, jnp.float32)},
            value=critic.init(value_key, obs),
            cost_values=cost_critic.init(cost_value_key, obs),
        )

    def policy(params: Any, obs: jax.Array) -> Gaussian:
        raw = params["log_std"]
        log_std = distributions.bound_log_std(raw, MIN_LOG_STD, MAX_LOG_STD)
        mean: Any = MLP(hidden_sizes, output_size=raw.shape[0], output_gain=0.01).apply(params["mean"], obs)
        return Gaussian(mean, jnp.broadcast_to(log_std, mean.shape))

    def value(params: Any, obs: jax.Array) -> jax.Array:
        output: Any = critic.apply(params, obs)
        return output[..., 0]

    def cost_values(params: Any, obs: jax.Array) -> jax.Array:
        output: Any = cost_critic.apply(params, obs)
        return output

    def actor(params: Any, normaliser: RunningStats) -> Actor:
        bounds = (MIN_LOG_STD, MAX_LOG_STD)
        return make_actor(normaliser, params["mean"]["params"], params["log_std"], log_std_range=bounds)

    return Networks(init, policy, value, cost_values, actor)


class ReluMLP(nn.Module):
    """ReLU layers and a linear layer."""

    hidden_sizes: Sequence[int]
    output_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., inputs]. Returns [..., output_size]."""
        for size in self.hidden_sizes:
            x = nn.relu(nn.Dense(size)(x))
        return nn.Dense(self.output_size, name="output")(x)


@struct.dataclass
class Net:
    """A network as a pytree: its parameters, and its shape, which is fixed."""

    params: Any
    module: ReluMLP = struct.field(pytree_node=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., inputs]. Returns [..., outputs]."""
        output: Any = self.module.apply(self.params, x)
        return output


def relu_net(key: jax.Array, num_inputs: int, hidden_sizes: Sequence[int], num_outputs: int) -> Net:
    """Start a network."""
    module = ReluMLP(tuple(hidden_sizes), num_outputs)
    return Net(module.init(key, jnp.zeros(num_inputs)), module)
