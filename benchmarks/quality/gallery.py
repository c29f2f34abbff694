"""Examples worth looking at, picked while an evaluation runs: the worst, the best, and some at random.

What is kept of an example is its finished picture and its words, so memory does not grow with the data. Knows
how to draw, not how a page is laid out (`page.py`) and not how cases are judged.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from pam_edge.benchmarks.quality.cases import Judged, Said
from pam_edge.image.masks import area_resample
from pam_edge.image.preprocess import Prompt
from pam_edge.render.overlay import Shown, draw

SIDE = 560  # pixels of a picture's longer side: sharp at the width of a card on a dense screen
TRUTH = (255, 214, 10)  # the true outline
_SEED = 20250605


@dataclass(frozen=True)
class Example:
    """One case, drawn. `picture` is a JPEG with the model's mask, `truth` a PNG of the same size with the
    true outline on nothing (None where the data holds no mask).
    """

    name: str
    kind: str
    score: float
    size: tuple[int, int]
    picture: bytes
    truth: bytes | None
    click_iou: float | None
    box_iou: float | None
    said: tuple[Said, ...]


class Gallery:
    """Picks examples as cases come by; no kind of object twice among the best or the worst."""

    def __init__(self, *, best: int = 6, worst: int = 6, at_random: int = 12) -> None:
        self._room = {"best": best, "worst": worst}
        self._held: dict[str, dict[str, Example]] = {"best": {}, "worst": {}}
        self._random: list[Example] = []
        self._at_random = at_random
        self._seen = 0
        self._dice = random.Random(_SEED)

    def add(self, judged: Judged) -> None:
        """Take a case, or let it go by."""
        drawn: Example | None = None
        for name in self._held:
            loser = self._loser(name, judged)
            if loser is not None:
                drawn = drawn or example(judged)
                self._held[name].pop(loser, None)
                self._held[name][judged.case.kind] = drawn
        self._seen += 1
        place = self._dice.randrange(self._seen)
        if len(self._random) < self._at_random:
            self._random.append(drawn or example(judged))
        elif place < self._at_random:
            self._random[place] = drawn or example(judged)

    def sections(self) -> Iterator[tuple[str, list[Example]]]:
        """(name, examples): worst first, then at random, then best; an example is shown only once."""
        shown: set[str] = set()
        worst = sorted(self._held["worst"].values(), key=lambda e: e.score)
        best = sorted(self._held["best"].values(), key=lambda e: -e.score)
        for name, examples in (("worst", worst), ("random", self._random), ("best", best)):
            fresh = [e for e in examples if e.name not in shown]
            shown.update(e.name for e in fresh)
            yield name, fresh

    def _loser(self, name: str, judged: Judged) -> str | None:
        """The kind whose example makes room for this case ("" where there is room); None where it is no
        better.
        """
        held, sign = self._held[name], 1 if name == "best" else -1
        if not self._room[name]:
            return None
        if judged.case.kind in held:
            rival = judged.case.kind
        elif len(held) < self._room[name]:
            return ""
        else:
            rival = min(held, key=lambda kind: sign * held[kind].score)
        return rival if sign * judged.score > sign * held[rival].score else None


def example(judged: Judged) -> Example:
    """Draw a case: the click's mask, or the box's where there is no click."""
    region = judged.click or judged.box
    assert region is not None  # a case has clicks or a box
    scale = min(1.0, 2 * SIDE / max(judged.image.size))  # drawn at twice the size and shrunk
    size = _scaled(judged.image.size, scale)
    base = judged.image.resize(size, Image.Resampling.LANCZOS) if scale < 1 else judged.image
    mask = area_resample(region.mask, (size[1], size[0])) >= 0.5 if scale < 1 else region.mask
    drawn = draw(base, [Shown(mask, _shrunk(region.prompt, scale))], max_side=2 * SIDE)
    final = _scaled(drawn.size, SIDE / max(drawn.size))
    picture = io.BytesIO()
    drawn.resize(final, Image.Resampling.LANCZOS).save(picture, "JPEG", quality=84)
    return Example(
        name=judged.case.name,
        kind=judged.case.kind,
        score=judged.score,
        size=final,
        picture=picture.getvalue(),
        truth=None if judged.case.mask is None else outline(judged.case.mask, final),
        click_iou=judged.click_iou,
        box_iou=judged.box_iou,
        said=judged.said,
    )


def outline(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> bytes:
    """A mask's edge as a thin line on transparent ground, PNG of `size` (width, height)."""
    share = area_resample(mask, (size[1], size[0]))
    soft = Image.fromarray((share * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.2))
    nearness = 1 - 2 * np.abs(np.asarray(soft, np.float32) / 255 - 0.5)
    layers = np.zeros((size[1], size[0], 4), np.uint8)
    line = np.clip((nearness - 0.45) / 0.25, 0, 1)
    layers[..., :3] = np.array(TRUTH) * line[..., None]  # a dark rim, so that it shows on light ground
    layers[..., 3] = 255 * np.clip((nearness - 0.10) / 0.40, 0, 1)
    out = io.BytesIO()
    Image.fromarray(layers).save(out, "PNG", optimize=True)
    return out.getvalue()


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _shrunk(prompt: Prompt, scale: float) -> Prompt:
    x0, y0, x1, y1 = (v * scale for v in prompt.box or (0, 0, 0, 0))
    return Prompt(
        points=tuple((x * scale, y * scale, label) for x, y, label in prompt.points),
        box=(x0, y0, x1, y1) if prompt.box else None,
    )
