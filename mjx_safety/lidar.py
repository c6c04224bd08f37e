"""The pseudo lidar of Safety Gym: per kind of object, how close the nearest one is in each direction.

Ray, Achiam, Amodei (2019), "Benchmarking Safe Exploration in Deep Reinforcement Learning".
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from mjx_safety.geometry import norm, to_frame
from mjx_safety.settings import require_bools, require_count, require_numbers, settings


@settings
class Lidar:
    """Options of the lidar. Bin 0 starts at the robot's +x axis; bins go counter-clockwise."""

    num_bins: int = 16
    max_dist: float = 3.0  # m, readings fall linearly from 1 at the robot to 0 here
    alias: bool = True  # share a reading with both neighbouring bins, by how close the object is to them

    def check(self) -> None:
        """Refuse wrong values."""
        require_count(self, "num_bins", 1)
        require_numbers(self, max_dist=1e-6)
        require_bools(self, "alias")

    __post_init__ = check


def pseudo_lidar(lidar: Lidar, positions: jax.Array, root_pos: jax.Array, root_mat: jax.Array) -> jax.Array:
    """Closeness of the nearest object per direction, [num_bins] in [0, 1].

    positions: [N, >=2] m, world frame, heights are ignored; root_pos: [3] m; root_mat: [3, 3] robot to world.
    """
    flat = jnp.concatenate([positions[:, :2], jnp.zeros_like(positions[:, :1])], axis=-1)
    ego = to_frame(flat - root_pos, root_mat)[:, :2]
    closeness = jnp.maximum(0.0, lidar.max_dist - norm(ego)) / lidar.max_dist  # [N]
    turns = jnp.arctan2(ego[:, 1], ego[:, 0]) / (2 * math.pi) % 1.0 * lidar.num_bins  # [N] in [0, num_bins]
    lower = jnp.floor(turns)
    alpha = turns - lower
    bins = jnp.arange(lidar.num_bins)
    ahead = (bins - lower.astype(jnp.int32)[:, None]) % lidar.num_bins  # [N, K] bins counted from the object's own
    share = (ahead == 0).astype(jnp.float32)
    if lidar.alias:
        share = jnp.maximum(share, jnp.where(ahead == 1 % lidar.num_bins, alpha[:, None], 0.0))
        share = jnp.maximum(share, jnp.where(ahead == -1 % lidar.num_bins, 1.0 - alpha[:, None], 0.0))
    return jnp.max(share * closeness[:, None], axis=0, initial=0.0)
