"""Pictures to normalized pixels, and clicks and boxes to model coordinates, with numpy and PIL.

A picture is upright RGB: EXIF orientation is applied (the original PAM ignores it, so that a click selects
another place than the one the user sees), transparency is flattened onto white, an animation file gives its
first frame, and a PIL image its current frame.

Coordinates are pixels of that upright picture, x to the right, y down, (0, 0) the top left corner. Knows no
engine, no session and no text.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pam_edge.core.errors import IntegrityError, PamEdgeError, UsageError
from pam_edge.image.arrays import mask_of, picture_pixels, plain_mask, values_of
from pam_edge.image.color_modes import mask_levels, to_rgb
from pam_edge.image.image_files import MAX_FILE_BYTES, file_bytes
from pam_edge.image.masks import area_resample

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
ToRgb = Callable[[Image.Image], Image.Image]


class ArrayLike(Protocol):
    """Anything that numpy can read: torch tensors and the arrays of other libraries among them."""

    def __array__(self) -> Array: ...


FileSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
ImageSource = FileSource | Image.Image | npt.NDArray[Any] | ArrayLike

MAX_PIXELS = 1 << 27  # 134 megapixels, 400 MB as RGB: more than any phone's camera
MAX_SIDE = 1 << 15
# The plain picture formats. Never all that PIL knows: its EPS reader starts a Postscript interpreter.
# PIL has the common ones at hand; the others take it a tenth of a second.
_COMMON = ("JPEG", "PNG", "GIF", "BMP", "PPM")
FORMATS = (*_COMMON, "WEBP", "TIFF", "AVIF", "JPEG2000")
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
# [256, 3]: a byte to its input value
_LEVELS = ((np.arange(256) / 255.0).astype(np.float32)[:, None] - _MEAN) / _STD


def load_image(source: ImageSource) -> Image.Image:
    """Any picture as upright 8-bit RGB.

    Args:
        source: a path; the bytes of a picture file; an open binary file (read from its beginning, left where
            it stood); a PIL image (the frame it stands at; it is not changed); or an array: numpy and
            whatever has `__array__`, `__array_interface__` or DLPack as [h, w] or [h, w, c], a torch tensor
            as [h, w], [c, h, w] or [h, w, c]. c is 1, 3 or 4, in RGB order; uint8, or floats from 0 to 1.

    Returns:
        A new PIL image of mode RGB.

    Raises:
        UsageError: there is no such file, or the array is no picture.
        EnvironmentProblem: the file may not be read.
        IntegrityError: it is damaged, no picture, or over `MAX_PIXELS`, `MAX_SIDE` or `MAX_FILE_BYTES`.
    """
    return _load(source, to_rgb)


def _load(source: ImageSource, convert: ToRgb) -> Image.Image:
    if isinstance(source, Image.Image):
        return _upright(source, "the image given", convert)
    values = values_of(source)
    if values is not None:
        return _upright(Image.fromarray(picture_pixels(values)), "the array given", convert)
    raw, name = file_bytes(source, limit=MAX_FILE_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures (our own limit follows) and odd metadata
            with _open(raw) as image:
                return _upright(image, name, convert)
    except PamEdgeError:
        raise
    except UnidentifiedImageError as e:
        raise IntegrityError(f"{name} is not a picture; pam-edge reads {', '.join(FORMATS)}") from e
    except Image.DecompressionBombError as e:
        raise IntegrityError(f"{name}: {_too_large('the picture')}") from e
    except Exception as e:
        raise _damaged(name, e) from e


def pixels(picture: Image.Image, image_size: int) -> Floats:
    """An upright RGB picture as the image encoder's input [1, 3, S, S], made as SAM 2 makes it."""
    return normalized(resized(picture, image_size))


def resized(picture: Image.Image, image_size: int) -> npt.NDArray[np.uint8]:
    """The picture squeezed to [S, S, 3] bytes: PIL's default filter, aspect ratio not kept, as SAM 2 does."""
    return np.asarray(picture.resize((image_size, image_size)), np.uint8)


