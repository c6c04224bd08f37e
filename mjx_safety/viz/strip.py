"""The strip below a picture: return, cost and limit as numbers, and the cost as a curve. Drawn with Pillow."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HEIGHT = 64  # pixels
TEXT_WIDTH = 168  # pixels, for the numbers
PAD = 6  # pixels
LABEL = 12  # pixels, height of the smallest text
CHART_WIDTH = 72  # pixels, at least; a narrower strip has no curve
SMALLEST = 6  # pixels, of a font
PAPER, INK, PALE, RED, BLUE = "#ffffff", "#1a1a1a", "#8a8f98", "#d03030", "#3060c0"


class Strip:
    """The strip of one episode. `draw` shows it at one step."""

    def __init__(self, width: int, returns: np.ndarray, costs: np.ndarray, cost_limit: float, dt: float):
        """width: pixels; returns, costs: [T + 1] cumulative; dt: s, length of a step."""
        self.width: int = width
        self.returns: np.ndarray = returns
        self.costs: np.ndarray = costs
        self.cost_limit: float = cost_limit
        self.dt: float = dt
        self._has_chart = width >= TEXT_WIDTH + CHART_WIDTH
        self._left, self._right = TEXT_WIDTH, width - PAD
        self._top, self._bottom = PAD + 4, HEIGHT - PAD - 5
        self._highest = max(float(costs[-1]), cost_limit if np.isfinite(cost_limit) else 0.0, 1.0) * 1.1
        self._paper = self._chart()

    def draw(self, step: int, *, ended: bool = False) -> np.ndarray:
        """Return the picture [HEIGHT, width, 3] uint8. ended: say that the episode is over."""
        image = self._paper.copy()
        draw = ImageDraw.Draw(image)
        cost = float(self.costs[step])
        limit = f" / {self.cost_limit:g}" if np.isfinite(self.cost_limit) else ""
        over = ", ended" if ended else ""
        self._write(draw, 5, f"return {self.returns[step]:.2f}", INK, 16)
        self._write(draw, 24, f"cost {cost:g}{limit}", RED if cost > self.cost_limit else INK, 16)
        self._write(draw, 45, f"step {step}, {step * self.dt:.2f} s{over}", PALE, 12)
        if not self._has_chart:
            return np.asarray(image)
        points = [self._point(t) for t in range(step + 1)]
        if step:
            draw.line(points, fill=BLUE, width=2)
        x, y = points[-1]
        draw.line([(x, self._top - 4), (x, self._bottom + 5)], fill=PALE)
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=RED if cost > self.cost_limit else BLUE)
        return np.asarray(image)

    def _write(self, draw: ImageDraw.ImageDraw, y: int, text: str, fill: str, size: int) -> None:
        """Write a line left of the curve, smaller where it would not fit. y, size: pixels."""
        room = (self._left if self._has_chart else self.width) - 2 * PAD
        while size > SMALLEST and draw.textlength(text, font=font(size)) > room:
            size -= 1
        draw.text((PAD, y), text, fill=fill, font=font(size))

    def _chart(self) -> Image.Image:
        """The fixed part: axis, limit, and a tick for each costly step."""
        image = Image.new("RGB", (self.width, HEIGHT), PAPER)
        draw = ImageDraw.Draw(image)
        draw.line([(0, 0), (self.width, 0)], fill="#d8dade")
        if not self._has_chart:
            return image
        draw.line([(self._left, self._bottom), (self._right, self._bottom)], fill="#d8dade")
        for step in np.flatnonzero(np.diff(self.costs) > 0) + 1:
            x = self._point(int(step))[0]
            draw.line([(x, self._bottom + 1), (x, self._bottom + 5)], fill=RED)
        if np.isfinite(self.cost_limit):
            y = self._height(self.cost_limit)
            for x in range(int(self._left), int(self._right), 8):
                draw.line([(x, y), (x + 4, y)], fill=RED)
            below = y + 1 + LABEL < self._bottom  # else it would hit the axis
            draw.text((self._left, y + 1 if below else y - LABEL), "limit", fill=RED, font=font(10))
        return image

    def _point(self, step: int) -> tuple[float, float]:
        share = step / max(len(self.costs) - 1, 1)
        return self._left + share * (self._right - self._left), self._height(float(self.costs[step]))

    def _height(self, cost: float) -> float:
        return self._bottom - (self._bottom - self._top) * cost / self._highest


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which every machine has."""
    return ImageFont.load_default(size)
