"""Curves as inline SVG: small, sharp in print, no library. Colours come from the page's own CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
POINTS = 400
"""Most points of a drawn line; more would only make the file larger."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    style: str = "a"
    """CSS class: `a` or `b`; with `dots` every point is marked."""
    dots: bool = False


def chart(lines: Sequence[Line], x_name: str, size: tuple[int, int] = (720, 260)) -> str:
    """The lines as one SVG with axes; empty when there is nothing to draw."""
    width, height = size
    drawn = [line for line in lines if line.points]
    if not drawn:
        return ""
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points if math.isfinite(y)]
    if not ys:
        return ""
    x_ticks, y_ticks = ticks(min(xs), max(xs), width // 85), ticks(min(ys), max(ys), height // 52)
    frame = _Frame((min(xs), max(xs)), (min(y_ticks[0], *ys), max(y_ticks[-1], *ys)), size)
    names = ", ".join(line.name for line in drawn)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(names)} over {x_name}">',
        *_axes(frame, x_ticks, y_ticks, x_name),
        *(_draw(frame, line) for line in drawn),
        "</svg>",
    ]
    return "".join(parts)


@dataclass(frozen=True)
class _Frame:
    """The plane of the data, and where it lies in the picture."""

    x_range: Point
    y_range: Point
    size: tuple[int, int]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / ((high - low) or 1) * (self.size[0] - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        share = (value - low) / ((high - low) or 1)
        return self.size[1] - BOTTOM - share * (self.size[1] - TOP - BOTTOM)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that cover `low` to `high`."""
    span = (high - low) or abs(high) or 1.0
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _axes(frame: _Frame, x_ticks: list[float], y_ticks: list[float], x_name: str) -> list[str]:
    parts, (width, height) = [], frame.size
    for tick in y_ticks:
        y = frame.y(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{width - RIGHT}"/>')
        parts.append(f'<text class="end" x="{LEFT - 8}" y="{y + 4:.1f}">{tick:g}</text>')
    low, high = frame.x_range
    for tick in x_ticks:
        if low <= tick <= high:
            x = frame.x(tick)
            parts.append(
                f'<text class="mid" x="{x:.1f}" y="{height - BOTTOM + 18}">{tick:g}</text>'
            )
    parts.append(f'<text class="end" x="{width - RIGHT}" y="{height - 2}">{escape(x_name)}</text>')
    return parts


def _draw(frame: _Frame, line: Line) -> str:
    """A path that is broken where a value is not finite."""
    path, pen_up = [], True
    for x, y in thin(line.points, POINTS):
        if math.isfinite(y):
            path.append(f"{'M' if pen_up else 'L'}{frame.x(x):.1f} {frame.y(y):.1f}")
        pen_up = not math.isfinite(y)
    dots = [
        f'<circle class="{line.style}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3"/>'
        for x, y in line.points
        if math.isfinite(y) and ((line.dots and len(line.points) <= 60) or len(line.points) == 1)
    ]
    return f'<path class="line {line.style}" d="{"".join(path)}"/>' + "".join(dots)


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` points: means of equal stretches, with the first and last kept."""
    if len(points) <= most:
        return list(points)
    size = len(points) / (most - 2)
    middle = []
    for index in range(most - 2):
        part = points[int(index * size) : max(int((index + 1) * size), int(index * size) + 1)]
        middle.append((sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)))
    return [points[0], *middle, points[-1]]


def smooth(points: Sequence[Point], weight: float = 0.9) -> list[Point]:
    """Exponential moving mean without the bias towards the start (as Adam corrects it)."""
    mean, share, smoothed = 0.0, 0.0, []
    for x, y in points:
        if not math.isfinite(y):
            continue
        mean = weight * mean + (1 - weight) * y
        share = weight * share + (1 - weight)
        smoothed.append((x, mean / share))
    return smoothed
