"""Masks as arrays: resampling between the graphs' low resolution and the picture's, and a mask's box.

Pure numpy, separable, in blocks of rows: a 12-megapixel photo takes a fraction of a second and little memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

_BLOCK = 256  # rows of the picture at a time


def binarize(logits: Floats, size: tuple[int, int]) -> Bools:
    """Where [h0, w0] logits are above 0 on a grid of `size` (h, w), resampled as torch's
    `interpolate(mode="bilinear", align_corners=False)` does, without ever holding the logits at that size.
    """
    mask = np.zeros(size, np.bool_)
    around = bounds(logits > 0)
    if around is None:
        return mask
    left, top, right, bottom = around
    # A mean of values that are not positive is not positive: only what a positive one reaches is computed.
    rows, y0, y1, down = _reached(_linear(logits.shape[0], size[0]), top, bottom)
    columns, x0, x1, across = _reached(_linear(logits.shape[1], size[1]), left, right)
    tall, wide = rows @ logits[down, across], np.ascontiguousarray(columns.T)
    for start in range(0, y1 - y0, _BLOCK):
        part = tall[start : start + _BLOCK] @ wide
        np.greater(part, 0, out=mask[y0 + start : y0 + start + len(part), x0:x1])
    return mask


def _reached(weights: Floats, first: int, end: int) -> tuple[Floats, int, int, slice]:
    """What cells first..end reach of [new, old] weights: that part, its rows from and to, its columns."""
    hit = np.flatnonzero(weights[:, first:end].any(axis=1))
    if not hit.size:  # shrunk so far that no new cell looks there
        return weights[:0, :0], 0, 0, slice(0, 0)
    place = slice(max(first - 1, 0), end + 1)
    return weights[hit[0] : hit[-1] + 1, place], int(hit[0]), int(hit[-1]) + 1, place


def area_resample(mask: Bools, size: tuple[int, int]) -> Floats:
    """The share of each cell that a mask covers, 0 to 1, on a grid of `size` (h, w) over the whole mask."""
    columns = np.ascontiguousarray(_area(mask.shape[1], size[1]).T)
    wide = np.empty((mask.shape[0], size[1]), np.float32)
    for start in range(0, mask.shape[0], _BLOCK):
        np.matmul(mask[start : start + _BLOCK].astype(np.float32), columns, out=wide[start : start + _BLOCK])
    shares: Floats = np.clip(_area(mask.shape[0], size[0]) @ wide, 0, 1)
    return shares


def bounds(mask: Bools) -> tuple[int, int, int, int] | None:
    """The smallest box (x0, y0, x1, y1) around a mask, x1 and y1 just outside; None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _linear(old: int, new: int) -> Floats:
    """[new, old] weights of linear interpolation, two a row; single precision throughout, as torch computes
    them.
    """
    scale = float(np.float32(old) / np.float32(new))
    # One rounding, as in a fused multiply-add.
    place = np.maximum(scale * (np.arange(new) + 0.5) - 0.5, 0).astype(np.float32)
    low = np.minimum(place.astype(np.int64), old - 1)
    share = np.clip(place - low, 0, 1).astype(np.float32)
    weights = np.zeros((new, old), np.float32)
    index = np.arange(new)
    weights[index, low] += 1 - share
    weights[index, np.minimum(low + 1, old - 1)] += share
    return weights


def _area(old: int, new: int) -> Floats:
    """[new, old] weights of the mean over each of `new` equal cells, pixels counted by the part that lies
    inside.
    """
    edges = np.arange(new + 1) * (old / new)
    pixel = np.arange(old)
    overlap = np.minimum(pixel + 1, edges[1:, None]) - np.maximum(pixel, edges[:-1, None])
    weights: Floats = (np.maximum(overlap, 0) * (new / old)).astype(np.float32)
    return weights
