"""For tests of pictures: short recordings of real worlds, and what this machine lacks."""

import functools

import jax
import numpy as np
import pytest
from worlds import B, row, world_of

from mjx_safety.viz import opengl
from mjx_safety.viz.episodes import Recording

STEPS, WORLDS = 6, 2


def why_no_opengl():
    """Why nothing can be drawn here; empty if it can."""
    try:
        opengl.choose_backend()
    except opengl.NoOpenGLError as error:
        return str(error)
    return ""


needs_opengl = pytest.mark.skipif(bool(why_no_opengl()), reason=why_no_opengl())


@functools.cache
def recording_of(env_id, cost_limit=25.0):
    """`WORLDS` worlds of `STEPS` steps under random actions, each costing in steps 3 to 5."""
    world = world_of(env_id)
    states = [world.resets(jax.random.split(jax.random.key(3), B))]
    for action in world.actions(STEPS, B):
        states.append(world.steps(states[-1], action))
    kept = [jax.device_get(row(state.replace(key=None), slice(0, WORLDS))) for state in states]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *kept)
    cost = np.zeros((STEPS + 1, WORLDS), np.float32)
    cost[3:6] = 1.0
    return Recording(world.env, stacked.replace(cost=cost), f"{env_id} <random>", cost_limit)
