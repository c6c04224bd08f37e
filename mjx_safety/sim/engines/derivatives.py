"""Allows forward-mode derivatives of a step, and refuses the others with a readable error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, partial_eval

from mjx_safety.core.precision import own_settings

NO_REVERSE = (
    "a step has no reverse-mode derivatives (jax.grad, jax.vjp) on physics='mjx', whose loops run as long as the solver"
    " needs; use forward mode: jax.jvp or jax.jacfwd"
)
NONE_AT_ALL = (
    "a step has no derivatives on physics='{name}', which computes outside of JAX; use physics='mjx' with jax.jvp or"
    " jax.jacfwd, or finite differences"
)


def forward_only(function: Callable, differentiated: Callable) -> Callable:
    """Give a function the forward-mode derivatives of another that returns the same; refuse reverse mode."""
    wrapped = jax.custom_jvp(function)

    @wrapped.defjvp
    def derivative(primals: tuple, tangents: tuple) -> tuple:
        with own_settings():  # JAX traces this after the step's own have ended
            return jax.jvp(differentiated, primals, jax.tree.map(_guarded, tangents))

    return wrapped


def without_derivatives(function: Callable, engine: str) -> Callable:
    """Refuse to differentiate a function."""
    wrapped = jax.custom_jvp(function)

    @wrapped.defjvp
    def derivative(primals: tuple, tangents: tuple) -> NoReturn:
        raise ValueError(NONE_AT_ALL.format(name=engine))

    return wrapped


def _guarded(tangent: Any) -> Any:
    """Let a tangent pass in forward mode only."""
    dtype = getattr(tangent, "dtype", None)  # none of a symbolic zero
    is_number = dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
    return _FORWARD_ONLY.bind(tangent) if is_number else tangent


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ValueError(NO_REVERSE)


# An identity with a forward-mode rule only. Reverse mode first splits a program into what is known and what is linear;
# that is where the rule for partial evaluation refuses.
_FORWARD_ONLY = Primitive("forward_only")
_FORWARD_ONLY.def_impl(lambda tangent: tangent)
_FORWARD_ONLY.def_abstract_eval(lambda tangent: tangent)
mlir.register_lowering(_FORWARD_ONLY, lambda _, tangent: [tangent])
batching.defvectorized(_FORWARD_ONLY)
ad.primitive_jvps[_FORWARD_ONLY] = lambda primals, tangents: (
    _FORWARD_ONLY.bind(*primals),
    jax.tree.map(_guarded, tangents[0]),
)
partial_eval.custom_partial_eval_rules[_FORWARD_ONLY] = _refuse
