"""Minibatch optimisation: passes over a batch of M samples, with a KL stop for a policy, without one for critics.

A step with a non-finite gradient is skipped. Both report `skipped_share`, the share of such steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mjx_safety.agents.types import Metrics

Tree = TypeVar("Tree")
GROUPS = 16  # parts of a batch that are shuffled apart; a number of devices that divides it needs no communication


@struct.dataclass
class LossOutput:
    """Results of a policy's loss beside the loss itself."""

    kl: jax.Array  # [] nats, of the minibatch
    memory: Any  # memory of the loss for the next step
    metrics: Metrics  # scalars to report


# params, minibatch, memory -> loss [], `LossOutput`
PolicyLoss = Callable[[Any, Any, Any], tuple[jax.Array, LossOutput]]


class Descent(NamedTuple):
    """A loss and its optimiser."""

    loss_fn: Callable[..., tuple[jax.Array, Any]]
    optimizer: optax.GradientTransformation


class TrustRegion(NamedTuple):
    """The policies whose KL divergence from the one that acted is at most `target_kl`."""

    kl_fn: Callable[[Any], jax.Array]  # params -> KL of the whole batch [] (nats)
    target_kl: jax.Array | float


@struct.dataclass
class Passes:
    """Number of passes and of minibatches. Random samples are left out if M does not divide evenly."""

    num_passes: int = struct.field(pytree_node=False)
    num_minibatches: int = struct.field(pytree_node=False)


