"""What the agents pass around: the training state (one pytree, also the checkpoint), data, algorithms, constraints.

Shape letters: T steps of a rollout, B worlds, M = T * B samples, O observation size, A action size. Scalars are [].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import struct

Metrics = dict[str, jax.Array]  # flat, every value a float32 scalar, the same keys in every iteration


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
    count_low: jax.Array  # [] uint32; a float32 count would stop growing
    count_high: jax.Array  # [] uint32, in units of 2**32


@struct.dataclass
class EpisodeSums:
    """One rollout of M = T * B steps, added up. Whole episodes: those not shortened by a staggered start."""

    reward_rate: jax.Array  # [] mean reward per step
    cost_rate: jax.Array  # [] mean cost per step
    num_completed: jax.Array  # [] float32, whole episodes that ended in this rollout
    episode_return: jax.Array  # [] sum over those episodes
    episode_cost: jax.Array  # [] sum over those episodes
    episode_goals: jax.Array  # [] sum over those episodes
    episode_length: jax.Array  # [] sum over those episodes, steps


@struct.dataclass
class EpisodeCost:
    """Running estimates of what an episode costs. Its functions: `episode_cost`."""

    rate_cost: jax.Array  # [] smoothed, per episode
    rate_return: jax.Array  # [] of the last rollout, per episode
    completed_cost: jax.Array  # [] mean in the last rollout in which a whole episode ended
    completed_return: jax.Array  # [] of the same episodes
    completed_goals: jax.Array  # [] of the same episodes
    mean_length: jax.Array  # [] steps, of the same episodes; the time limit before there are any
    has_rate: jax.Array  # [] bool, at least one rollout seen
    has_completed: jax.Array  # [] bool, at least one whole episode seen


@struct.dataclass
class Params:
    """Network parameters."""

    policy: Any
    value: Any
    cost_value: Any


@struct.dataclass
class OptState:
    """Optimiser states, one for each network."""

    policy: Any
    value: Any
    cost_value: Any


@struct.dataclass
class TrainState:
    """Everything that changes during training."""

    env_state: Any  # B worlds, a `types.VectorState`
    params: Params
    opt_state: OptState
    constraint: Any  # multiplier, its optimiser, integrals: whatever `Constraint.init` returned
    normaliser: RunningStats  # of the observations
    episode_cost: EpisodeCost
    key: jax.Array  # [] typed PRNG key
    num_rollouts: jax.Array  # [] int32; the first one only fills the normaliser. Steps so far: this times T * B


@struct.dataclass
class Trajectory:
    """What B worlds did during T steps. Every field has the leading axes [T, B]."""

    obs: jax.Array  # [T, B, O] raw
    action: jax.Array  # [T, B, A] as sampled; the environment saw it clipped to [-1, 1]
    log_prob: jax.Array  # [T, B] of `action` under the acting policy
    mean: jax.Array  # [T, B, A] of the acting policy
    log_std: jax.Array  # [T, B, A] of the acting policy
    reward: jax.Array  # [T, B]
    cost: jax.Array  # [T, B]
    terminated: jax.Array  # [T, B] bool
    truncated: jax.Array  # [T, B] bool
    value: jax.Array  # [T, B] discounted reward expected from `obs`
    next_value: jax.Array  # [T, B] the same from what the step produced, before any reset
    cost_value: jax.Array  # [T, B]
    next_cost_value: jax.Array  # [T, B]


@struct.dataclass
class Batch:
    """M samples to learn from."""

    obs: jax.Array  # [M, O] normalised
    action: jax.Array  # [M, A]
    log_prob: jax.Array  # [M]
    mean: jax.Array  # [M, A]
    log_std: jax.Array  # [M, A]
    advantage: jax.Array  # [M] mean 0 and standard deviation 1 over the batch
    cost_advantage: jax.Array  # [M] mean 0 over the batch, in units of cost
    value_target: jax.Array  # [M]
    cost_value_target: jax.Array  # [M]


class Networks(NamedTuple):
    """Functions of parameters and normalised observations [..., O]."""

    init: Callable[[jax.Array, int, int], Params]  # key, obs_size, action_size
    policy: Callable[[Any, jax.Array], Gaussian]  # params.policy, obs -> [..., A]
    value: Callable[[Any, jax.Array], jax.Array]  # params.value or params.cost_value, obs -> [...]


class Constraint(NamedTuple):
    """How an algorithm is kept under a cost limit by weighing cost against reward."""

    init: Callable[[], Any]
    update: Callable[[Any, jax.Array], Any]  # state, estimated episode cost [] -> state; once per iteration
    combine: Callable[[Any, jax.Array, jax.Array], jax.Array]  # state, reward term, cost term -> objective to maximise
    multiplier: Callable[[Any], jax.Array]  # state -> [] (1)


class Algorithm(NamedTuple):
    """A learner: how it starts and what it does with one batch. Collecting and estimating belong to `train`."""

    networks: Networks
    constraint: Constraint
    init_optimizers: Callable[[Params], OptState]
    update: Callable[[TrainState, Batch, jax.Array, jax.Array], tuple[TrainState, Metrics]]  # + episode cost [], key
