"""What charts are made of: a few shapes in roles of colour, drawn as SVG or PNG elsewhere. Data only.

Coordinates are pixels, x to the right, y down. Colours are roles; what a role looks like depends on where and
in which light it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Anchor = Literal["start", "middle", "end"]
Role = str  # ink, soft, line, card, accent, warn, or s0 to s7
SERIES = 8


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    fill: Role
    radius: float = 0
    tip: str = ""


@dataclass(frozen=True)
class Path:
    """A line through points, or an area where it is filled."""

    points: tuple[tuple[float, float], ...]
    stroke: Role = ""
    fill: Role = ""
    width: float = 1.5
    dashed: bool = False
    opacity: float = 1.0


@dataclass(frozen=True)
class Dot:
    """A point of data."""

    x: float
    y: float
    fill: Role
    radius: float = 5
    hollow: bool = False
    tip: str = ""


@dataclass(frozen=True)
class Words:
    """One line of text; y is its baseline."""

    x: float
    y: float
    text: str
    fill: Role = "ink"
    size: float = 13
    anchor: Anchor = "start"
    bold: bool = False


Shape = Box | Path | Dot | Words


@dataclass(frozen=True)
class Chart:
    """A drawing with its title; `about` says what is to be seen."""

    name: str  # of a file: lower case, dashes
    title: str
    about: str
    width: float
    height: float
    shapes: Sequence[Shape] = field(default_factory=tuple)


def wide(text: str, size: float = 13) -> float:
    """About how many pixels a line of text takes."""
    narrow = sum(c in "iljtfr.,:;|!()[] '" for c in text)
    return size * (0.56 * (len(text) - narrow) + 0.32 * narrow)