def normalized(square: npt.NDArray[np.uint8]) -> Floats:
    """Bytes [S, S, 3] to [1, 3, S, S]: (x / 255 - mean) / std."""
    return np.stack([_LEVELS[:, c][square[:, :, c]] for c in range(3)])[None]


def load_mask(source: ImageSource) -> npt.NDArray[np.bool_]:
    """A mask as [h, w] bool: inside is what is above half of its largest value.

    Where a picture is transparent in parts (a cut-out object), the mask is what is opaque and not black.

    Args:
        source: like `load_image`; arrays also of bool, of any integers and floats, [h, w], [1, h, w] or
            [h, w, 1]; pictures also of 16 and 32 bits. Nothing below 0.

    Raises: like `load_image`.
    """
    values = values_of(source) if not isinstance(source, Image.Image) else None
    plain = None if values is None else plain_mask(values)
    return mask_of(np.asarray(_load(source, mask_levels)) if plain is None else plain)


@dataclass(frozen=True, eq=False)
class Prompt:
    """What a person points at, in pixels of the upright picture.

    `points`: (x, y) or (x, y, label), label 1 for "this" (the default) and 0 for "not this". `box`: (x0,
    y0, x1, y1). `mask`: [h, w] of the picture's size; inside is what is above half of its largest
    value, so bool, 0 and 1, 0 and 255 and floats mean the same. Any
    combination, at least one. Raises UsageError where something is not finite, inverted or empty; what
    needs the picture's size `check_prompt` checks.
    """

    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(_point(p) for p in self.points))
        if self.box is not None:
            object.__setattr__(self, "box", _box(self.box))
        if self.mask is not None:
            object.__setattr__(self, "mask", _mask(self.mask))
        if not self.points and self.box is None and self.mask is None:
            raise UsageError("the prompt is empty: give at least one click, a box or a mask")

    def also(self, *points: tuple[float, float] | tuple[float, float, int]) -> Prompt:
        """The same prompt with further clicks."""
        return Prompt(points=(*self.points, *(_point(p) for p in points)), box=self.box, mask=self.mask)


def check_prompt(prompt: Prompt, size: tuple[int, int], *, slots: int | None) -> None:
    """Find out before slow work whether a prompt fits a picture of `size` (h, w) and a graph's `slots`.

    Raises UsageError where a click or a corner is outside, the mask has another size, or there are more
    points than slots (None: any number).
    """
    height, width = size
    corners = [prompt.box[:2], prompt.box[2:]] if prompt.box else []
    for what, edge, places in (("box corner", 0, corners), ("click", 1, [p[:2] for p in prompt.points])):
        for x, y in places:
            # A corner may lie on the far edge, a click has to hit a pixel.
            if not (0 <= x <= width and 0 <= y <= height) or (edge and (x == width or y == height)):
                raise UsageError(
                    f"{what} {x:g},{y:g} is outside the picture of {width}x{height} pixels "
                    f"(x from 0 to {width - edge}, y from 0 to {height - edge})"
                )
    needed = len(corners) + len(prompt.points)
    if slots is not None and needed > slots:
        raise UsageError(
            f"{len(prompt.points)} clicks{' and a box' if prompt.box else ''} need {needed} point "
            f"slots; this bundle has {slots}: use fewer clicks"
        )
    if prompt.mask is not None and prompt.mask.shape != size:
        h, w = prompt.mask.shape
        raise UsageError(f"the mask is {w}x{h} pixels, the picture {width}x{height}: make them the same size")


