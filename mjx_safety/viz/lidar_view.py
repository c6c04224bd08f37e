"""A picture of a world's lidars: the directions around the robot, and the readings as bars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge

from mjx_safety.env.base import AbstractEnv
from mjx_safety.types import State
from mjx_safety.viz.arguments import require_one
from mjx_safety.viz.frames import bin_angles, lidar_readings
from mjx_safety.viz.solids import pose
from mjx_safety.viz.top_view import TOPMOST, draw_top_view
from mjx_safety.world.lidar import Lidar

RING, WIDTH = 0.3, 0.11  # m, from the robot to the first ring; width of a ring; in a picture of USUAL m
USUAL = 4.7  # m, of the benchmark's arenas with their margin
MOST_TICKS = 20  # numbers of bins below a panel of bars
FAINT, PALE = "0.75", "0.45"
CARD = {"boxstyle": "round,pad=0.15", "facecolor": (1, 1, 1, 0.75), "edgecolor": "none"}  # background of numbers
LEAST = 1e-3  # a smaller reading counts as nothing seen


def plot_lidar(env: AbstractEnv, state: State) -> Figure:
    """Draw one world from above, with a ring of readings per kind of object around the robot, and bars beside it.

    A line leads to the nearest object in each direction. Its distance stands above the bar. Raises ValueError for a
    batch of worlds and for an environment without lidars.
    """
    require_one(env, state, "plot_lidar")
    readings = lidar_readings(env, state)
    if not readings:
        raise ValueError(
            f"plot_lidar: no kind of object has a lidar in this environment (of the robot {env.robot_name})"
        )
    figure = Figure(figsize=(12, 6.8), layout="constrained")
    left, right = np.ravel(np.array(figure.subfigures(1, 2, width_ratios=(1.15, 1.0))))
    view = draw_top_view(env, state, left.add_subplot())
    model = env.scene.true_model
    root = pose(model, state).body("robot")
    pos, mat = root.xpos.copy(), root.xmat.reshape(3, 3).copy()
    unit = _unit(view)
    _draw_directions(view, env.config.lidar, pos, _yaw(mat), len(readings), unit)
    panels = np.atleast_1d(right.subplots(len(readings), 1, sharex=True, sharey=True))
    for ring, (panel, (kind, values)) in enumerate(zip(panels, readings.items(), strict=True)):
        colour = env.objects[kind].rgba[:3]
        nearest = _nearest(env.config.lidar, _positions(env, state, kind), pos, mat)
        if _is_hidden(env.config.lidar, values, nearest):
            nearest, name = {}, f"{kind} (hidden)"
        else:
            name = kind
        if env.config.lidar.kind == "pseudo":
            _draw_ring(view, values, pos, _yaw(mat), (RING + WIDTH * ring) * unit, WIDTH * unit, colour)
            for place, _ in nearest.values():
                line = ([pos[0], place[0]], [pos[1], place[1]])
                view.plot(*line, color=colour, linewidth=1.0, linestyle=":", zorder=TOPMOST)
        else:
            _draw_rays(view, bin_angles(env), values, pos, _yaw(mat), colour)
        _draw_bars(panel, name, values, nearest if env.config.lidar.kind == "pseudo" else {}, colour)
    panels[-1].set(xlabel="bin, counter-clockwise from the robot's x axis", xticks=_ticks(env.config.lidar.num_bins))
    figure.suptitle(explain(env.config.lidar), fontsize=11)
    return figure


def _ticks(num_bins: int) -> range:
    """Return the bins whose numbers stand below the bars: all, or as many as do not overlap."""
    return range(0, num_bins, -(-num_bins // MOST_TICKS))


def explain(lidar: Lidar) -> str:
    """Return a sentence that explains a reading."""
    if lidar.kind == "natural":
        return (
            "Natural lidar: a ray along the first edge of each sector reads exp(-distance in m) to the surface it hits"
        )
    if lidar.max_dist is None:
        formula = f"exp(-{float(lidar.exp_gain):g} distance in m)"
    else:
        formula = f"1 - distance / {float(lidar.max_dist):g} m"
    shared = ",\nand shares it with the two neighbouring sectors, by closeness to them" if lidar.alias else ""
    return f"Each sector reads {formula} of the nearest object in it{shared}"


def _unit(view: Axes) -> float:
    """Return the size of the rings, which grow with an arena that is larger than the benchmark's."""
    low, high = view.get_ylim()
    return max(1.0, (high - low) / USUAL)


