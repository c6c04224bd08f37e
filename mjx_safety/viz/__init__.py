"""Pictures of worlds (host)."""

from mjx_safety.viz.frames import CAMERAS
from mjx_safety.viz.lidar_view import plot_lidar
from mjx_safety.viz.opengl import NoOpenGLError
from mjx_safety.viz.still import render
from mjx_safety.viz.top_view import draw_top_view, heading

__all__ = ["CAMERAS", "NoOpenGLError", "draw_top_view", "heading", "plot_lidar", "render"]
