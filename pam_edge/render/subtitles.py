"""One frame of a film: the picture with its masks, and below it what was said so far, like subtitles.

All frames of a film have the size of its first. Knows no model, no files and no time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pam_edge.image.preprocess import Prompt
from pam_edge.render.overlay import PALETTE, Shown, draw
from pam_edge.render.text_layout import Face, find_fonts
from pam_edge.render.text_panel import INK, PAPER

LINES = 3  # of text an object
_SIDE = 960  # the longer side of the picture, at most


class Screen:
    """Draws frame after frame. An object has the colour of its place among all objects."""

    def __init__(self) -> None:
        self._files, self._face = find_fonts(), Face((), 16)
        self._size: tuple[int, int] | None = None

    def drawn(
        self,
        picture: Image.Image,
        masks: Mapping[int, npt.NDArray[np.bool_]],
        words: Mapping[int, str],
        prompts: Mapping[int, Prompt],
    ) -> Image.Image:
        """RGB, sides even. `masks` [h, w] of the picture, words and what was pointed at on this frame are by
        the number of an object; of words the last lines that fit are shown.
        """
        objects = sorted(masks)
        photo = draw(picture, [Shown(masks[n], prompts.get(n)) for n in objects], max_side=_SIDE)
        if self._size is None:
            self._face = Face(self._files, max(16, photo.width // 42))
            below = 2 * self._face.size + max(1, len(objects)) * LINES * self._face.line
            self._size = photo.width + photo.width % 2, (photo.height + below + 1) // 2 * 2
        line, pad = self._face.line, self._face.size
        page = Image.new("RGB", self._size, PAPER)
        page.paste(photo, (0, 0))
        pen, y = ImageDraw.Draw(page), photo.height + pad
        for index, number in enumerate(objects):
            top = y + index * LINES * line
            if top + LINES * line > self._size[1]:
                break  # more objects than when the film began
            bar = (pad // 2, top + 4, pad // 2 + 5, top + LINES * line - 8)
            pen.rounded_rectangle(bar, radius=2, fill=PALETTE[index % len(PALETTE)])
            text = words.get(number, "")
            for i, part in enumerate(self._face.wrap(text, self._size[0] - 3 * pad)[-LINES:] if text else []):
                self._face.draw(pen, (pad * 1.5, top + i * line), part, fill=INK)
        return page