def _draw_directions(view: Axes, lidar: Lidar, pos: np.ndarray, yaw: float, rings: int, unit: float) -> None:
    """Draw sectors, their numbers, and the range of the lidar."""
    inner, outer = RING * unit, (RING + WIDTH * rings) * unit
    far = math.hypot(np.ptp(view.get_xlim()), np.ptp(view.get_ylim()))
    if lidar.kind == "pseudo" and lidar.max_dist is not None:
        style = {"fill": False, "edgecolor": PALE, "linewidth": 0.8, "linestyle": "--", "zorder": TOPMOST}
        view.add_patch(Circle((pos[0], pos[1]), float(lidar.max_dist), **style, gid="reach"))
    for bin_ in range(lidar.num_bins):
        edge, middle = (yaw + 2 * math.pi * (bin_ + share) / lidar.num_bins for share in (0.0, 0.5))
        if lidar.kind == "pseudo":
            ends = [pos[:2] + radius * np.array([math.cos(edge), math.sin(edge)]) for radius in (inner, far)]
            view.plot(*np.transpose(ends), color=FAINT, linewidth=0.5, zorder=1.5, scalex=False, scaley=False)
        angle = middle if lidar.kind == "pseudo" else edge
        x, y = pos[:2] + (outer + 0.09 * unit) * np.array([math.cos(angle), math.sin(angle)])
        number = view.text(x, y, str(bin_), fontsize=7, ha="center", va="center", zorder=TOPMOST + 2, clip_on=True)
        number.set_bbox(CARD)


def _draw_ring(
    view: Axes, values: np.ndarray, pos: np.ndarray, yaw: float, radius: float, width: float, colour: Any
) -> None:
    """Draw the readings of one kind. A larger reading is more opaque. radius: m, of its inner edge; width: m."""
    turn = 360.0 / len(values)
    for bin_, value in enumerate(values):
        start = math.degrees(yaw) + turn * bin_
        place = ((pos[0], pos[1]), radius + width, start, start + turn)
        paper = Wedge(*place, width=width, facecolor=(1, 1, 1, 0.45), edgecolor=FAINT, linewidth=0.4, zorder=TOPMOST)
        view.add_patch(paper)
        ink = Wedge(*place, width=width, facecolor=(*colour, float(np.clip(value, 0, 1))), zorder=TOPMOST + 1)
        view.add_patch(ink)


def _draw_rays(view: Axes, angles: np.ndarray, values: np.ndarray, pos: np.ndarray, yaw: float, colour: Any) -> None:
    """Draw the rays of one kind up to the points that they hit."""
    for angle, value in zip(angles + yaw, values, strict=True):
        if value > LEAST:
            end = pos[:2] - math.log(value) * np.array([math.cos(angle), math.sin(angle)])
            line = ([pos[0], end[0]], [pos[1], end[1]])
            view.plot(*line, color=colour, linewidth=1.0, marker=".", markevery=[1], zorder=TOPMOST)


def _is_hidden(lidar: Lidar, values: np.ndarray, nearest: Mapping[int, tuple[np.ndarray, float]]) -> bool:
    """Return whether the lidar sees none of the objects within its reach, as of buttons for a while after a press."""
    reach = math.inf if lidar.max_dist is None else float(lidar.max_dist)
    return not values.any() and any(distance < reach for _, distance in nearest.values())


def _draw_bars(panel: Axes, name: str, values: np.ndarray, nearest: dict, colour: Any) -> None:
    panel.bar(range(len(values)), values, color=colour, edgecolor="0.3", linewidth=0.5, width=0.9)
    for bin_, (_, distance) in nearest.items():
        panel.text(bin_, float(values[bin_]) + 0.04, f"{distance:.2f} m", fontsize=7, ha="center", rotation=90)
    panel.set(ylim=(0, 1.5), yticks=(0, 0.5, 1))  # with room for a distance above a bar of 1
    panel.set_title(f"{name.replace('_', ' ')} lidar", fontsize=10, loc="left")
    panel.spines[["top", "right"]].set_visible(False)


def _nearest(lidar: Lidar, places: np.ndarray, pos: np.ndarray, mat: np.ndarray) -> dict[int, tuple[np.ndarray, float]]:
    """Return the nearest object per sector: its place [2] m and distance m. places: [N, >=2] m."""
    found: dict[int, tuple[np.ndarray, float]] = {}
    for place in places[:, :2]:
        ego = (mat.T @ (np.append(place, 0.0) - pos))[:2]
        distance = float(np.linalg.norm(ego))
        bin_ = int(math.atan2(ego[1], ego[0]) / (2 * math.pi) % 1.0 * lidar.num_bins)
        if bin_ not in found or distance < found[bin_][1]:
            found[bin_] = (place, distance)
    return found


def _positions(env: AbstractEnv, state: State, kind: str) -> np.ndarray:
    """Places [N, 3] m of a kind's objects."""
    if kind in state.places.markers:
        return np.asarray(state.places.markers[kind], float)
    data = pose(env.scene.true_model, state)
    return np.array([data.body(f"{kind}{i}").xpos for i in range(env.objects[kind].num)])


def _yaw(mat: np.ndarray) -> float:
    """Direction of the robot's x axis, rad."""
    return math.atan2(mat[1, 0], mat[0, 0])
