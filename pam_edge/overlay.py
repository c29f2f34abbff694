"""The picture of an answer: the photo with its masks, prompts and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pam_edge.preprocess import Prompt
from pam_edge.region import Answer, Region


@dataclass(frozen=True, eq=False)
class Shown:
    """One region of the picture, in its own colour: a mask [h, w], what was pointed at, and (label, text) pairs."""

    mask: npt.NDArray[np.bool_]
    prompt: Prompt | None = None
    words: Sequence[tuple[str, str]] = ()


def shown(region: Region, answers: Sequence[Answer]) -> Shown:
    """A region with its answers, ready to draw."""
    return Shown(region.mask, region.prompt, [(answer.task, answer.text) for answer in answers])


def draw(picture: Image.Image, regions: Sequence[Shown], *, max_side: int = 1600) -> Image.Image:
    """The upright photo (at most `max_side` pixels wide or high) with its regions, and a panel of words."""
    raise NotImplementedError
