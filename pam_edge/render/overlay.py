"""The annotated picture: masks tinted and outlined, the prompts, and a panel with the answers.

Every region has a colour of its own, the same in picture and panel. The picture is scaled to a size at which
text is legible; the panel is to the right or below, whichever gives the more compact result. Knows no model
and no files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from pam_edge.core.errors import UsageError
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.results import Answer, Region
from pam_edge.render.text_layout import Face, find_fonts
from pam_edge.render.text_panel import Block, Panel

Colour = tuple[int, int, int]
Floats = npt.NDArray[np.float32]

# Told apart by most eyes, and unlike the green and red of the clicks.
PALETTE: tuple[Colour, ...] = (
    *((10, 132, 255), (255, 149, 0), (191, 90, 242)),
    *((0, 199, 190), (255, 55, 130), (160, 120, 80)),
)
_YES, _NO, _WHITE = (40, 190, 90), (235, 60, 60), (255, 255, 255)
_SMALLEST = 840  # the photo's longer side, at least: type needs the room


@dataclass(frozen=True, eq=False)
class Shown:
    """One region of the picture: a mask [h, w], what was pointed at, and (label, text) pairs to read."""

    mask: npt.NDArray[np.bool_]
    prompt: Prompt | None = None
    words: Sequence[tuple[str, str]] = ()


def shown(region: Region, answers: Sequence[Answer]) -> Shown:
    """A region with its answers, ready to draw."""
    return Shown(region.mask, region.prompt, [(answer.task, answer.text) for answer in answers])


def draw(
    picture: Image.Image,
    regions: Sequence[Shown],
    *,
    max_side: int = 1600,
    fonts: Sequence[Path] | None = None,
) -> Image.Image:
    """The upright photo, its longer side between 840 and `max_side` pixels, with its regions and their
    words.

    `fonts` are font files for what Pillow's own font lacks; None looks for a Chinese one on this machine.
    Raises UsageError where a mask is not of the photo's size.
    """
    for region in regions:
        if region.mask.shape != (picture.height, picture.width):
            h, w = region.mask.shape
            raise UsageError(
                f"a mask of {w}x{h} pixels does not fit a picture of {picture.width}x{picture.height}"
            )
    longer = max(picture.size)
    scale = min(max(longer, _SMALLEST), max_side) / longer
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    photo = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    unit = max(size) / 100
    photo = _with_masks(photo, regions, unit=unit)
    photo = _with_prompts(photo, regions, scale=scale, unit=unit)
    if len(regions) > 1:
        _number(photo, regions, scale=scale, unit=unit)
    if not any(region.words for region in regions):
        return photo
    return _with_words(photo, regions, unit=unit, files=find_fonts() if fonts is None else fonts)


def _colour(index: int) -> Colour:
    return PALETTE[index % len(PALETTE)]


def _with_masks(photo: Image.Image, regions: Sequence[Shown], *, unit: float) -> Image.Image:
    """Tint each mask (a little: words speak of colours), outline it in white and colour, quieten the rest."""
    shares = [_share(region.mask, photo.size) for region in regions]
    pixels = np.asarray(photo, np.float32)
    if shares and max(float(s.max()) for s in shares) > 0:
        around = 1 - np.max(shares, axis=0)
        pixels = pixels * (1 - 0.40 * around[:, :, None])
    for index, share in enumerate(shares):
        colour = np.array(_colour(index), np.float32)
        pixels = _blend(pixels, colour, 0.12 * share)
        soft = _blur(share, max(1.6, 0.22 * unit))
        # Halfway up the blurred step is the edge; closeness to it, whatever the direction, is a smooth line.
        nearness = 1 - 2 * np.abs(soft - 0.5)
        pixels = _blend(pixels, np.array(_WHITE, np.float32), _ramp(nearness, 0.10, 0.35) * 0.9)
        pixels = _blend(pixels, colour, _ramp(nearness, 0.42, 0.62))
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def _share(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> Floats:
    """How much of each of the photo's pixels a mask covers, 0 to 1; enlarged, with steps smoothed away."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    scale = size[0] / image.width
    if scale > 1:
        image = image.resize(size, Image.Resampling.BILINEAR).filter(ImageFilter.GaussianBlur(0.55 * scale))
        return _ramp(np.asarray(image, np.float32), 127.5 * (1 - 1 / scale), 127.5 * (1 + 1 / scale))
    return np.asarray(image.resize(size, Image.Resampling.BOX), np.float32) / np.float32(255)


def _blend(pixels: Floats, colour: Floats, alpha: Floats) -> Floats:
    return pixels + (colour - pixels) * alpha[:, :, None]


def _blur(share: Floats, radius: float) -> Floats:
    step = Image.fromarray((share * 255).astype(np.uint8))
    return np.asarray(step.filter(ImageFilter.GaussianBlur(radius)), np.float32) / np.float32(255)


