"""Your own robot: a hovercraft, from an MJCF file, that drives to goals around hazards and vases.

A robot is a model file and a few facts about it. The model needs one body named `robot`, actuators with control ranges
and named sensors. With the joints slide x, slide y, hinge z it is "planar". With one free joint it is "free".

    python examples/custom_robot.py --physics mujoco
"""

from pathlib import Path

import jax
import tyro

import mjx_safety
from mjx_safety import EnvConfig, Hazards, Robot, Vases

HOVERCRAFT = Robot(
    name="Hovercraft",
    xml=str(Path(__file__).parent / "assets" / "hovercraft.xml"),
    root_joint="planar",
    start_height=0.1,  # m
    sensors=("velocimeter", "gyro", "compass"),  # observed, in this order
    touches_floor=False,  # leaves out contacts between hull and floor on MJX
    keepout=0.3,  # m, kept clear around its start
)


def hovercraft_goal() -> EnvConfig:
    return EnvConfig(robot=HOVERCRAFT, hazards=Hazards(num=6, keepout=0.18), vases=Vases(num=2))


def main(physics: str = "auto", num_envs: int = 8, num_steps: int = 100) -> None:
    mjx_safety.register("HovercraftGoal-v0", hovercraft_goal)
    env = mjx_safety.make("HovercraftGoal-v0", physics=physics)
    print("observation:", {name: where.stop - where.start for name, where in env.obs_slices.items()})

    def step(states, key):
        actions = jax.random.uniform(key, (num_envs, env.action_size), minval=-1.0, maxval=1.0)
        states = jax.vmap(env.step)(states, actions)
        return states, (states.reward, states.cost)

    @jax.jit
    def rollout(key):
        reset_key, key = jax.random.split(key)
        states = jax.vmap(env.reset)(jax.random.split(reset_key, num_envs))
        return jax.lax.scan(step, states, jax.random.split(key, num_steps))

    _, (rewards, costs) = rollout(jax.random.key(0))  # [num_steps, num_envs] each
    print(f"return {rewards.sum(0).mean():.3f}, cost {costs.sum(0).mean():.3f} of {num_steps} random steps")


if __name__ == "__main__":
    tyro.cli(main)