def encode_prompt(
    prompt: Prompt,
    *,
    size: tuple[int, int],
    image_size: int,
    slots: int | None,
    earlier: Floats | None = None,
) -> dict[str, Array]:
    """The mask decoder's `point_coords`, `point_labels`, `mask_prompt`, `has_mask` for a picture of `size`
    (h, w).

    Box corners come first (labels 2, 3), then clicks (1, 0), scaled to 0..S. `slots` is the graph's fixed
    number of points (padded with label -2, an empty slot) or None where that axis is free. `earlier` [4E,
    4E] are the low-res logits of a region to refine; they take the place of the prompt's mask. Raises like
    `check_prompt`.
    """
    check_prompt(prompt, size, slots=slots)
    height, width = size
    coords = [xy for x0, y0, x1, y1 in ([prompt.box] if prompt.box else []) for xy in ((x0, y0), (x1, y1))]
    labels = [2, 3] if prompt.box else []
    coords += [(x, y) for x, y, _ in prompt.points]
    labels += [label for _, _, label in prompt.points]
    if not coords:
        coords, labels = [(0.0, 0.0)], [-1]
    if slots is not None:
        labels += [-2] * (slots - len(coords))
        coords += [(0.0, 0.0)] * (slots - len(coords))
    side = image_size // 4
    mask_prompt = np.zeros((side, side), np.float32)
    if earlier is not None:
        mask_prompt = np.clip(earlier.reshape(side, side), -32, 32).astype(np.float32)
    elif prompt.mask is not None:
        mask_prompt = area_resample(prompt.mask, (side, side)) * 20 - 10
    scaled = np.array(coords, np.float32) / np.array([width, height], np.float32) * np.float32(image_size)
    return {
        "point_coords": scaled[None],
        "point_labels": np.array(labels, np.float32)[None],
        "mask_prompt": mask_prompt[None, None],
        "has_mask": np.array([earlier is not None or prompt.mask is not None], np.float32),
    }


def _open(raw: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(raw), formats=_COMMON)
    except UnidentifiedImageError:
        Image.init()
        return Image.open(io.BytesIO(raw), formats=[f for f in FORMATS if f in Image.OPEN])


def _upright(image: Image.Image, name: str, convert: ToRgb) -> Image.Image:
    width, height = image.size
    if width < 1 or height < 1:
        raise UsageError(f"{name} has no pixels ({width}x{height})")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise IntegrityError(f"{name}: {_too_large(f'{width}x{height} pixels')}")
    try:
        return convert(ImageOps.exif_transpose(image))
    except PamEdgeError:
        raise
    except Exception as e:
        raise _damaged(name, e) from e


def _damaged(name: str, error: Exception) -> IntegrityError:
    """What all that PIL's readers raise on damaged input means (OSError, SyntaxError, struct.error...)."""
    return IntegrityError(f"{name} is damaged or cut short ({error}); get the file again")


def _too_large(what: str) -> str:
    return f"{what} is over the limit of {MAX_PIXELS >> 20} Mi pixels and {MAX_SIDE} a side; shrink it first"


def _point(point: Any) -> tuple[float, float, int]:
    values = _numbers(point)
    if len(values) not in (2, 3):
        raise UsageError(f"a click is x,y or x,y,label; got {point!r}")
    x, y, label = (*values, 1.0)[:3]
    if label not in (0, 1):
        raise UsageError(f"click {x:g},{y:g} has label {label:g}; it is 1 (this) or 0 (not this)")
    return x, y, int(label)


def _box(box: Any) -> tuple[float, float, float, float]:
    values = _numbers(box)
    if len(values) != 4:
        raise UsageError(f"a box is x0,y0,x1,y1; got {box!r}")
    x0, y0, x1, y1 = values
    if x0 >= x1 or y0 >= y1:
        raise UsageError(f"box {x0:g},{y0:g},{x1:g},{y1:g} is empty or inverted; it is left,top,right,bottom")
    return x0, y0, x1, y1


def _numbers(values: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError, OverflowError) as e:
        raise UsageError(f"coordinates are numbers of pixels; got {values!r}") from e
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"coordinates are finite numbers of pixels; got {values!r}")
    return numbers


def _mask(mask: Any) -> npt.NDArray[np.bool_]:
    values = values_of(mask)
    if values is None:
        raise UsageError(f"a mask is an array [h, w], not {type(mask).__name__}; of a file: load_mask(path)")
    inside = mask_of(values.array)
    if not inside.any():
        raise UsageError("the mask is empty: it marks no pixel")
    return inside
