"""Algorithms with one second-order policy step per batch: TRPO, CPO, PCPO, CRPO, RCPO."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.flatten_util import ravel_pytree

from mjx_safety.agents import distributions, surrogates, trust_region
from mjx_safety.agents.critics import ActorCriticConfig, fit_critics, init_critic_optimizer, make_actor_critic
from mjx_safety.agents.on_policy import CostStatus, on_policy
from mjx_safety.agents.types import (
    Algorithm,
    Batch,
    Constraint,
    Gaussian,
    Metrics,
    Networks,
    OptState,
    Params,
    TrainState,
)


@struct.dataclass
class TrustRegionConfig(ActorCriticConfig):
    """Settings of the policy's step."""

    num_cg_iterations: int = struct.field(pytree_node=False, default=10)
    """Conjugate-gradient products per system."""
    fisher_stride: int = struct.field(pytree_node=False, default=4)
    """One of n samples enters the Fisher matrix."""
    max_kl: float = 0.01
    """Radius of the KL ball in nats, summed over the action's entries."""
    damping: float = 0.1
    """Added to the Fisher matrix's diagonal."""


@struct.dataclass
class LineSearchConfig(TrustRegionConfig):
    """Settings of the policy's step, with a line search."""

    num_backtracks: int = struct.field(pytree_node=False, default=15)
    """Step lengths to try before giving up."""
    backtrack_factor: float = 0.8
    """Ratio of one step length to the previous."""


@struct.dataclass
class Surrogates:
    """Predicted changes of a new policy, from the old policy's samples."""

    reward: jax.Array  # [] gain in standardised reward per step
    costs: jax.Array  # [K] gain in cost per step
    kl: jax.Array  # [] nats, from the old policy


class PolicyProblem(NamedTuple):
    """The policy as a flat vector theta [P], and functions to find a step."""

    theta: jax.Array
    evaluate: Callable[[jax.Array], Surrogates]
    fvp: Callable[[jax.Array], jax.Array]


PolicyStep = Callable[[PolicyProblem, CostStatus], tuple[jax.Array, Metrics]]  # -> new theta [P]


def second_order(config: TrustRegionConfig, constraint: Constraint, policy_step: PolicyStep) -> Algorithm:
    """Take one step of the policy, then fit the critics. All products in full float32."""
    networks, critic_optimizer = make_actor_critic(config, constraint)

    def init_optimizers(params: Params) -> OptState:
        return OptState((), **init_critic_optimizer(critic_optimizer, params))

    def update(state: TrainState, batch: Batch, status: CostStatus, key: jax.Array) -> tuple[TrainState, Metrics]:
        critic_key, fisher_key = jax.random.split(key)
        theta, unravel = ravel_pytree(state.params.policy)
        few = pick_samples(batch.obs, fisher_key, config.fisher_stride)
        with jax.default_matmul_precision("highest"):
            problem = _make_problem(config, networks, theta, unravel, batch, few)
            theta, metrics = policy_step(problem, status)
        state = state.replace(params=state.params.replace(policy=unravel(theta)))
        dist = networks.policy(state.params.policy, batch.obs[:1])
        metrics |= {"entropy": jnp.mean(distributions.entropy(dist))}
        state, critic_metrics = fit_critics(networks, critic_optimizer, config, state, batch, critic_key)
        return state, metrics | critic_metrics

    return on_policy(networks, constraint, init_optimizers, update)


def natural_gradient_step(
    config: LineSearchConfig, problem: PolicyProblem, objective_fn: Callable[[Surrogates], jax.Array]
) -> tuple[jax.Array, Metrics]:
    """Take TRPO's step (arXiv 1502.05477) along the natural gradient of an objective []."""
    start = objective_fn(problem.evaluate(problem.theta))
    gradient = jax.grad(lambda theta: -objective_fn(problem.evaluate(theta)))(problem.theta)
    v = trust_region.conjugate_gradient(problem.fvp, gradient, config.num_cg_iterations)
    direction, _ = trust_region.natural_step(v, problem.fvp, config.max_kl)

    def accept(predicted: Surrogates) -> jax.Array:
        return objective_fn(predicted) >= start

    theta, metrics = search(config, problem, direction, accept)
    return theta, metrics | {"cg_residual": relative_residual(problem.fvp, v, gradient)}


def search(
    config: LineSearchConfig,
    problem: PolicyProblem,
    direction: jax.Array,
    accept_fn: Callable[[Surrogates], jax.Array],
) -> tuple[jax.Array, Metrics]:
    """Search back along `direction` [P] for a finite point in the KL ball that `accept_fn` [] bool accepts."""

    def accept(theta: jax.Array) -> tuple[jax.Array, Surrogates]:
        predicted = problem.evaluate(theta)
        finite = jnp.isfinite(predicted.reward) & jnp.all(jnp.isfinite(predicted.costs))
        return finite & (predicted.kl <= config.max_kl) & accept_fn(predicted), predicted  # nan <= anything is false

    theta, share, predicted = trust_region.line_search(
        problem.theta, direction, accept, config.num_backtracks, config.backtrack_factor
    )
    skipped = ~jnp.isfinite(jnp.linalg.norm(direction))
    kl = jnp.where(share > 0.0, predicted.kl, 0.0)
    return theta, {"kl": kl, "step_share": share, "skipped_share": skipped.astype(jnp.float32)}


def relative_residual(fvp: Callable[[jax.Array], jax.Array], x: jax.Array, b: jax.Array) -> jax.Array:
    """Residual of H x = b [P], relative to b [] (1)."""
    return jnp.linalg.norm(fvp(x) - b) / jnp.maximum(jnp.linalg.norm(b), trust_region.TINY)


def pick_samples(obs: jax.Array, key: jax.Array, stride: int) -> jax.Array:
    """Pick one random sample of every `stride` neighbours of obs [M, O], that is of every world and all its times.

    Neighbours are successive steps of one world, so the pick moves nothing between devices. Returns [M // stride, O].
    """
    stride = min(stride, obs.shape[0])
    num = obs.shape[0] // stride
    groups = obs[: num * stride].reshape(num, stride, obs.shape[1])
    chosen = jax.random.randint(key, (num, 1, 1), 0, stride)
    return jnp.take_along_axis(groups, chosen, axis=1)[:, 0]


def _make_problem(
    config: TrustRegionConfig,
    networks: Networks,
    theta: jax.Array,
    unravel: Callable[[jax.Array], dict],
    batch: Batch,
    fisher_obs: jax.Array,
) -> PolicyProblem:
    """Express surrogates, KL and the Fisher matrix of a batch by the flat parameters. fisher_obs: [M', O]."""
    old = Gaussian(batch.mean, batch.log_std)

    def evaluate(theta: jax.Array) -> Surrogates:
        dist = networks.policy(unravel(theta), batch.obs)
        ratio = jnp.exp(distributions.log_prob(dist, batch.action) - batch.log_prob)
        return Surrogates(
            reward=surrogates.surrogate(ratio, batch.advantage),
            costs=surrogates.cost_surrogates(ratio, batch.cost_advantages),
            kl=jnp.mean(distributions.kl(old, dist)),
        )

    def fvp(v: jax.Array) -> jax.Array:
        return trust_region.fisher_vector_product(
            lambda t: networks.policy(unravel(t), fisher_obs), theta, v, config.damping
        )

    return PolicyProblem(theta, evaluate, fvp)
