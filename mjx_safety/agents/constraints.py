"""Limits on costs, and multipliers that weigh them: (L_R - sum_k m_k L_Ck) / (1 + sum_k m_k).

The division keeps the size of a policy step as the multipliers grow. A limit is one number for the scalar cost, or one
number per named source of cost, each with its own multiplier: `lagrangian({"hazards": 20.0, "vases_contact": 5.0})`.
The cost of a source is the number of steps in which it cost anything, like the scalar cost of the benchmark.
`violations` are estimated episode costs minus limits, as undiscounted sums over an episode. K limits, all arrays [K].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mjx_safety.agents.checks import check_settings, number
from mjx_safety.agents.types import Constraint, CostWeights

Scalar = jax.Array | float
CostLimit = Scalar | Mapping[str, Scalar]


def split_limit(cost_limit: CostLimit) -> tuple[tuple[str, ...], jax.Array]:
    """Names of the limited sources (empty for the scalar cost) and their limits [K].

    Raises ValueError for a limit that is no number of at least 0.
    """
    if isinstance(cost_limit, Mapping):
        if not cost_limit:
            raise ValueError("cost_limit is {}; it must be a number, or name at least one source of cost")
        limits = [_at_least_0(f"the cost limit for {name}", limit) for name, limit in cost_limit.items()]
        return tuple(cost_limit), jnp.stack(limits)
    return (), _at_least_0("cost_limit", cost_limit)[None]


def _at_least_0(name: str, value: Scalar) -> jax.Array:
    """Return a number [] float32. Raises ValueError unless it is one number of at least 0, or traced."""
    known = number(name, value)
    if known is not None and not known >= 0.0:
        raise ValueError(f"{name} is {known}; it must be at least 0")
    return jnp.asarray(value, jnp.float32)


@struct.dataclass
class MultiplierState:
    """Multipliers and the memory of their rule."""

    multipliers: jax.Array  # [K] >= 0 (1)
    raw: jax.Array  # [K] parameters of the multipliers, or the multipliers themselves
    optimizer: Any


class MultiplierRule(NamedTuple):
    """A rule by which each multiplier follows its violation."""

    init: Callable[[int], MultiplierState]  # K
    update: Callable[[MultiplierState, jax.Array, jax.Array], MultiplierState]  # + violations [K], limits [K]


def relative(violations: jax.Array, limits: jax.Array) -> jax.Array:
    """Violations [K] in units of their limits, at most 1 (1).

    A policy that costs ten times its limit has not learned its task yet. Then a larger multiplier makes it learn to
    stand still, so the multiplier rises no faster than at twice the limit. Limits below 1 count as 1.
    """
    return jnp.clip(violations / unit_of(limits), -1.0, 1.0)


def _finite(violations: jax.Array, limits: jax.Array) -> jax.Array:
    """Violations [K], and -1 where there is no limit."""
    return jnp.where(jnp.isfinite(limits), violations, -1.0)


def unit_of(limits: jax.Array) -> jax.Array:
    """Unit of a cost under each of the limits [K]: the limit, but at least 1, and 1 without a limit."""
    return jnp.where(jnp.isfinite(limits), jnp.maximum(limits, 1.0), 1.0)


def projected_ascent(init: Scalar = 0.0, learning_rate: Scalar = 0.0125, maximum: Scalar = 50.0) -> MultiplierRule:
    """Step in proportion to the `relative` violation, clipped to [0, maximum] (after FOCOPS, arXiv 2002.06506)."""
    for name, value in {"init": init, "learning_rate": learning_rate, "maximum": maximum}.items():
        _at_least_0(f"projected_ascent's {name}", value)

    def start(num_costs: int) -> MultiplierState:
        value = jnp.full(num_costs, init, jnp.float32)
        return MultiplierState(value, value, ())

    def update(state: MultiplierState, violations: jax.Array, limits: jax.Array) -> MultiplierState:
        value = jnp.clip(state.multipliers + learning_rate * relative(violations, limits), 0.0, maximum)
        return MultiplierState(value, value, ())

    return MultiplierRule(start, update)


def clamped_adam(init: Scalar = 0.001, learning_rate: Scalar = 0.035, maximum: Scalar = jnp.inf) -> MultiplierRule:
    """Adam on the multiplier, clipped to [0, maximum] (OmniSafe). The step hardly depends on the violation."""
    for name, value in {"init": init, "learning_rate": learning_rate, "maximum": maximum}.items():
        _at_least_0(f"clamped_adam's {name}", value)
    adam = optax.adam(learning_rate)

    def start(num_costs: int) -> MultiplierState:
        value = jnp.full(num_costs, init, jnp.float32)
        return MultiplierState(value, value, adam.init(value))

    def update(state: MultiplierState, violations: jax.Array, limits: jax.Array) -> MultiplierState:
        change, optimizer = adam.update(-_finite(violations, limits), state.optimizer)
        raised: Any = optax.apply_updates(state.multipliers, change)
        value = jnp.clip(raised, 0.0, maximum)
        return MultiplierState(value, value, optimizer)

    return MultiplierRule(start, update)


def softplus_adam(init: Scalar = 1.0, learning_rate: Scalar = 0.05) -> MultiplierRule:
    """Adam on p with multiplier softplus(p), without the slope of softplus (OpenAI safety-starter-agents). init > 0."""
    if number("softplus_adam's init", init) == 0.0:
        raise ValueError("softplus_adam's init is 0.0; it must be above 0, or the multiplier stays at 0")
    for name, value in {"init": init, "learning_rate": learning_rate}.items():
        _at_least_0(f"softplus_adam's {name}", value)
    adam = optax.adam(learning_rate)

    def start(num_costs: int) -> MultiplierState:
        value = jnp.full(num_costs, init, jnp.float32)
        raw = value + jnp.log(-jnp.expm1(-value))
        return MultiplierState(value, raw, adam.init(raw))

    def update(state: MultiplierState, violations: jax.Array, limits: jax.Array) -> MultiplierState:
        change, optimizer = adam.update(-_finite(violations, limits), state.optimizer)
        raw: Any = optax.apply_updates(state.raw, change)
        return MultiplierState(jax.nn.softplus(raw), raw, optimizer)

    return MultiplierRule(start, update)


def penalise(multipliers: jax.Array, reward_term: jax.Array, cost_terms: jax.Array) -> jax.Array:
    """Combine surrogates, [] and [K], or advantages, [M] and [M, K], by multipliers [K]."""
    return (reward_term - cost_terms @ multipliers) / (1.0 + jnp.sum(multipliers))


def hard_limit(
    cost_limit: CostLimit = 25.0, margin_learning_rate: Scalar = 0.0, margin_max: Scalar = 3.0
) -> Constraint:
    """Limits without multipliers, for algorithms that enforce them in their own way: CPO, PCPO, P3O, IPO, CRPO.

    PPO, TRPO, SAC and TD3 take them too, but only report them. They hold limits by multipliers (`lagrangian`).

    A margin integrates the violations at `margin_learning_rate` per iteration, and is added to the violation that the
    algorithm sees. An algorithm that misses its limit by a constant amount then aims lower (safety-starter-agents). 0:
    no margin. Violations count for at most the limit (see `relative`), and the margin stays below `margin_max` limits.
    """
    for name, value in {"margin_learning_rate": margin_learning_rate, "margin_max": margin_max}.items():
        _at_least_0(f"hard_limit's {name}", value)
    sources, limits = split_limit(cost_limit)

    def update(margins: jax.Array, costs: jax.Array) -> jax.Array:
        unit = unit_of(limits)
        risen = margins + margin_learning_rate * unit * relative(costs - limits, limits)
        return jnp.where(jnp.isfinite(limits), jnp.clip(risen, 0.0, margin_max * unit), 0.0)

    return Constraint(
        sources=sources,
        limits=limits,
        init=lambda: jnp.zeros_like(limits),
        update=update,
        weights=lambda margins: CostWeights(jnp.zeros_like(limits), margins),
        has_multipliers=False,
    )


def unconstrained() -> Constraint:
    """Ignore the cost."""
    return hard_limit(jnp.inf)._replace(has_multipliers=None)


def lagrangian(cost_limit: CostLimit = 25.0, rule: MultiplierRule | None = None) -> Constraint:
    """Raise the multiplier while an episode costs more than its limit, and lower it otherwise.

    rule: `projected_ascent` (default), `clamped_adam` or `softplus_adam`, each with its own start and speed.
    """
    rule = projected_ascent() if rule is None else rule
    if not isinstance(rule, MultiplierRule):
        raise ValueError(f"the rule is {rule!r}; it must be one such as projected_ascent() or clamped_adam()")
    sources, limits = split_limit(cost_limit)
    return Constraint(
        sources=sources,
        limits=limits,
        init=lambda: rule.init(limits.shape[0]),
        update=lambda state, episode_costs: rule.update(state, episode_costs - limits, limits),
        weights=lambda state: CostWeights(state.multipliers, jnp.zeros_like(limits)),
        has_multipliers=True,
    )


@struct.dataclass
class PIDGains:
    """A PID controller of the multiplier (arXiv 2007.03964). Costs are in units of their limit (see `relative`)."""

    proportional_gain: float = 0.1
    """Multiplier per smoothed relative violation."""
    integral_gain: float = 0.0125
    """Multiplier per relative violation and iteration."""
    derivative_gain: float = 0.1
    """Multiplier per relative rise in smoothed cost."""
    smoothing: float = 0.95
    """Weight of the past in the proportional and derivative parts, (1)."""
    derivative_delay: int = struct.field(pytree_node=False, default=10)
    """Iterations over which the rise is measured."""
    multiplier_init: float = 0.001
    """Start of the integral."""
    multiplier_max: float = 50.0
    """Cap of the integral and of the multiplier."""

    def build(self, cost_limit: CostLimit) -> Constraint:
        """Build the constraint."""
        return pid_lagrangian(cost_limit, self)


@struct.dataclass
class PIDState:
    """Memory of the controller."""

    multipliers: jax.Array  # [K]
    integral: jax.Array  # [K]
    smoothed_violation: jax.Array  # [K]
    smoothed_cost: jax.Array  # [K]
    past_costs: jax.Array  # [derivative_delay, K] smoothed costs, oldest first; zeros at the start


def pid_lagrangian(cost_limit: CostLimit = 25.0, gains: PIDGains | None = None) -> Constraint:
    """Compute the multiplier in each iteration from the violation, its integral and the rise of the cost."""
    gains = PIDGains() if gains is None else gains
    if not isinstance(gains, PIDGains):
        raise ValueError(f"the gains are a {type(gains).__name__}; they must be PIDGains, such as PIDGains()")
    check_settings(gains)
    sources, limits = split_limit(cost_limit)

    def init() -> PIDState:
        start, zero = jnp.full_like(limits, gains.multiplier_init), jnp.zeros_like(limits)
        return PIDState(start, start, zero, zero, jnp.zeros((gains.derivative_delay, *limits.shape)))

    def update(state: PIDState, episode_costs: jax.Array) -> PIDState:
        violation = relative(episode_costs - limits, limits)
        integral = jnp.clip(state.integral + gains.integral_gain * violation, 0.0, gains.multiplier_max)
        smoothed_violation = gains.smoothing * state.smoothed_violation + (1.0 - gains.smoothing) * violation
        cost = episode_costs / jnp.maximum(limits, 1.0)
        smoothed_cost = gains.smoothing * state.smoothed_cost + (1.0 - gains.smoothing) * cost
        rise = jnp.maximum(0.0, smoothed_cost - state.past_costs[0])
        total = gains.proportional_gain * smoothed_violation + integral + gains.derivative_gain * rise
        return PIDState(
            multipliers=jnp.clip(total, 0.0, gains.multiplier_max),
            integral=integral,
            smoothed_violation=smoothed_violation,
            smoothed_cost=smoothed_cost,
            past_costs=jnp.concatenate([state.past_costs[1:], smoothed_cost[None]]),
        )

    return Constraint(
        sources=sources,
        limits=limits,
        init=init,
        update=update,
        weights=lambda state: CostWeights(state.multipliers, jnp.zeros_like(limits)),
        has_multipliers=True,
    )
