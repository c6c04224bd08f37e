"""Ways to keep the episode cost under a limit by a multiplier: (L_R - multiplier * L_C) / (1 + multiplier).

The division keeps the size of a policy step as the multiplier grows. `violation` is estimated episode cost minus
`cost_limit`, both undiscounted sums over an episode. All scalars are [].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mjx_safety.agents.types import Constraint

Scalar = jax.Array | float


@struct.dataclass
class MultiplierState:
    """A multiplier and what its rule remembers."""

    multiplier: jax.Array  # [] >= 0 (1)
    raw: jax.Array  # [] the parameter behind it; the multiplier itself where the rule has no other
    optimizer: Any


class MultiplierRule(NamedTuple):
    """How a multiplier follows the violation."""

    init: Callable[[], MultiplierState]
    update: Callable[[MultiplierState, jax.Array], MultiplierState]  # + violation []


def projected_ascent(init: Scalar = 0.0, learning_rate: Scalar = 0.0005, maximum: Scalar = 50.0) -> MultiplierRule:
    """Step in proportion to the violation, clipped to [0, maximum] (FOCOPS, arXiv 2002.06506)."""

    def start() -> MultiplierState:
        value = jnp.asarray(init, jnp.float32)
        return MultiplierState(value, value, ())

    def update(state: MultiplierState, violation: jax.Array) -> MultiplierState:
        value = jnp.clip(state.multiplier + learning_rate * violation, 0.0, maximum)
        return MultiplierState(value, value, ())

    return MultiplierRule(start, update)


def clamped_adam(init: Scalar = 0.001, learning_rate: Scalar = 0.035, maximum: Scalar = jnp.inf) -> MultiplierRule:
    """Adam on the multiplier, clipped to [0, maximum] (OmniSafe). Its step hardly depends on the violation's size."""
    adam = optax.adam(learning_rate)

    def start() -> MultiplierState:
        value = jnp.asarray(init, jnp.float32)
        return MultiplierState(value, value, adam.init(value))

    def update(state: MultiplierState, violation: jax.Array) -> MultiplierState:
        change, optimizer = adam.update(-violation, state.optimizer)
        raised: Any = optax.apply_updates(state.multiplier, change)
        value = jnp.clip(raised, 0.0, maximum)
        return MultiplierState(value, value, optimizer)

    return MultiplierRule(start, update)


def softplus_adam(init: Scalar = 1.0, learning_rate: Scalar = 0.05) -> MultiplierRule:
    """Adam on p with multiplier softplus(p), the slope of softplus left out (OpenAI safety-starter-agents)."""
    adam = optax.adam(learning_rate)

    def start() -> MultiplierState:
        raw = jnp.log(jnp.expm1(jnp.asarray(init, jnp.float32)))
        return MultiplierState(jax.nn.softplus(raw), raw, adam.init(raw))

    def update(state: MultiplierState, violation: jax.Array) -> MultiplierState:
        change, optimizer = adam.update(-violation, state.optimizer)
        raw: Any = optax.apply_updates(state.raw, change)
        return MultiplierState(jax.nn.softplus(raw), raw, optimizer)

    return MultiplierRule(start, update)


def penalise(multiplier: jax.Array, reward_term: jax.Array, cost_term: jax.Array) -> jax.Array:
    """Weigh two surrogates [] or two advantages [...] against each other."""
    return (reward_term - multiplier * cost_term) / (1.0 + multiplier)


def unconstrained() -> Constraint:
    """Ignore the cost."""
    return Constraint(
        init=lambda: (),
        update=lambda state, episode_cost: state,
        combine=lambda state, reward_term, cost_term: reward_term,
        multiplier=lambda state: jnp.float32(0.0),
    )


def lagrangian(cost_limit: Scalar = 25.0, rule: MultiplierRule | None = None) -> Constraint:
    """Raise the multiplier while an episode costs more than `cost_limit`, lower it otherwise.

    rule: `projected_ascent` (default), `clamped_adam` or `softplus_adam`, each with its own start and speed.
    """
    rule = rule or projected_ascent()
    return Constraint(
        init=rule.init,
        update=lambda state, episode_cost: rule.update(state, episode_cost - cost_limit),
        combine=lambda state, reward_term, cost_term: penalise(state.multiplier, reward_term, cost_term),
        multiplier=lambda state: state.multiplier,
    )


@struct.dataclass
class PIDGains:
    """A PID controller of the multiplier (arXiv 2007.03964), for costs as they are."""

    proportional_gain: float = 0.05  # multiplier per unit of smoothed violation
    integral_gain: float = 0.003  # multiplier per unit of violation and iteration
    derivative_gain: float = 0.01  # multiplier per unit of rise in smoothed cost
    smoothing: float = 0.95  # weight of the past in the proportional and derivative parts, (1)
    derivative_delay: int = struct.field(pytree_node=False, default=10)  # iterations over which the rise is taken
    multiplier_init: float = 0.001  # start of the integral
    multiplier_max: float = 50.0  # cap of the integral and of the multiplier


@struct.dataclass
class PIDState:
    """What the controller remembers."""

    multiplier: jax.Array  # []
    integral: jax.Array  # []
    smoothed_violation: jax.Array  # []
    smoothed_cost: jax.Array  # []
    past_costs: jax.Array  # [derivative_delay] smoothed costs, oldest first; zeros at the start


def pid_lagrangian(cost_limit: Scalar = 25.0, gains: PIDGains | None = None) -> Constraint:
    """Set the multiplier anew each time from the violation, its integral and the rise of the cost."""
    gains = gains or PIDGains()

    def init() -> PIDState:
        start, zero = jnp.asarray(gains.multiplier_init, jnp.float32), jnp.float32(0.0)
        return PIDState(start, start, zero, zero, jnp.zeros(gains.derivative_delay))

    def update(state: PIDState, episode_cost: jax.Array) -> PIDState:
        violation = episode_cost - cost_limit
        integral = jnp.clip(state.integral + gains.integral_gain * violation, 0.0, gains.multiplier_max)
        smoothed_violation = gains.smoothing * state.smoothed_violation + (1.0 - gains.smoothing) * violation
        smoothed_cost = gains.smoothing * state.smoothed_cost + (1.0 - gains.smoothing) * episode_cost
        rise = jnp.maximum(0.0, smoothed_cost - state.past_costs[0])
        total = gains.proportional_gain * smoothed_violation + integral + gains.derivative_gain * rise
        return PIDState(
            multiplier=jnp.clip(total, 0.0, gains.multiplier_max),
            integral=integral,
            smoothed_violation=smoothed_violation,
            smoothed_cost=smoothed_cost,
            past_costs=jnp.append(state.past_costs[1:], smoothed_cost),
        )

    return Constraint(
        init=init,
        update=update,
        combine=lambda state, reward_term, cost_term: penalise(state.multiplier, reward_term, cost_term),
        multiplier=lambda state: state.multiplier,
    )
