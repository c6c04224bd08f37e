"""The robot's view of the objects around it: a lidar per kind, a compass, a closeness.

Ray, Achiam, Amodei (2019), "Benchmarking Safe Exploration in Deep Reinforcement Learning".
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp

from mjx_safety.core.geometry import from_frame, norm, planar_distance, to_frame
from mjx_safety.core.reductions import largest
from mjx_safety.core.settings import is_at_least, require, require_at_least, require_bools, require_count, settings
from mjx_safety.core.shapes import Shape, as_column, nearest_hit


@settings
class Lidar:
    """Options of the lidars. Bin 0 starts at the robot's +x axis; bins go counter-clockwise.

    The pseudo lidar reads the nearest centre in each sector. The natural lidar sends one ray along each sector's first
    edge and reads exp(-distance in m) to the surface that it hits. It ignores the options of the pseudo lidar.
    """

    num_bins: int = 16
    """Readings of each lidar."""
    max_dist: float | None = 3.0
    """Pseudo, in m: readings fall linearly from 1 at the robot to 0 here; None: exponentially."""
    exp_gain: float = 1.0
    """Pseudo, in 1/m, if max_dist is None: readings are exp(-exp_gain distance)."""
    alias: bool = True
    """Pseudo: an object also raises the readings of both neighbouring bins, by its closeness to them."""
    kind: Literal["pseudo", "natural"] = "pseudo"
    """pseudo: from the positions of objects; natural: rays that meet shapes."""
    see_markers: bool = True
    """Natural: markers on the floor count as infinite columns; False: rays pass over low ones."""

    def __post_init__(self) -> None:
        require_count(self, "num_bins", 1)
        dist = self.max_dist
        require(dist is None or is_at_least(dist, 1e-6), self, "max_dist", "None or a finite number of at least 1e-06")
        require_at_least(self, exp_gain=0.0)
        require_bools(self, "alias", "see_markers")
        require(self.kind in ("pseudo", "natural"), self, "kind", "'pseudo' or 'natural'")


def pseudo_lidar(lidar: Lidar, positions: jax.Array, root_pos: jax.Array, root_mat: jax.Array) -> jax.Array:
    """Closeness of the nearest object per direction, [num_bins] in [0, 1].

    positions: [N, >=2] m, world frame, heights ignored; root_pos: [3] m; root_mat: [3, 3] robot to world.
    """
    flat = jnp.concatenate([positions[:, :2], jnp.zeros_like(positions[:, :1])], axis=-1)
    ego = to_frame(flat - root_pos, root_mat)[:, :2]
    closeness = _closeness(lidar, norm(ego))  # [N]
    turns = jnp.arctan2(ego[:, 1], ego[:, 0]) / (2 * math.pi) % 1.0 * lidar.num_bins  # [N] in [0, num_bins]
    lower = jnp.floor(turns)
    alpha = turns - lower
    ahead = jnp.arange(lidar.num_bins) - lower.astype(jnp.int32)[:, None]
    ahead = jnp.where(ahead < 0, ahead + lidar.num_bins, ahead)  # [N, K] bins, counted from the object's own bin
    share = (ahead == 0).astype(jnp.float32)
    if lidar.alias:
        share = jnp.maximum(share, jnp.where(ahead == 1 % lidar.num_bins, alpha[:, None], 0.0))
        share = jnp.maximum(share, jnp.where(ahead == -1 % lidar.num_bins, 1.0 - alpha[:, None], 0.0))
    return largest(share * closeness[:, None])


def natural_lidar(
    lidar: Lidar,
    shapes: tuple[Shape, ...],
    pos: jax.Array,
    quat: jax.Array,
    root_pos: jax.Array,
    root_mat: jax.Array,
    *,
    columns: bool,
) -> jax.Array:
    """Closeness of the nearest surface along each ray, [num_bins] in [0, 1], 0 without a hit.

    shapes: of one object; pos: [N, 3] m, quat: [N, 4], root_pos: [3] m, all in the world frame; root_mat: [3, 3] robot
    to world; columns: the shapes count as infinite in height, like markers with `see_markers`.
    """
    angles = 2 * math.pi / lidar.num_bins * jnp.arange(lidar.num_bins)
    rays_r = jnp.stack([jnp.cos(angles), jnp.sin(angles), jnp.zeros_like(angles)], axis=-1)
    seen = tuple(map(as_column, shapes)) if columns else shapes
    return jnp.exp(-nearest_hit(seen, pos, quat, root_pos, from_frame(rays_r, root_mat)))


def compass(
    position: jax.Array, root_pos: jax.Array, root_mat: jax.Array, num_components: Literal[2, 3] = 2
) -> jax.Array:
    """Direction of an object, [num_components], robot frame. Its length is just below 1, shorter within millimetres.

    position, root_pos: [3] m, world frame; root_mat: [3, 3] robot to world.
    """
    ego = to_frame(position - root_pos, root_mat)[:num_components]
    return ego / (norm(ego) + 0.001)


def goal_closeness(goal_pos: jax.Array, root_pos: jax.Array) -> jax.Array:
    """exp(-horizontal distance in m) [] in [0, 1]. goal_pos, root_pos: [2 or 3] m, world frame."""
    return jnp.exp(-planar_distance(goal_pos, root_pos))


def _closeness(lidar: Lidar, distance: jax.Array) -> jax.Array:
    """Reading [N] in [0, 1] of the pseudo lidar. distance: [N] m."""
    if lidar.max_dist is None:
        return jnp.exp(-lidar.exp_gain * distance)
    reach = jax.lax.optimization_barrier(jnp.float32(lidar.max_dist))  # keeps XLA from multiplying with the inverse
    return jnp.maximum(0.0, reach - distance) / reach
