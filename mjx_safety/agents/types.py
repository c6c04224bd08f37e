"""Shared types of the agents: the training state (one pytree, also the checkpoint), data, algorithms, constraints.

Shape letters: T steps of a rollout, B worlds, M = T * B samples, O observation size, A action size, K costs that have a
limit (1, unless sources have their own limits), C sources of cost of the environment. Scalars are [].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from mjx_safety.types import Sizes, VectorEnvironment

Metrics = dict[str, jax.Array]  # flat; every value is a float32 scalar, with the same keys in every iteration


@struct.dataclass
class Gaussian:
    """Independent normal distributions of the A entries of an action. Its functions: `distributions`."""

    mean: jax.Array  # [..., A]
    log_std: jax.Array  # [..., A]


@struct.dataclass
class RunningStats:
    """Moments of all observations so far. Its functions: `running_stats`."""

    mean: jax.Array  # [O]
    var: jax.Array  # [O]
    count_low: jax.Array  # [] uint32, because a float32 count stops growing
    count_high: jax.Array  # [] uint32, in units of 2**32


@struct.dataclass
class Actor:
    """The acting half of an algorithm as plain arrays: a feed-forward network. Its functions: `actor`."""

    obs_mean: jax.Array  # [O]
    obs_std: jax.Array  # [O] > 0
    weights: tuple[jax.Array, ...]  # [inputs, outputs] per layer
    biases: tuple[jax.Array, ...]  # [outputs] per layer
    log_std: jax.Array | None  # [A]; None: the network has 2A outputs, means then logarithms
    activation: str = struct.field(pytree_node=False, default="tanh")  # between layers: tanh or relu
    squash: str = struct.field(pytree_node=False, default="clip")  # of the action to [-1, 1]: clip or tanh
    log_std_range: tuple[float, float] = struct.field(pytree_node=False, default=(-5.0, 1.0))  # values are clipped
    obs_clip: float = struct.field(
        pytree_node=False, default=5.0
    )  # normalised observations stay in [-obs_clip, obs_clip]


@struct.dataclass
class Costs:
    """Costs of steps or of episodes. Limits may hold for the total or for sources (`episode_cost.limited`)."""

    total: jax.Array  # [...] the scalar cost of the environment
    sources: jax.Array  # [..., C] steps in which each source cost anything, 0 or 1 for a single step


@struct.dataclass
class EpisodeSums:
    """Sums over a rollout of M = T * B steps. Whole episodes are those not shortened by a staggered start."""

    reward_rate: jax.Array  # [] mean reward per step
    cost_rates: Costs  # [] and [C], mean per step
    num_completed: jax.Array  # [] float32, whole episodes that ended in this rollout
    episode_return: jax.Array  # [] sum over those episodes
    episode_costs: Costs  # [] and [C], sum over those episodes
    episode_goals: jax.Array  # [] sum over those episodes
    episode_length: jax.Array  # [] sum over those episodes, steps
    termination_rate: jax.Array | float = 0.0  # [] share of steps that end an episode before its time limit
    placement_failures: jax.Array | float = 0.0  # [] float32, episodes that ended because an object found no place
    blow_ups: jax.Array | float = 0.0  # [] float32, episodes that ended because the physics was not finite


@struct.dataclass
class EpisodeCost:
    """Running estimates of an episode's return and costs, as in EpisodeSums. Functions: `episode_cost`."""

    rate_costs: Costs  # [] and [C], smoothed, per episode
    rate_return: jax.Array  # [] of the last rollout, per episode
    completed_costs: Costs  # [] and [C], mean in the last rollout in which a whole episode ended
    completed_return: jax.Array  # [] of the same episodes
    completed_goals: jax.Array  # [] of the same episodes
    termination_rate: jax.Array  # [] smoothed share of steps that end an episode early
    mean_length: jax.Array  # [] steps, of an episode
    time_limit: jax.Array  # [] steps, of an episode that does not end early
    has_rate: jax.Array  # [] bool, the rate represents whole episodes, so limits may act on it
    has_completed: jax.Array  # [] bool, at least one whole episode seen
    has_whole: jax.Array  # [] bool, seen after the time limit of an episode, so that long ones can be among them


@struct.dataclass
class RecentCosts:
    """Costs of the newest whole episodes, for a limit on their CVaR. Its functions: `risk`."""

    costs: jax.Array  # [W, K] newest first
    num: jax.Array  # [] int32, of them that count; the rest is arbitrary


@struct.dataclass
class Params:
    """Network parameters of an on-policy algorithm."""

    policy: Any
    value: Any
    cost_values: Any


@struct.dataclass
class OptState:
    """Optimiser states, one per network; () for a network without one."""

    policy: Any
    value: Any
    cost_values: Any


@struct.dataclass
class TrainState:
    """Everything that changes during training."""

    env_state: Any  # B worlds, a `types.VectorState`
    params: Any  # of the algorithm's networks; `Params` on-policy
    opt_state: Any  # `OptState` on-policy
    constraint: Any  # multiplier, its optimiser, integrals: the result of `Constraint.init`
    normaliser: RunningStats  # of the observations
    episode_cost: EpisodeCost
    key: jax.Array  # [] typed PRNG key
    num_rollouts: jax.Array  # [] int32; steps so far: this times T * B. On-policy, the first fills the normaliser
    replay: Any = ()  # past steps, of an off-policy algorithm
    recent_costs: Any = ()  # `RecentCosts` under a limit on the CVaR


