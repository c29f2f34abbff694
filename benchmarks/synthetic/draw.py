"""One object drawn: from kind, colour, pattern and pose to a small picture with its exact coverage.

Everything is rasterized once, at three times the size, as one image of paint indices; the picture and the
coverage are both that image shrunk, so they agree to the pixel. Knows nothing of scenes.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pam_edge.benchmarks.synthetic.geometry import Points
from pam_edge.benchmarks.synthetic.palette import PAINTS, colour_named, paint_table
from pam_edge.benchmarks.synthetic.shapes import shape

SUPERSAMPLE = 3
_OUTLINE = 1.2  # width of the rim outside a part, pixels of the finished picture at scale 1
_BODY, _SECOND = PAINTS.index("body"), PAINTS.index("second")


class Pose(NamedTuple):
    """Where and how an object lies: centre and longest side in pixels, angle clockwise in degrees."""

    x: float
    y: float
    size: float
    angle: float
    mirrored: bool = False


class Look(NamedTuple):
    """What an object is and how it is painted. `jitter` shifts its colours, in steps of 8-bit RGB."""

    kind: str
    colour: str
    pattern: str
    jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    phase: float = 0.0  # shift of the pattern, fraction of its period


class Sprite(NamedTuple):
    """A drawn object: its RGB picture, coverage 0..255 ("L"), and the pixel of its top left corner."""

    picture: Image.Image
    coverage: Image.Image
    left: int
    top: int


def draw(look: Look, pose: Pose, *, scale: float = 1.0) -> Sprite:
    """Rasterize one object. `scale` is the size of the scene over 256, which rims and patterns follow."""
    index, left, top = _rasterized(look, pose, scale)
    coverage = index.point(_SOLID).reduce(SUPERSAMPLE)
    index.putpalette(_palette(look.colour, look.jitter), rawmode="RGB")
    return Sprite(index.convert("RGB").reduce(SUPERSAMPLE), coverage, left, top)


def body_coverage(look: Look, pose: Pose, *, scale: float = 1.0) -> tuple[Image.Image, int, int]:
    """Coverage of the parts that show the object's colour, and the pixel of its top left corner."""
    index, left, top = _rasterized(look, pose, scale)
    return index.point(_COLOURED).reduce(SUPERSAMPLE), left, top


def _rasterized(look: Look, pose: Pose, scale: float) -> tuple[Image.Image, int, int]:
    """The image of paint indices, three times the size, and where its corner goes in the picture."""
    cos, sin = math.cos(math.radians(pose.angle)), math.sin(math.radians(pose.angle))
    flip = -1.0 if pose.mirrored else 1.0
    turn = np.array([[cos * flip, sin * flip], [-sin, cos]])
    turn *= pose.size
    parts = [(paint, points @ turn, sharp @ turn) for paint, points, sharp in _prepared(look.kind)]
    every = np.concatenate([points for paint, points, _ in parts if paint])
    rim = math.ceil(_OUTLINE * scale) + 1
    centre = np.array([pose.x, pose.y])
    left, top = (math.floor(v) - rim for v in every.min(axis=0) + centre)
    right, bottom = (math.ceil(v) + rim for v in every.max(axis=0) + centre)
    width, height = right - left, bottom - top
    index = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE), 0)
    origin = np.array([pose.x - left, pose.y - top])
    placed = [(p, (q + origin) * SUPERSAMPLE, (s + origin) * SUPERSAMPLE) for p, q, s in parts]
    _fill_parts(index, placed, scale)
    return _patterned(index, look, pose, (origin, scale)), left, top


_SOLID = [0] + [255] * 255
_COLOURED = [255 if i in (_BODY, _SECOND) else 0 for i in range(256)]


@functools.lru_cache(maxsize=4096)
def _palette(colour: str, jitter: tuple[float, float, float]) -> bytes:
    return paint_table(colour_named(colour), np.array(jitter)).tobytes()


@functools.cache
def _prepared(kind: str) -> tuple[tuple[int, Points, Points], ...]:
    """Per part: paint index, outline, and its sharp corners (thick lines leave notches there)."""
    prepared = []
    for paint, points in shape(kind):
        ahead, behind = np.roll(points, -1, axis=0) - points, points - np.roll(points, 1, axis=0)
        cross = ahead[:, 0] * behind[:, 1] - ahead[:, 1] * behind[:, 0]
        bend = np.abs(np.degrees(np.arctan2(cross, (ahead * behind).sum(axis=1))))
        prepared.append((PAINTS.index(paint), points, points[bend > 25]))
    return tuple(prepared)


def _fill_parts(index: Image.Image, parts: list[tuple[int, Points, Points]], scale: float) -> None:
    """Paint parts in order; neighbours in the list with the same paint get one rim around them all."""
    pen = ImageDraw.Draw(index)
    radius = _OUTLINE * scale * SUPERSAMPLE
    outline = PAINTS.index("outline")
    start = 0
    while start < len(parts):
        end = start
        while end < len(parts) and parts[end][0] == parts[start][0]:
            end += 1
        flat = [points.ravel().tolist() for _, points, _ in parts[start:end]]
        for xy, (_, _, sharp) in zip(flat, parts[start:end], strict=True):
            pen.line(xy + xy[:2], fill=outline, width=round(2 * radius))
            for x, y in sharp.tolist():
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=outline)
        for xy in flat:
            pen.polygon(xy, fill=parts[start][0])
        start = end


def _patterned(index: Image.Image, look: Look, pose: Pose, place: tuple[Points, float]) -> Image.Image:
    """The index image with the second colour wherever the pattern falls on the body."""
    if look.pattern == "plain":
        return index
    origin, scale = place
    period = min(max(0.19 * pose.size, 9.5 * scale), 17.0 * scale) * SUPERSAMPLE
    radians = math.radians(pose.angle + (45 if look.pattern == "striped" else 0))
    cos, sin = math.cos(radians) / period, math.sin(radians) / period
    width, height = index.size
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(origin[0] * SUPERSAMPLE)
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(origin[1] * SUPERSAMPLE)
    u = x * np.float32(cos) + (y * np.float32(sin) + np.float32(look.phase))
    pixels = np.array(index)
    match look.pattern:
        case "striped":
            marked = (u - np.floor(u)) < 0.42
        case _:
            v = y * np.float32(cos) - (x * np.float32(sin) + np.float32(look.phase))
            marked = _dots(u, v) if look.pattern == "dotted" else _squares(u, v)
    pixels[marked & (pixels == _BODY)] = _SECOND
    return Image.fromarray(pixels)


def _dots(u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Round spots on a grid, every other row shifted by half a step."""
    row = np.floor(v)
    du, dv = u + 0.5 * (row % 2), v - row - 0.5
    du = du - np.floor(du) - 0.5
    return np.asarray(du * du + dv * dv < 0.3**2)


def _squares(u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.bool_]:
    """A chequerboard, two squares to a period and a half."""
    return np.asarray((np.floor(u * 1.4) + np.floor(v * 1.4)) % 2 == 0)
