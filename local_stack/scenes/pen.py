"""A pen that draws smooth flat shapes in a product's own coordinates, whatever its size, tilt and mirroring."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

_OVERSAMPLING = 3  # drawn three times larger and averaged down: smooth edges without a vector library


def shade(colour: Colour, by: float) -> Colour:
    """The colour, mixed with white (`by` above 0) or black (below 0); -1 is black, 1 is white."""
    target = 255 if by > 0 else 0
    red, green, blue = (round(channel + (target - channel) * abs(by)) for channel in colour)
    return red, green, blue


def arc(centre: Point, radius: Point, start: float = 0, end: float = 360) -> list[Point]:
    """Points along an ellipse, in degrees clockwise from the right (y points down)."""
    steps = max(12, round(abs(end - start) / 6))
    angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(centre[0] + radius[0] * math.cos(angle), centre[1] + radius[1] * math.sin(angle)) for angle in angles]


def curve(start: Point, control: Point, end: Point, steps: int = 16) -> list[Point]:
    """Points along a quadratic Bezier curve."""
    return [
        (
            (1 - t) ** 2 * start[0] + 2 * t * (1 - t) * control[0] + t * t * end[0],
            (1 - t) ** 2 * start[1] + 2 * t * (1 - t) * control[1] + t * t * end[1],
        )
        for t in (step / steps for step in range(steps + 1))
    ]


def rounded(left: float, top: float, right: float, bottom: float, radius: float) -> list[Point]:
    """A rectangle with rounded corners."""
    corner = (radius, radius)
    return [
        *arc((right - radius, bottom - radius), corner, 0, 90),
        *arc((left + radius, bottom - radius), corner, 90, 180),
        *arc((left + radius, top + radius), corner, 180, 270),
        *arc((right - radius, top + radius), corner, 270, 360),
    ]


class Pen:
    """Draws on a transparent square of `size` pixels, whose middle is (0, 0) and whose unit is `unit` pixels."""

    def __init__(self, size: int, unit: float, tilt_degrees: float, mirrored: bool) -> None:
        self._image = Image.new("RGBA", (size * _OVERSAMPLING, size * _OVERSAMPLING))
        self._draw = ImageDraw.Draw(self._image)
        self._unit = unit * _OVERSAMPLING
        self._middle = size * _OVERSAMPLING / 2
        self._cos, self._sin = math.cos(math.radians(tilt_degrees)), math.sin(math.radians(tilt_degrees))
        self._side = -1 if mirrored else 1

    def fill(self, points: Iterable[Point], colour: Colour) -> None:
        self._draw.polygon([self._place(point) for point in points], fill=colour)

    def stroke(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A line through the points, with round joints and ends."""
        placed = [self._place(point) for point in points]
        self._draw.line(placed, fill=colour, width=max(1, round(width * self._unit)), joint="curve")
        radius = width * self._unit / 2
        for x, y in (placed[0], placed[-1]):
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def finish(self) -> Image.Image:
        return self._image.reduce(_OVERSAMPLING)

    def _place(self, point: Point) -> Point:
        x, y = point[0] * self._side, point[1]
        return (
            self._middle + (x * self._cos - y * self._sin) * self._unit,
            self._middle + (x * self._sin + y * self._cos) * self._unit,
        )
