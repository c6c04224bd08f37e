"""The sources of cost under the names that the adapters share."""

from __future__ import annotations

import jax

from mjx_safety.types import Sizes


def costs_by_name(env: Sizes, costs: jax.Array) -> dict[str, jax.Array]:
    """Return the sources of cost [..., C] as `cost_<source>`: [...]."""
    return {f"cost_{name}": costs[..., index] for index, name in enumerate(env.cost_names)}
