"""Frames, ticks, grids and legends that the charts share. Draws shapes, knows no rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from pam_edge.benchmarks.report.scales import Scale, short
from pam_edge.benchmarks.report.shapes import Box, Dot, Path, Role, Shape, Words, wide

WIDTH = 600.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 24.0, 14.0, 46.0  # margins of a chart with two axes


def two_axes(
    x: Scale,
    y: Scale,
    *,
    x_name: str,
    y_name: str,
    x_told: Callable[[float], str] = short,
    y_told: Callable[[float], str] = short,
    x_ticks: Sequence[float] | None = None,
) -> list[Shape]:
    """Grid lines, ticks and names of both axes."""
    shapes: list[Shape] = []
    for value in y.ticks():
        at = y(value)
        shapes.append(Path(((x.start, at), (x.stop, at)), "line", width=1))
        shapes.append(Words(x.start - 8, at + 4, y_told(value), "soft", 12, "end"))
    for value in x.ticks() if x_ticks is None else x_ticks:
        at = x(value)
        shapes.append(Path(((at, y.start), (at, y.start + 5)), "soft", width=1))
        shapes.append(Words(at, y.start + 19, x_told(value), "soft", 12, "middle"))
    shapes.append(Path(((x.start, y.start), (x.stop, y.start)), "soft", width=1))
    shapes.append(Words((x.start + x.stop) / 2, y.start + 39, x_name, "soft", 12, "middle"))
    shapes.append(Words(8, TOP - 2, y_name, "soft", 12))
    return shapes


def legend(
    entries: Sequence[tuple[str, Role]], x: float, y: float, *, room: float
) -> tuple[list[Shape], float]:
    """Names with a dot of their colour, in lines; the shapes and the height they take."""
    shapes: list[Shape] = []
    at, line = x, y
    for name, role in entries:
        length = wide(name, 12.5) + 30
        if at + length > x + room and at > x:
            at, line = x, line + 20
        shapes.append(Dot(at + 5, line - 4, role, 5))
        shapes.append(Words(at + 15, line, name, "ink", 12.5))
        at += length
    return shapes, line - y + 20


def whisker(x0: float, x1: float, y: float, role: Role = "ink") -> list[Shape]:
    """From one quartile to the other, lying."""
    if x1 - x0 < 1.5:
        return []
    ends = [Path(((x, y - 4), (x, y + 4)), role, width=1.2) for x in (x0, x1)]
    return [Path(((x0, y), (x1, y)), role, width=1.2), *ends]


def standing_whisker(x: float, y0: float, y1: float, role: Role = "ink") -> list[Shape]:
    """From one quartile to the other, upright."""
    if abs(y1 - y0) < 1.5:
        return []
    ends = [Path(((x - 4, y), (x + 4, y)), role, width=1.2) for y in (y0, y1)]
    return [Path(((x, y0), (x, y1)), role, width=1.2), *ends]


def bar(x: float, y: float, width: float, height: float, role: Role, tip: str) -> Box:
    """A bar, never too thin to be seen."""
    return Box(x, y, max(width, 1.5), height, role, 3, tip)


def apart(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Heights of labels, moved so that none is nearer to another than `least`, in their own order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    if order and moved[order[-1]] > high:
        moved[order[-1]] = high
        for after, before in pairwise(order[::-1]):
            moved[before] = min(moved[before], moved[after] - least)
    return [max(low, at) for at in moved]
