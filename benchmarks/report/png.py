"""A chart as a picture: the same shapes, drawn with PIL at twice the size, its title above."""

from __future__ import annotations

import io
from functools import cache
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from pam_edge.benchmarks.report.palette import COLOURS, Light
from pam_edge.benchmarks.report.shapes import Box, Chart, Dot, Path, Shape, Words

_SCALE, _FINE = 2, 2  # pixels a unit of the result, and how much finer it is drawn
_HEAD, _EDGE = 62, 20  # room for the title, and around


def png(chart: Chart, light: Light) -> bytes:
    """The file's bytes."""
    colours, unit = COLOURS[light], _SCALE * _FINE
    size = (chart.width + 2 * _EDGE) * unit, (chart.height + _HEAD + _EDGE) * unit
    picture = Image.new("RGB", (round(size[0]), round(size[1])), colours["card"])
    pen = _Pen(picture, colours, (_EDGE, _HEAD))
    pen.draw(Words(0, -34, chart.title, "ink", 18, bold=True))
    pen.draw(Words(0, -14, chart.about, "soft", 12))
    for shape in chart.shapes:
        pen.draw(shape)
    small = picture.resize((picture.width // _FINE, picture.height // _FINE), Image.Resampling.LANCZOS)
    raw = io.BytesIO()
    small.save(raw, "PNG", optimize=True)
    return raw.getvalue()


class _Pen:
    def __init__(self, picture: Image.Image, colours: dict[str, str], offset: tuple[float, float]) -> None:
        self._picture, self._draw = picture, ImageDraw.Draw(picture)
        self._colours, self._dx, self._dy = colours, *offset

    def _at(self, x: float, y: float) -> tuple[float, float]:
        unit = _SCALE * _FINE
        return (x + self._dx) * unit, (y + self._dy) * unit

    def draw(self, shape: Shape) -> None:
        unit = _SCALE * _FINE
        match shape:
            case Box(x, y, width, height, fill, radius, _):
                corners = (*self._at(x, y), *self._at(x + max(width, 0.3), y + height))
                round_ = min(radius, width / 2, height / 2) * unit
                self._draw.rounded_rectangle(corners, max(0, round_), fill=self._colours[fill])
            case Path(points, stroke, fill, width, dashed, opacity):
                self._path(points, stroke, fill, width=width, dashed=dashed, opacity=opacity)
            case Dot(x, y, fill, radius, hollow, _):
                for role, r in ((fill if hollow else "card", radius + 1), (fill, radius)):
                    self._disc(x, y, r, role)
                if hollow:
                    self._disc(x, y, radius - 1, "card")
            case Words(x, y, text, fill, size, anchor, bold):
                place = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
                self._draw.text(
                    self._at(x, y),
                    text,
                    fill=self._colours[fill],
                    font=_font(size * unit),
                    anchor=place,
                    stroke_width=0.6 if bold else 0,
                    stroke_fill=self._colours[fill],
                )

    def _disc(self, x: float, y: float, radius: float, role: str) -> None:
        corners = (*self._at(x - radius, y - radius), *self._at(x + radius, y + radius))
        self._draw.ellipse(corners, fill=self._colours[role])

    def _path(
        self,
        points: tuple[tuple[float, float], ...],
        stroke: str,
        fill: str,
        *,
        width: float,
        dashed: bool,
        opacity: float,
    ) -> None:
        places = [self._at(x, y) for x, y in points]
        colour = self._colours[fill or stroke]
        if opacity < 1:
            colour = _mixed(colour, self._colours["card"], opacity)
        if fill:
            self._draw.polygon(places, fill=colour)
            return
        thick = max(1, round(width * _SCALE * _FINE))
        if not dashed:
            self._draw.line(places, fill=colour, width=thick, joint="curve")
            return
        for (x0, y0), (x1, y1) in pairwise(places):
            long, step = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 9.0 * _SCALE * _FINE
            for n in range(int(long // step) + 1):
                a, b = n * step / max(long, 1), min(1.0, (n * step + 5 / 9 * step) / max(long, 1))
                ends = [(x0 + t * (x1 - x0), y0 + t * (y1 - y0)) for t in (a, b)]
                self._draw.line(ends, fill=colour, width=thick)


def _mixed(colour: str, under: str, opacity: float) -> str:
    parts = (
        round(opacity * int(colour[i : i + 2], 16) + (1 - opacity) * int(under[i : i + 2], 16))
        for i in (1, 3, 5)
    )
    return "#" + "".join(f"{part:02x}" for part in parts)


@cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """PIL's own: it has no file that could be missing."""
    return ImageFont.load_default(size)