@struct.dataclass
class Trajectory:
    """T steps of B worlds. Every field has the leading axes [T, B]."""

    obs: jax.Array  # [T, B, O] raw
    action: jax.Array  # [T, B, A] as sampled; the environment clips it to [-1, 1]
    log_prob: jax.Array  # [T, B] of `action` under the acting policy
    mean: jax.Array  # [T, B, A] of the acting policy
    log_std: jax.Array  # [T, B, A] of the acting policy
    reward: jax.Array  # [T, B]
    costs: jax.Array  # [T, B, K]
    terminated: jax.Array  # [T, B] bool
    truncated: jax.Array  # [T, B] bool
    value: jax.Array  # [T, B] discounted reward expected from `obs`
    next_value: jax.Array  # [T, B] the same from the result of the step, before any reset
    cost_values: jax.Array  # [T, B, K], of quantiles [T, B, K, N]
    next_cost_values: jax.Array  # the same from the result of the step
    partial: Any = None  # [T, B] bool, the episode was shortened by a staggered start
    episode_costs: Any = None  # [T, B, K] of the episode up to this step


@struct.dataclass
class Batch:
    """M samples to learn from."""

    obs: jax.Array  # [M, O] normalised
    action: jax.Array  # [M, A]
    log_prob: jax.Array  # [M]
    mean: jax.Array  # [M, A]
    log_std: jax.Array  # [M, A]
    advantage: jax.Array  # [M] mean 0 and standard deviation 1 over the batch
    cost_advantages: jax.Array  # [M, K] mean 0 over the batch, in units of cost
    value_target: jax.Array  # [M]
    cost_value_targets: jax.Array  # [M, K], of quantiles [M, K, N]


@struct.dataclass
class OffPolicyTrainConfig:
    """Shared settings of all algorithms: rollouts, discounts and the estimate of the episode cost."""

    unroll_length: int = struct.field(pytree_node=False, default=16)
    """T, steps per world and iteration."""
    discount: float = 0.99
    """Discount of reward, per step."""
    cost_discount: float = 0.98
    """Discount of cost, per step."""
    cost_smoothing: float = 0.8
    """Weight of the past in the smoothed episode cost, below 1."""
    use_completed_episodes: bool = struct.field(pytree_node=False, default=False)
    """Apply the limit to the cost of ended episodes, not to the smoothed rate. This estimate is later and noisier."""
    bootstrap_costs_at_ends: bool = struct.field(pytree_node=False, default=False)
    """Bootstrap cost values at true ends too, as at the time limit. Then no robot learns to save cost by falling."""


@struct.dataclass
class TrainConfig(OffPolicyTrainConfig):
    """Settings of on-policy training: those of all algorithms, advantages, and a limit that falls."""

    unroll_length: int = struct.field(pytree_node=False, default=64)
    """T, steps per world and iteration."""
    cost_discount: float = 0.99
    """Discount of cost, per step."""
    gae_lambda: float = 0.95
    """GAE lambda of reward advantages."""
    cost_gae_lambda: float = 0.97
    """GAE lambda of cost advantages; higher, because costs are harder to predict."""
    limit_start: float = 1.0
    """The limits start at this multiple and fall to their values, so that a policy learns the task first. 1: none."""
    limit_fall: float = 0.5
    """Share of the training over which they fall."""
    num_iterations: float = float("inf")
    """Length of the training, for schedules. inf: that of `train`; outside of `train`, no schedule."""


def squared_error(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean squared error []."""
    return jnp.mean(jnp.square(predictions - targets))


class Networks(NamedTuple):
    """Functions of parameters and normalised observations [..., O]."""

    init: Callable[[jax.Array, int, int], Params]  # key, O, A
    policy: Callable[[Any, jax.Array], Gaussian]  # params.policy, obs -> [..., A]
    value: Callable[[Any, jax.Array], jax.Array]  # params.value, obs -> [...]
    cost_values: Callable[[Any, jax.Array], jax.Array]  # params.cost_values, obs -> [..., K], of quantiles [..., K, N]
    actor: Callable[[Any, RunningStats], Actor]  # params.policy, moments of raw observations
    cost_loss: Callable[[jax.Array, jax.Array], jax.Array] = squared_error  # cost values, targets -> []


@struct.dataclass
class CostWeights:
    """How the K limited costs count in the next update."""

    multipliers: jax.Array  # [K] (1) weight of each cost; 0 if the algorithm enforces the limits itself
    margins: jax.Array  # [K] added to the violations that the algorithm sees; 0 with multipliers


class Constraint(NamedTuple):
    """The limited costs, and the rule that makes them count."""

    sources: tuple[str, ...]  # names of the K limited sources of cost; empty: the scalar cost, K = 1
    limits: jax.Array  # [K] undiscounted sums over an episode
    init: Callable[[], Any]
    update: Callable[[Any, jax.Array], Any]  # state, estimated episode costs [K] -> state; once per iteration
    weights: Callable[[Any], CostWeights]  # state -> multipliers and margins
    risk_level: float = 0.0  # the limits hold for the mean of the worst share 1 - risk_level of the episodes; 0: of all
    has_multipliers: bool | None = None  # whether it weighs the costs by them; None: both kinds of algorithms take it

    @property
    def num_costs(self) -> int:
        """Number of limited costs K."""
        return max(1, len(self.sources))


class Algorithm(NamedTuple):
    """A learner. Training loop, checkpoints and evaluation use only these functions."""

    constraint: Constraint
    init: Callable[[Sizes, jax.Array], TrainState]  # venv, key -> everything but the worlds: `env_state` is None
    iterate: Callable[[VectorEnvironment, Any, TrainState], tuple[TrainState, Metrics]]  # venv, TrainConfig
    act: Callable[[Any, jax.Array, jax.Array | None], jax.Array]  # params, obs, noise [..., A] or None -> [..., A]
    actor: Callable[[Any, RunningStats], Actor]  # params, normaliser -> the same policy of raw observations, as arrays
