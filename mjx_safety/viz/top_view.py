"""A world seen from above, drawn with matplotlib. It needs no OpenGL and no display.

Solid bodies and the robot are drawn from the model's geoms. Markers have no geoms and are drawn from the shapes of
their kind. The outline of a convex solid is the polygon of its furthest points along horizontal directions. Meshes are
drawn as their convex hull, the shape that MuJoCo collides.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import MaxNLocator

from mjx_safety.env.base import AbstractEnv
from mjx_safety.types import State
from mjx_safety.viz.arguments import require_one
from mjx_safety.viz.solids import Solid, geoms, markers, pose

SIZE = 3.2  # inches, edge of a new figure
MARGIN = 0.35  # m, shown around the extents
NUM_DIRECTIONS = 72  # corners of a circle
FORWARD_CAMERA = "vision"  # the robot's camera of this name looks forward
EDGE_SHADE, EDGE_ALPHA, EDGE_WIDTH = 0.6, 0.7, 0.6  # outlines: darker and less transparent than the inside
LOWEST, TOPMOST = 2.0, 100.0  # drawing order: above the grid; above every object


def draw_top_view(env: AbstractEnv, state: State, axes: Axes | None = None) -> Axes:
    """Draw one world from above, in metres, and return the axes (`axes.figure.savefig` writes a file).

    state: of one world, not of a batch; axes: by default those of a new figure. A thin line shows the extents. The
    picture follows a robot that leaves the area around them. A triangle shows the robot's `heading`. The `gid` of each
    patch is the name of its object. Raises ValueError for a batch of worlds and for axes of another type.
    """
    require_one(env, state, "draw_top_view")
    if not isinstance(axes, Axes | None):
        raise ValueError(
            f"draw_top_view got axes of the type {type(axes).__name__}; it takes Axes of matplotlib, or None"
        )
    if axes is None:
        axes = Figure(figsize=(SIZE, SIZE), layout="constrained").add_subplot()
    model, data = env.mj_model, pose(env.mj_model, state)
    solids = geoms(model, data)
    for solid in [*markers(env, state), *solids]:
        axes.add_patch(_patch(solid))
    root = data.body("robot").xpos[:2].copy()
    robot = np.concatenate([outline(solid) for solid in solids if solid.name == "robot"] or [root[None]])
    axes.add_patch(_triangle(root, heading(model, data), float(np.linalg.norm(robot - root, axis=-1).max())))
    _frame(axes, env.extents, root)
    return axes


def heading(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Horizontal unit vector [2], world frame: the view of the robot's camera `vision`, else the root's +x axis."""
    if not (isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData)):
        given = f"a {type(model).__name__} and a {type(data).__name__}"
        raise ValueError(f"heading got {given}; it takes a mujoco.MjModel, such as env.mj_model, and its MjData")
    mujoco.mj_camlight(model, data)
    ahead = data.body("robot").xmat.reshape(3, 3)[:2, 0]
    if FORWARD_CAMERA in {model.camera(i).name for i in range(model.ncam)}:
        view = -data.camera(FORWARD_CAMERA).xmat.reshape(3, 3)[:2, 2]
        ahead = view if np.linalg.norm(view) > 1e-6 else ahead  # a camera may look straight down
    return ahead / max(float(np.linalg.norm(ahead)), 1e-6)


def outline(solid: Solid) -> np.ndarray:
    """Corners [K, 2] m of a solid seen from above, counter-clockwise."""
    angles = 2 * math.pi * np.arange(NUM_DIRECTIONS) / NUM_DIRECTIONS
    corners = _furthest(solid, np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=-1))[:, :2]
    is_new = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=-1) > 1e-9
    return corners[is_new] if is_new.any() else corners[:1]


def _furthest(solid: Solid, directions: np.ndarray) -> np.ndarray:
    """Points [K, 3] m of a solid furthest along directions [K, 3], world frame."""
    ways = directions @ solid.mat
    if solid.vertices is None:
        points = _FURTHEST[solid.geom_type](solid.size, ways)
    else:
        points = solid.vertices[np.argmax(ways @ solid.vertices.T, axis=-1)]
    return solid.pos + points @ solid.mat.T


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


_Z = np.array([0.0, 0.0, 1.0])
_FURTHEST = {  # type -> function of its size [3] m and of unit directions [K, 3], own frame
    int(mujoco.mjtGeom.mjGEOM_SPHERE): lambda size, ways: size[0] * ways,
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): lambda size, ways: size[0] * ways + size[1] * np.sign(ways) * _Z,
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): lambda size, ways: size * _unit(size * ways),
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): (
        lambda size, ways: size[0] * _unit(ways * (1 - _Z)) + size[1] * np.sign(ways) * _Z
    ),
    int(mujoco.mjtGeom.mjGEOM_BOX): lambda size, ways: size * np.sign(ways),
}


def _patch(solid: Solid) -> Polygon:
    *rgb, alpha = solid.rgba
    edge = [EDGE_SHADE * x for x in rgb]
    top = float(_furthest(solid, _Z[None])[0, 2])
    return Polygon(
        outline(solid),
        facecolor=(*rgb, alpha),
        edgecolor=(*edge, max(alpha, EDGE_ALPHA)),
        linewidth=EDGE_WIDTH,
        zorder=min(LOWEST + max(top, 0.0), TOPMOST - 1),
        gid=solid.name,
    )


def _triangle(root: np.ndarray, ahead: np.ndarray, reach: float) -> Polygon:
    """A triangle ahead of the robot. root: [2] m; ahead: [2] unit vector; reach: m, radius of the robot."""
    length = 0.9 * reach
    aside = 0.4 * length * np.array([-ahead[1], ahead[0]])
    base = root + (reach + 0.25 * length) * ahead
    corners = [base - aside, base + aside, base + length * ahead]
    return Polygon(corners, facecolor="black", edgecolor="none", zorder=TOPMOST, gid="heading")


def _frame(axes: Axes, extents: tuple[float, float, float, float], root: np.ndarray) -> None:
    """Draw the extents and set the visible area. root: [2] m, the robot."""
    low, high = np.array(extents[:2], float), np.array(extents[2:], float)
    axes.add_patch(
        Rectangle(tuple(low), *(high - low), fill=False, edgecolor="0.55", linewidth=0.8, zorder=1, gid="extents")
    )
    is_away = np.any((root < low - MARGIN) | (root > high + MARGIN))
    shift = root - (low + high) / 2 if is_away else np.zeros(2)
    (left, bottom), (right, top) = low - MARGIN + shift, high + MARGIN + shift
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="x (m)", ylabel="y (m)", aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    axes.spines[:].set_color("0.8")
    axes.tick_params(color="0.8")