def make_optimizer(learning_rate: jax.Array | float, max_grad_norm: jax.Array | float) -> optax.GradientTransformation:
    """Adam behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(learning_rate))


def split_minibatches(batch: Any, key: jax.Array, num_minibatches: int) -> Any:
    """Shuffle the M samples of a pytree [M, ...] into [num_minibatches, M // num_minibatches, ...].

    The samples are cut into up to `GROUPS` equal parts, each is shuffled by itself, and each minibatch takes as much of
    every part. So no sample moves between devices that hold whole parts, and their number changes no result. Raises
    ValueError for more minibatches than samples.
    """
    num_samples = jax.tree.leaves(batch)[0].shape[0]
    if num_minibatches > num_samples:
        raise ValueError(
            f"num_minibatches is {num_minibatches}; it must be at most the {num_samples} samples of one iteration "
            "(unroll_length steps of each world)"
        )
    groups = math.gcd(num_samples // num_minibatches, num_samples, GROUPS)
    size = num_samples // groups // num_minibatches  # of a minibatch's share of a part
    orders = jax.vmap(shuffled_indices, (0, None))(jax.random.split(key, groups), num_samples // groups)
    orders = orders[:, : size * num_minibatches]

    def split(leaf: jax.Array) -> jax.Array:
        parts = leaf.reshape(groups, num_samples // groups, *leaf.shape[1:])
        shuffled = jax.vmap(lambda part, order: part[order])(parts, orders)
        pieces = shuffled.reshape(groups, num_minibatches, size, *leaf.shape[1:]).swapaxes(0, 1)
        return pieces.reshape(num_minibatches, groups * size, *leaf.shape[1:])

    return jax.tree.map(split, batch)


def shuffled_indices(key: jax.Array, num: int) -> jax.Array:
    """Put 0 ... num - 1 in random order [num] int32.

    Word i has random high bits, and i itself in its low bits. Sorting the words sorts by the random bits, and the low
    bits of the sorted words are the order. This is ten times faster on a CPU than `jax.random.permutation`. Equal
    random bits keep their order. With 2**17 samples that concerns four neighbours on average, all over the order.
    """
    index_bits = (num - 1).bit_length()
    high = jax.random.bits(key, (num,), jnp.uint32) >> index_bits << index_bits
    words = jnp.sort(high | jnp.arange(num, dtype=jnp.uint32))
    return (words & jnp.uint32(2**index_bits - 1)).astype(jnp.int32)


def start(optimizer: optax.GradientTransformation, params: Any) -> Any:
    """Return the optimiser's first state. optax's type hints do not accept a struct such as `Net`, so this one does."""
    return optimizer.init(params)


def move_towards(start: Tree, end: Tree, share: jax.Array | float) -> Tree:
    """Move a pytree by a share of the way to another one, such as target networks to the trained ones.

    A share of 1 gives the other one to the last bit.
    """
    return jax.tree.map(lambda old, new: jnp.where(share == 1, new, old + share * (new - old)), start, end)


def step(descent: Descent, params: Any, opt_state: Any, *args: Any) -> tuple[Any, Any, jax.Array, Any]:
    """Take one gradient step, or none if the gradient is not finite. args: of the loss, after the parameters.

    Returns params, optimiser state, whether the step was taken [] bool, and the loss's second result.
    """
    gradient, auxiliary = jax.grad(descent.loss_fn, has_aux=True)(params, *args)
    finite = jnp.isfinite(optax.tree.norm(gradient))
    change, new_opt_state = descent.optimizer.update(gradient, opt_state, params)
    new_params = optax.apply_updates(params, change)
    return *select(finite, (new_params, new_opt_state), (params, opt_state)), finite, auxiliary


def select(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    """Choose between two pytrees. condition: [] bool."""
    return jax.tree.map(partial(jnp.where, condition), if_true, if_false)


def fit(
    descent: Descent, params: Any, opt_state: Any, batch: Any, key: jax.Array, passes: Passes
) -> tuple[Any, Any, Metrics]:
    """Take `passes.num_passes` passes. Returns params, optimiser state, and mean metrics of the last pass."""

    def one_step(carry: tuple[Any, Any], minibatch: Any) -> tuple[tuple[Any, Any], tuple[jax.Array, Metrics]]:
        params, opt_state, taken, metrics = step(descent, *carry, minibatch)
        return (params, opt_state), (taken, select(taken, metrics, jax.tree.map(jnp.zeros_like, metrics)))

    def one_pass(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], tuple[jax.Array, Metrics]]:
        carry, (taken, metrics) = jax.lax.scan(one_step, carry, split_minibatches(batch, key, passes.num_minibatches))
        num_taken = jnp.sum(taken.astype(jnp.float32))
        return carry, (num_taken, jax.tree.map(lambda each: jnp.sum(each) / jnp.maximum(num_taken, 1.0), metrics))

    keys = jax.random.split(key, passes.num_passes)
    (params, opt_state), (num_taken, metrics) = jax.lax.scan(one_pass, (params, opt_state), keys)
    skipped = 1.0 - jnp.mean(num_taken) / passes.num_minibatches
    return params, opt_state, jax.tree.map(lambda leaf: leaf[-1], metrics) | {"skipped_share": skipped}


@struct.dataclass
class FitState:
    """State of a policy between its steps on a batch."""

    params: Any  # the newest
    opt_state: Any
    inside: tuple[Any, Any]  # newest parameters and optimiser state inside the trust region
    inside_kl: jax.Array  # [] nats, measured there
    left_region: jax.Array  # [] bool, the newest parameters are outside
    memory: Any  # of the loss
    num_steps: jax.Array  # [] int32
    num_skipped: jax.Array  # [] int32, steps skipped for non-finite gradients
    metrics: Metrics  # of the newest step taken


def fit_until_kl(
    descent: Descent,
    region: TrustRegion,
    params: Any,
    opt_state: Any,
    memory: Any,
    batch: Any,
    key: jax.Array,
    passes: Passes,
) -> tuple[Any, Any, Any, Metrics]:
    """As `fit`, but stop once a minibatch measures the policy outside the region, and return to the last point inside.

    The loss of a step also measures the KL of the parameters that the step starts from, so a measurement costs nothing.
    Leaving the region is therefore noticed one step late, and both steps are taken back. No minibatch follows the very
    last step, so the whole batch measures that one.

    descent.loss_fn: a `PolicyLoss`; memory: for the first step. Returns params, optimiser state, memory, and {"kl",
    "num_passes", "skipped_share"} together with the last step's metrics.
    """
    end = passes.num_passes * passes.num_minibatches

    def one_pass(state: FitState) -> FitState:
        index = state.num_steps // passes.num_minibatches
        minibatches = split_minibatches(batch, jax.random.fold_in(key, index), passes.num_minibatches)

        def one_step(state: FitState) -> FitState:
            number = state.num_steps % passes.num_minibatches
            return _descend(descent, region.target_kl, state, jax.tree.map(lambda leaf: leaf[number], minibatches))

        next_pass = (index + 1) * passes.num_minibatches
        return jax.lax.while_loop(lambda state: ~state.left_region & (state.num_steps < next_pass), one_step, state)

    first = jax.tree.map(lambda leaf: leaf[: leaf.shape[0] // passes.num_minibatches], batch)
    shapes = jax.eval_shape(descent.loss_fn, params, first, memory)[1].metrics
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    start = FitState(
        params, opt_state, (params, opt_state), jnp.float32(0.0), jnp.bool_(False), memory, jnp.int32(0), jnp.int32(0),
        nothing,
    )  # fmt: skip
    state = jax.lax.while_loop(lambda state: ~state.left_region & (state.num_steps < end), one_pass, start)
    params, opt_state = select(state.left_region, state.inside, (state.params, state.opt_state))
    kl = region.kl_fn(params)
    last_step_left = ~state.left_region & ~(kl <= region.target_kl)
    params, opt_state = select(last_step_left, state.inside, (params, opt_state))
    # left_region: drop the step that left the region and the one that measured it; last_step_left: drop that one
    num_kept = state.num_steps - 2 * state.left_region - last_step_left
    return (
        params,
        opt_state,
        state.memory,
        state.metrics
        | {
            "kl": jnp.where(last_step_left, state.inside_kl, kl),
            "num_passes": jnp.maximum(num_kept, 0) / passes.num_minibatches,
            "skipped_share": state.num_skipped / jnp.maximum(state.num_steps, 1),
        },
    )


def _descend(descent: Descent, target_kl: jax.Array | float, state: FitState, minibatch: Any) -> FitState:
    """Measure the KL of the newest parameters and take a step from them. `inside` becomes them if they are inside."""
    params, opt_state, taken, output = step(descent, state.params, state.opt_state, minibatch, state.memory)
    left_region = output.kl > target_kl
    here = (state.params, state.opt_state, output.kl)
    inside_params, inside_opt_state, inside_kl = select(left_region, (*state.inside, state.inside_kl), here)
    return FitState(
        params=params,
        opt_state=opt_state,
        inside=(inside_params, inside_opt_state),
        inside_kl=inside_kl,
        left_region=left_region,
        memory=select(taken, output.memory, state.memory),
        num_steps=state.num_steps + 1,
        num_skipped=state.num_skipped + ~taken,
        metrics=select(taken, output.metrics, state.metrics),
    )
