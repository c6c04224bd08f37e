"""Your own task: Patrol. The robot visits the four corners of a square in turn, around hazards.

A task declares the objects that it adds to the scene, its reward and its memory. All of it is pure and handles one
world. Here the goal marker stands on the corner to visit. Costs, lidars and everything else come from the package.

    python examples/custom_task.py --physics mujoco
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import tyro
from flax import struct

import mjx_safety
from mjx_safety import AbstractTask, EnvConfig, GoalArea, Hazards, settings
from mjx_safety.core.geometry import planar_distance


@struct.dataclass
class PatrolMemory:
    """Memory of the task between steps."""

    corner: jax.Array  # [] int32, index of the corner to visit
    last_dist: jax.Array  # [] m, distance to the corner after the previous step


@settings
class Patrol(AbstractTask):
    """Reward is the progress towards the next corner, in m, plus a bonus for each visit."""

    marker: GoalArea = GoalArea(size=0.3)
    half_width: float = 1.2  # m, of the square
    reward_visit: float = 1.0

    name = "Patrol"

    @property
    def objects(self):
        """One goal marker."""
        return {"goal": self.marker}

    @property
    def unplaced(self):
        """The marker needs no place in a layout: `view` puts it on a corner."""
        return frozenset({"goal"})

    @property
    def bonus(self):
        """Reward for a visit."""
        return self.reward_visit

    def corner(self, index):
        """Place [2] m of a corner."""
        return self.half_width * jnp.array([(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)])[index]

    def init(self, readings, key):
        """Start with a random corner."""
        return self.head_for(jax.random.randint(key, (), 0, 4), readings)

    def view(self, readings, memory):
        """Put the marker on the corner to visit, so that the lidar sees it."""
        marker = readings.pos["goal"].at[0, :2].set(self.corner(memory.corner))
        return readings.replace(pos=readings.pos | {"goal": marker})

    def reward(self, readings, memory):
        """Progress, and whether the robot has reached the corner."""
        distance = planar_distance(readings.root_pos, self.corner(memory.corner))
        return memory.last_dist - distance, distance <= self.marker.size

    def advance(self, readings, memory, goal_met, key):
        """Move on to the next corner after a visit."""
        return self.head_for((memory.corner + goal_met) % 4, readings)

    def from_snapshot(self, readings, snapshot, key):
        """Find the corner of a snapshot's goal."""
        corners = jax.vmap(self.corner)(jnp.arange(4))
        return self.head_for(jnp.argmin(planar_distance(corners, readings.pos["goal"][0])), readings)

    def head_for(self, corner, readings):
        """Memory on the way to a corner."""
        distance = planar_distance(readings.root_pos, self.corner(corner))
        return PatrolMemory(corner=corner.astype(jnp.int32), last_dist=distance)


def patrol() -> EnvConfig:
    return EnvConfig(task=Patrol(), hazards=Hazards(num=4, keepout=0.18, placements=((-1.0, -1.0, 1.0, 1.0),)))


def main(physics: str = "auto", num_envs: int = 8, num_steps: int = 100) -> None:
    mjx_safety.register("PointPatrol-v0", patrol)
    env = mjx_safety.make("PointPatrol-v0", physics=physics)

    def step(states, _):
        actions = jax.vmap(steer)(states.obs[:, env.obs_slices["goal_lidar"]])
        states = jax.vmap(env.step)(states, actions)
        return states, (states.reward, states.goal_met, states.cost)

    @jax.jit
    def rollout(key):
        states = jax.vmap(env.reset)(jax.random.split(key, num_envs))
        return jax.lax.scan(step, states, length=num_steps)

    _, (rewards, visits, costs) = rollout(jax.random.key(0))  # [num_steps, num_envs] each
    print(f"return {rewards.sum(0).mean():.2f}, visits {visits.sum(0).mean():.2f}, cost {costs.sum(0).mean():.2f}")


def steer(goal_lidar):
    """Turn to where the lidar [16] sees the goal, and drive when it is ahead. Returns an action [2]."""
    angles = 2 * jnp.pi * (jnp.arange(16) + 0.5) / 16
    left, ahead = jnp.sum(goal_lidar * jnp.sin(angles)), jnp.sum(goal_lidar * jnp.cos(angles))
    return jnp.array([jnp.where(ahead > jnp.abs(left), 1.0, 0.0), jnp.clip(2 * jnp.arctan2(left, ahead), -1.0, 1.0)])


if __name__ == "__main__":
    tyro.cli(main)
