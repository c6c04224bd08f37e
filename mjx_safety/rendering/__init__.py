"""Pictures of worlds. Host code; nothing below imports it."""

from mjx_safety.rendering.top_view import draw_top_view, heading

__all__ = ["draw_top_view", "heading"]
