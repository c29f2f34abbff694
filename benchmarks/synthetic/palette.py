"""The named colours and patterns of the world, and the paints a shape is drawn with.

Colours are well apart on purpose, so that a name is right or wrong. Each has one fixed second colour, used by
its patterns only. Knows no shape and no pixel grid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RGB = tuple[int, int, int]


class Colour(NamedTuple):
    """A named colour: `main` covers an object, `second` draws its pattern."""

    name: str
    main: RGB
    second: RGB


COLOURS: tuple[Colour, ...] = (
    Colour("red", (206, 34, 38), (255, 226, 214)),
    Colour("orange", (247, 128, 22), (255, 238, 208)),
    Colour("yellow", (250, 214, 40), (178, 122, 16)),
    Colour("green", (44, 150, 66), (222, 244, 208)),
    Colour("blue", (36, 92, 204), (214, 230, 255)),
    Colour("purple", (128, 54, 172), (236, 222, 250)),
    Colour("pink", (246, 140, 186), (255, 244, 248)),
    Colour("brown", (118, 72, 40), (232, 208, 176)),
    Colour("white", (246, 246, 242), (146, 152, 164)),
    Colour("black", (42, 42, 48), (204, 206, 212)),
)
PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "checked")

# What a part of a shape may be painted with. `body` carries colour and pattern, `shade` and `tint` are the
# main colour darker and lighter, the rest are fixed accents. `hole` cuts through to what lies behind.
PAINTS: tuple[str, ...] = (
    "hole", "outline", "body", "second", "shade", "tint",
    "dark", "metal", "pale", "glass", "tan", "leaf", "beak",
)  # fmt: skip
_ACCENTS: dict[str, RGB] = {
    "dark": (52, 52, 60),
    "metal": (172, 178, 188),
    "pale": (244, 236, 218),
    "glass": (186, 220, 232),
    "tan": (222, 172, 110),
    "leaf": (92, 138, 74),
    "beak": (240, 150, 40),
}


def colour_named(name: str) -> Colour:
    """The colour of that name. KeyError where there is none."""
    for colour in COLOURS:
        if colour.name == name:
            return colour
    raise KeyError(name)


def paint_table(colour: Colour, jitter: NDArray[np.float64]) -> NDArray[np.uint8]:
    """RGB of every paint for an object of that colour: uint8 [256, 3], row = index into PAINTS.

    `jitter` [3] shifts the main and second colour, in steps of 8-bit RGB.
    """
    main = np.array(colour.main, dtype=np.float64) + jitter
    table = np.zeros((256, 3), dtype=np.float64)
    rows = {"body": main, "second": np.array(colour.second) + jitter}
    rows |= {name: np.array(rgb, dtype=np.float64) for name, rgb in _ACCENTS.items()}
    rows |= {"outline": main * 0.42, "shade": main * 0.7, "tint": main + (255 - main) * 0.45}
    match colour.name:
        case "black":  # its parts are told apart by going lighter, since they cannot go darker
            rows |= {"outline": main * 0.4, "shade": main + 38, "tint": main + 84, "dark": main + 62}
        case "white":
            rows |= {"outline": main * 0.42, "shade": main * 0.82, "pale": main * 0.84}
        case _:
            pass
    for name, rgb in rows.items():
        table[PAINTS.index(name)] = rgb
    # What is outside mixes into the rim when the picture shrinks.
    table[PAINTS.index("hole")] = rows["outline"]
    return np.clip(np.rint(table), 0, 255).astype(np.uint8)
