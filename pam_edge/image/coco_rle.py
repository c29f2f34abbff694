"""COCO run-length strings, byte for byte as `pycocotools.mask.encode` writes their `counts`.

Runs alternate outside, inside, outside..., column by column. From the fourth on, each count is stored as the
difference to the one two before. Numbers are written in groups of five bits, lowest first, as characters from
'0' on.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pam_edge.core.errors import IntegrityError

MAX_PIXELS = 1 << 27


def encode(mask: npt.NDArray[np.bool_]) -> str:
    """A mask [h, w] as a compressed `counts` string."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = [0, *changes.tolist(), flat.size]
    runs = [b - a for a, b in pairwise(edges)]
    if flat.size and flat[0]:
        runs.insert(0, 0)
    out: list[str] = []
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            low = value & 0x1F
            value >>= 5
            more = value != (-1 if low & 0x10 else 0)
            out.append(chr(48 + (low | 0x20 if more else low)))
    return "".join(out)


def decode(counts: str, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask [h, w] of a `counts` string. Raises IntegrityError where it is not one of that size."""
    height, width = size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise IntegrityError(f"a mask of {width}x{height} pixels is out of range")
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 35:
            raise IntegrityError("the mask's counts are not a COCO run-length string")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        if runs[-1] < 0:
            raise IntegrityError("the mask's counts hold a negative run")
        value = shift = 0
    if shift or sum(runs) != height * width:
        raise IntegrityError(
            f"the mask's counts cover {sum(runs)} pixels where its size {width}x{height} has {height * width}"
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size, order="F")
