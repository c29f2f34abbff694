"""Outlines: points of closed polygons on a sheet of 100 x 100 units, y downwards.

Knows nothing of objects, colours or pixels. Every function returns float64 [N, 2]; angles are degrees, 0
points right and 90 points down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
XY = tuple[float, float]


class Part(NamedTuple):
    """One filled outline of a shape. `paint` is a name of `palette.PAINTS`."""

    paint: str
    points: Points


def polygon(*corners: XY) -> Points:
    """Straight edges between the corners."""
    return np.array(corners, dtype=np.float64)


def rectangle(x0: float, y0: float, x1: float, y1: float, *, radius: float = 0.0) -> Points:
    """Upright rectangle, its corners rounded by `radius`."""
    if radius <= 0:
        return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    corners = ((x1, y0, -90.0), (x1, y1, 0.0), (x0, y1, 90.0), (x0, y0, 180.0))
    arcs = []
    for x, y, start in corners:
        cx = x - radius if x == x1 else x + radius
        cy = y - radius if y == y1 else y + radius
        arcs.append(_along(XYR(cx, cy, radius, radius), start, start + 90, 6))
    return np.concatenate(arcs)


class XYR(NamedTuple):
    """Centre and half axes of an ellipse."""

    x: float
    y: float
    rx: float
    ry: float


def ellipse(x: float, y: float, rx: float, ry: float | None = None) -> Points:
    """Full ellipse; a circle where `ry` is left out."""
    return _along(XYR(x, y, rx, rx if ry is None else ry), 0, 360, 28)[:-1]


def sector(around: XYR, start: float, end: float) -> Points:
    """The part of an ellipse between two angles, closed by its chord."""
    return _along(around, start, end, 20)


def band(around: XYR, width: float, start: float, end: float) -> Points:
    """A bow of even width along an ellipse, from one angle to another."""
    half = width / 2
    outer = _along(XYR(around.x, around.y, around.rx + half, around.ry + half), start, end, 20)
    inner = _along(XYR(around.x, around.y, around.rx - half, around.ry - half), end, start, 20)
    return np.concatenate([outer, inner])


def bar(start: XY, end: XY, width: float, *, round_ends: bool = True) -> Points:
    """A thick line."""
    (x0, y0), (x1, y1) = start, end
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    r = width / 2
    steps = 7 if round_ends else 2
    return np.concatenate(
        [
            _along(XYR(x1, y1, r, r), angle - 90, angle + 90, steps),
            _along(XYR(x0, y0, r, r), angle + 90, angle + 270, steps),
        ]
    )


def smooth(*through: XY, steps: int = 5) -> Points:
    """A closed soft curve through the points (Catmull-Rom)."""
    p = np.array(through, dtype=np.float64)
    before, after, beyond = np.roll(p, 1, axis=0), np.roll(p, -1, axis=0), np.roll(p, -2, axis=0)
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (q[:, None, :] for q in (before, p, after, beyond))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(curve.reshape(-1, 2))


def mirrored(points: Points, *, about: float = 50.0) -> Points:
    """The same outline seen in a mirror standing at x = `about`."""
    out = points.copy()
    out[:, 0] = 2 * about - out[:, 0]
    return out


def turned(points: Points, angle: float, *, about: XY = (50.0, 50.0)) -> Points:
    """The outline turned clockwise on the screen by `angle` degrees."""
    radians = math.radians(angle)
    cos, sin = math.cos(radians), math.sin(radians)
    rotation = np.array([[cos, sin], [-sin, cos]])
    return np.asarray((points - about) @ rotation + about)


def normalized(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Moved and scaled so that the bounding box is centred on 0 and its longer side is 1."""
    solid = np.concatenate([part.points for part in parts if part.paint != "hole"])
    low, high = solid.min(axis=0), solid.max(axis=0)
    centre, side = (low + high) / 2, float((high - low).max())
    return tuple(Part(part.paint, (part.points - centre) / side) for part in parts)


def _along(around: XYR, start: float, end: float, steps: int) -> Points:
    angles = np.radians(np.linspace(start, end, steps))
    return np.stack([around.x + around.rx * np.cos(angles), around.y + around.ry * np.sin(angles)], axis=1)
