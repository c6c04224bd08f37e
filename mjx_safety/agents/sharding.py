"""Spreads worlds over devices: one mesh axis, the world axis of every array along it, everything else on all devices.

The compiler does the rest. Programs are written for all B worlds, and sums over worlds become sums over devices: of
gradients, statistics of observations, advantages, episode costs. Only such sums travel. Batches are lined up world
after world and shuffled in parts. Fresh worlds and past steps are kept in parts. Each part is on one device. Trainings
side by side are spread instead of their worlds if the devices divide their number. Then nothing travels.

On several hosts the devices are those of all processes (`jax.distributed.initialize`). Each process runs the same
program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mjx_safety.agents.types import TrainState

WORLDS = "worlds"  # the mesh's axis


def make_mesh(num_devices: int) -> Mesh:
    """Return a mesh of the first `num_devices` devices of all processes. Raises ValueError if there are fewer."""
    there = len(jax.devices())
    if not 1 <= num_devices <= there:
        raise ValueError(f"num_devices is {num_devices}; it must lie between 1 and the {there} there are")
    return Mesh(np.array(jax.devices()[:num_devices]), (WORLDS,))


def shardings(mesh: Mesh, like: TrainState, num_envs: int, axis: int = 0) -> TrainState:
    """Placement of each array of a training state: worlds spread, the rest on all devices.

    like: the state or its shapes; axis: the axis of the `num_envs` worlds in their arrays. Raises ValueError unless the
    devices divide the worlds.
    """
    if num_envs % mesh.size:
        raise ValueError(f"num_envs is {num_envs}; it must be a multiple of the {mesh.size} devices")
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec(*[None] * axis, WORLDS))

    def place(leaf: Any) -> NamedSharding:
        return spread if leaf.ndim > axis and leaf.shape[axis] == num_envs else everywhere

    where = jax.tree.map(lambda _: everywhere, like).replace(env_state=jax.tree.map(place, like.env_state))
    if like.replay and like.replay.num_parts % mesh.size == 0:
        return where.replace(replay=where.replay.replace(steps=jax.tree.map(lambda _: spread, like.replay.steps)))
    return where


def by_member(run: Callable, mesh: Mesh) -> Callable:
    """Run a function of trainings side by side, each device with its share of them and without communication.

    All arguments and results are pytrees whose arrays have the leading axis of the trainings, [S].
    """
    share = PartitionSpec(WORLDS)
    return jax.shard_map(run, mesh=mesh, in_specs=share, out_specs=share, check_vma=False)


def member_shardings(mesh: Mesh, like: TrainState) -> TrainState:
    """Where each array [S, ...] of trainings side by side lives for `by_member`."""
    return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec(WORLDS)), like)


def gather(tree: Any) -> Any:
    """Copy arrays that are spread over several processes to all of them. Every process has to call it."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree)):
        return tree
    return _copy_to_all(jax.tree.leaves(tree)[0].sharding.mesh)(tree)


@functools.cache
def _copy_to_all(mesh: Mesh) -> Callable[[Any], Any]:
    """Compiled once for each shape of a tree."""
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))


def of_each_process(values: Any) -> np.ndarray:
    """Numbers on the host of all P processes, [P, ...]. Every process has to call it, with the same shape.

    What the host decides, such as the length of a call, has to be the same everywhere. Otherwise the processes wait for
    each other without end.
    """
    if jax.process_count() == 1:
        return np.asarray(values)[None]
    return np.asarray(multihost_utils.process_allgather(np.asarray(values)))
