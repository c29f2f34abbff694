"""The demo's clip: one object of a rendered clip, boxed on its first frame, followed and told as a stream.

Written as an animated picture, which needs nothing but Pillow, and as a strip of its frames. Knows a bundle
and the rendered world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, features

from pam_edge.benchmarks import synthetic
from pam_edge.benchmarks.quality import clip_scores
from pam_edge.core.errors import EnvironmentProblem
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.pam import Pam
from pam_edge.render.overlay import PALETTE, Shown, draw
from pam_edge.render.subtitles import Screen
from pam_edge.render.text_layout import Face, find_fonts
from pam_edge.render.text_panel import INK, PAPER, QUIET
from pam_edge.render.track_output import Subtitles
from pam_edge.video.stream import Caption, Plan, Words, follow
from pam_edge.video.tracker import Frame

SEED = 345  # of a held-out clip: its target's combination of kind, colour and pattern never came in training
FRAME_MS = 110
HOLD_MS = 2500  # the last frame
MAX_TOKENS = 64
_WIDTH = 600  # pixels of the animated picture
_COLUMN, _SIZE, _GAP = 380, 17, 18  # a strip's picture, type and space, pixels
_OBJECT = 1


@dataclass(frozen=True, eq=False)
class Told:
    """What was made of a clip."""

    filmed: synthetic.Clip
    prompt: Prompt
    masks: list[npt.NDArray[np.bool_]] = field(default_factory=list)  # frame by frame
    words: list[str] = field(default_factory=list)  # below each frame
    captions: list[Caption] = field(default_factory=list)


def tell(pam: Pam, seed: int = SEED) -> Told:
    """Follow and tell the clip of a seed, segment by segment."""
    filmed = synthetic.clip(seed, "heldout")
    told = Told(filmed, Prompt(box=clip_scores.box_at(filmed, 0)))
    length = filmed.segments[0].stop
    plan = Plan("stream", every=length, length=len(filmed.frames), max_tokens=MAX_TOKENS)
    subtitles = Subtitles()
    for event in follow(pam, map(Image.fromarray, filmed.frames), {0: {_OBJECT: told.prompt}}, plan):
        match event:
            case Frame():
                told.masks.append(event.objects[0].mask)
                told.words.append(subtitles.words.get(_OBJECT, ""))
            case Words():
                subtitles.take(event)
            case Caption():
                subtitles.take(event)
                told.captions.append(event)
    told.words.append(subtitles.words.get(_OBJECT, ""))  # what is said when all is over
    return told


def animate(told: Told, path: Path) -> None:
    """Write the clip with masks and words as an animated WebP. Raises EnvironmentProblem without WebP."""
    if not features.check("webp"):
        raise EnvironmentProblem("this Pillow writes no WebP: install Pillow's own wheel")
    screen = Screen()
    pages: list[Image.Image] = []
    last = len(told.masks) - 1
    for n in [*range(last + 1), last]:
        pointed = {_OBJECT: told.prompt} if n == 0 else {}
        words = told.words[len(pages)]
        picture, masks = Image.fromarray(told.filmed.frames[n]), {_OBJECT: told.masks[n]}
        page = screen.drawn(picture, masks, {_OBJECT: words}, pointed)
        size = _WIDTH, round(page.height * _WIDTH / page.width)
        pages.append(page.resize(size, Image.Resampling.LANCZOS))
    durations = [FRAME_MS] * (len(pages) - 1) + [HOLD_MS]
    how: dict[str, Any] = {"duration": durations, "loop": 0, "quality": 82, "method": 2}
    pages[0].save(path, save_all=True, append_images=pages[1:], **how)


def strip(told: Told) -> Image.Image:
    """The first frame with its box, then of every segment a frame from its middle, and its caption."""
    columns: list[tuple[int, str, str, Mapping[int, Prompt]]] = [
        (0, "what is pointed at", "", {_OBJECT: told.prompt})
    ]
    for caption in told.captions:
        first, last = caption.frames
        said = "(out of sight)" if caption.lost else caption.text
        columns.append((_telling(told, first, last), f"frames {first} to {last}", said, {}))
    return _side_by_side([(_photo(told, n, prompts), label, said) for n, label, said, prompts in columns])


def _telling(told: Told, first: int, last: int) -> int:
    """The segment's middle frame; where nothing of the object is to be seen there, the last before it."""
    middle = (first + last + 1) // 2
    return max((n for n in range(first, middle + 1) if told.filmed.masks[n].any()), default=middle)


def _photo(told: Told, n: int, prompts: Mapping[int, Prompt]) -> Image.Image:
    photo = draw(Image.fromarray(told.filmed.frames[n]), [Shown(told.masks[n], prompts.get(_OBJECT))])
    return photo.resize((_COLUMN, round(photo.height * _COLUMN / photo.width)), Image.Resampling.LANCZOS)


def _side_by_side(columns: Sequence[tuple[Image.Image, str, str]]) -> Image.Image:
    files = find_fonts()
    text, label = Face(files, _SIZE), Face(files, round(_SIZE * 0.7))
    indent = round(_SIZE * 0.9)
    lines = [text.wrap(said, _COLUMN - indent) if said else [] for _, _, said in columns]
    photo = columns[0][0]
    top = photo.height + round(_SIZE * 0.8)
    height = top + label.line + max(map(len, lines)) * text.line + _SIZE
    page = Image.new("RGB", (len(columns) * (_COLUMN + _GAP) - _GAP, height), PAPER)
    pen = ImageDraw.Draw(page)
    for i, (picture, name, _) in enumerate(columns):
        x = i * (_COLUMN + _GAP)
        page.paste(picture, (x, 0))
        tall = label.line + len(lines[i]) * text.line
        pen.rounded_rectangle((x, top, x + 4, top + tall), radius=2, fill=PALETTE[0])
        label.draw(pen, (x + indent, top), name.upper(), fill=QUIET)
        for k, part in enumerate(lines[i]):
            text.draw(pen, (x + indent, top + label.line + k * text.line), part, fill=INK)
    return page
