"""Objects put on a ground, in order: the picture, and which pixel shows which object.

A pixel belongs to the object that covers at least half of it, the uppermost one where several do. Knows
nothing of how objects were chosen or what is said of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pam_edge.benchmarks.synthetic.draw import Sprite


class Shadow(NamedTuple):
    """Where shadows fall, in pixels, and how dark they are (0..1)."""

    x: float
    y: float
    depth: float


class Staged(NamedTuple):
    """`picture` RGB; `owner` uint8 [H, W]: 0 ground, k the k-th sprite; `full` pixels of each alone."""

    picture: Image.Image
    owner: NDArray[np.uint8]
    full: tuple[int, ...]


_HALF = [0] * 128 + [255] * 128


def put_on(ground: Image.Image, sprites: Sequence[Sprite], shadow: Shadow) -> Staged:
    """Paste the sprites, first one lowest, each with its soft shadow. `ground` is left as it was."""
    picture = ground.copy()
    owner = Image.new("L", ground.size, 0)
    full = []
    darkening = [round(v * shadow.depth) for v in range(256)]
    blur = 0.6 * max(abs(shadow.x), abs(shadow.y)) + 1
    for number, sprite in enumerate(sprites, start=1):
        _cast(picture, sprite, (round(shadow.x), round(shadow.y)), darkening, blur)
        corner = (sprite.left, sprite.top)
        picture.paste(sprite.picture, corner, sprite.coverage)
        solid = sprite.coverage.point(_HALF)
        owner.paste(number, (*corner, sprite.left + solid.width, sprite.top + solid.height), solid)
        full.append(solid.histogram()[255])
    return Staged(picture, np.array(owner), tuple(full))


def _cast(
    picture: Image.Image, sprite: Sprite, shift: tuple[int, int], darkening: list[int], blur: float
) -> None:
    margin = int(2 * blur) + 1
    width, height = sprite.coverage.size
    soft = Image.new("L", (width + 2 * margin, height + 2 * margin), 0)
    soft.paste(sprite.coverage, (margin, margin))
    soft = soft.filter(ImageFilter.BoxBlur(blur)).point(darkening)
    left, top = sprite.left + shift[0] - margin, sprite.top + shift[1] - margin
    picture.paste((24, 22, 30), (left, top, left + soft.width, top + soft.height), soft)
