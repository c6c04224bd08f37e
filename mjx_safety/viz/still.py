"""One picture of one state, or of several side by side, for notebooks."""

from __future__ import annotations

import jax
import numpy as np
from PIL import Image

from mjx_safety.env.base import AbstractEnv
from mjx_safety.types import State
from mjx_safety.viz.arguments import require_states
from mjx_safety.viz.film import tile
from mjx_safety.viz.frames import FrameDrawer, check_camera, check_size

MAX_WORLDS = 64  # in one picture


def render(
    env: AbstractEnv, state: State, *, camera: str = "track", width: int = 480, height: int = 360, halo: bool = True
) -> Image.Image:
    """Draw a state by MuJoCo's renderer. Notebooks show the returned image.

    state: of one world, or of a batch [B], drawn side by side; camera: one of `CAMERAS`; width, height: of one world,
    pixels; halo: draw the lidar readings above the robot. A red ball marks a state that costs. Raises `NoOpenGLError`
    if this machine cannot draw, and names what to install. `draw_top_view` always works.
    """
    shape = require_states(env, state, "render")
    check_camera(env, camera)
    check_size(width, height)
    if not isinstance(halo, (bool, np.bool_)):
        raise ValueError(f"halo is {halo!r}; it must be True or False")
    if len(shape) > 1 or (shape and not 0 < shape[0] <= MAX_WORLDS):
        raise ValueError(
            f"render draws one world or a batch of up to {MAX_WORLDS}, and this state has the shape {shape};"
            " choose some with jax.tree.map(lambda x: x[:4], state)"
        )
    state = jax.device_get(state.replace(key=None))
    states = [_row(state, i) for i in range(shape[0])] if shape else [state]
    with FrameDrawer(env, width, height) as drawer:
        return Image.fromarray(tile([drawer.draw(one, camera, halo=halo) for one in states]))


def _row(states: State, index: int) -> State:
    return jax.tree.map(lambda leaf: leaf[index], states)