def _ramp(values: Floats, low: float, high: float) -> Floats:
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def _with_prompts(photo: Image.Image, regions: Sequence[Shown], *, scale: float, unit: float) -> Image.Image:
    pen = ImageDraw.Draw(photo)
    for index, region in enumerate(regions):
        if region.prompt is not None and region.prompt.box is not None:
            _box(pen, [v * scale for v in region.prompt.box], _colour(index), unit=unit)
    radius = max(9.0, 1.15 * unit)
    for region in regions:
        for x, y, label in region.prompt.points if region.prompt else ():
            # A pixel's middle is half a pixel further on.
            _stamp(
                photo, ((x + 0.5) * scale, (y + 0.5) * scale), radius, _YES if label else _NO, _sign(label)
            )
    return photo


def _box(pen: ImageDraw.ImageDraw, box: Sequence[float], colour: Colour, *, unit: float) -> None:
    """A thin frame with strong corners, white under colour so that it shows on any ground."""
    x0, y0, x1, y1 = box
    arm = min((x1 - x0) / 3, (y1 - y0) / 3, 4 * unit)
    thin, thick = max(2, round(0.16 * unit)), max(4, round(0.42 * unit))
    pen.rectangle((x0, y0, x1, y1), outline=_WHITE, width=thin)
    for width, ink in ((thick + 2 * max(1, thin // 2), _WHITE), (thick, colour)):
        grow = (width - thick) / 2
        for x, dx in ((x0, 1), (x1, -1)):
            for y, dy in ((y0, 1), (y1, -1)):
                for ex, ey in ((x + dx * arm, y), (x, y + dy * arm)):
                    half = thick / 2 + grow
                    left, right = min(x, ex) - half, max(x, ex) + half
                    top, bottom = min(y, ey) - half, max(y, ey) + half
                    pen.rounded_rectangle((left, top, right, bottom), radius=half, fill=ink)


def _sign(label: int) -> Callable[[ImageDraw.ImageDraw, float], None]:
    def pen_sign(pen: ImageDraw.ImageDraw, side: float) -> None:
        middle, arm, half = side / 2, side * 0.17, side * 0.036
        pen.rectangle((middle - arm, middle - half, middle + arm, middle + half), fill=_WHITE)
        if label:
            pen.rectangle((middle - half, middle - arm, middle + half, middle + arm), fill=_WHITE)

    return pen_sign


def _stamp(
    photo: Image.Image,
    centre: tuple[float, float],
    radius: float,
    colour: Colour,
    sign: Callable[[ImageDraw.ImageDraw, float], None],
) -> None:
    """A disc with a white rim and a soft shadow, drawn four times as large and shrunk, for smooth edges."""
    side = round(radius * 2 * 1.5)
    big = side * 4
    shadow = Image.new("L", (big, big))
    ImageDraw.Draw(shadow).ellipse([big * 0.14, big * 0.16, big * 0.86, big * 0.90], fill=130)
    shadow = shadow.filter(ImageFilter.GaussianBlur(big * 0.035)).resize(
        (side, side), Image.Resampling.LANCZOS
    )
    disc = Image.new("RGBA", (big, big))
    pen = ImageDraw.Draw(disc)
    pen.ellipse([big / 6, big / 6, big * 5 / 6, big * 5 / 6], fill=_WHITE)
    rim = big * 0.05
    pen.ellipse([big / 6 + rim, big / 6 + rim, big * 5 / 6 - rim, big * 5 / 6 - rim], fill=colour)
    sign(pen, big)
    disc = disc.resize((side, side), Image.Resampling.LANCZOS)
    corner = round(centre[0] - side / 2), round(centre[1] - side / 2)
    photo.paste((0, 0, 0), corner, shadow)
    photo.paste(disc, corner, disc)


def _number(photo: Image.Image, regions: Sequence[Shown], *, scale: float, unit: float) -> None:
    """A numbered disc at the top of each mask; a region without a mask has none."""
    radius = max(11.0, 1.5 * unit)
    for index, region in enumerate(regions):
        rows = np.flatnonzero(region.mask.any(axis=1))
        if not rows.size:
            continue
        columns = np.flatnonzero(region.mask[rows[0]])
        x = min(max(float(columns.mean() + 0.5) * scale, radius), photo.width - radius)
        y = min(max((rows[0] + 0.5) * scale, radius), photo.height - radius)
        _stamp(photo, (x, y), radius, _colour(index), _digit(index + 1))


def _digit(number: int) -> Callable[[ImageDraw.ImageDraw, float], None]:
    def pen_digit(pen: ImageDraw.ImageDraw, side: float) -> None:
        face = Face((), round(side * 0.4))
        face.draw(
            pen, ((side - face.width(str(number))) / 2, (side - face.line) / 2), str(number), fill="white"
        )

    return pen_digit


def _with_words(
    photo: Image.Image, regions: Sequence[Shown], *, unit: float, files: Sequence[Path]
) -> Image.Image:
    if len(regions) == 1:
        pairs = enumerate(regions[0].words)
        blocks = [Block(_colour(0), (pair,), title=i == 0) for i, pair in pairs]
    else:
        blocks = [Block(_colour(i), tuple(r.words), number=i + 1) for i, r in enumerate(regions)]
    return Panel(blocks, size=round(min(max(1.9 * unit, 16), 30)), files=files).beside(photo)
