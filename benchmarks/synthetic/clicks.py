"""Where a person would click on a mask. Masks are bool [H, W], clicks are (x, y) pixel indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SAFE = 3.0  # pixels from the boundary a random click keeps, where the mask is that thick
_CAP = 40  # thicker than this nobody can tell


def depth(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """How many pixels deep each pixel lies inside the mask (0 outside, 1 on its rim), at most 40.

    Erosion by a cross and by a square in turn, so that the distance is octagonal, near enough to Euclid's.
    """
    out = np.zeros(mask.shape, dtype=np.uint8)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return out
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    left = np.pad(mask[window], 1)
    total = np.zeros(left.shape, dtype=np.uint8)
    for step in range(_CAP):
        if not left.any():
            break
        total += left
        left = _eroded(left, square=bool(step % 2))
    out[window] = total[1:-1, 1:-1]
    return out


def centre_click(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """The deepest pixel; of several, the one nearest to the mask's centre. ValueError for an empty mask."""
    inside = depth(mask)
    deepest = int(inside.max())
    if deepest == 0:
        raise ValueError("nothing to click on: the mask is empty")
    ys, xs = np.nonzero(mask)
    candidates = np.argwhere(inside == deepest)
    distance = np.square(candidates - (ys.mean(), xs.mean())).sum(axis=1)
    y, x = candidates[int(distance.argmin())]
    return int(x), int(y)


def random_click(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """Any pixel at least 3 deep, or among the deepest of a thinner mask. ValueError for an empty mask."""
    inside = depth(mask)
    deepest = int(inside.max())
    if deepest == 0:
        raise ValueError("nothing to click on: the mask is empty")
    candidates = np.argwhere(inside >= min(_SAFE, deepest))
    y, x = candidates[int(rng.integers(len(candidates)))]
    return int(x), int(y)


def correcting_click(
    wanted: NDArray[np.bool_], given: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[tuple[int, int], int] | None:
    """The refinement click: in the middle of the larger error.

    Label 1 adds what is missing, 0 removes what is wrong. None where both masks agree.
    """
    missing, wrong = wanted & ~given, given & ~wanted
    if not missing.any() and not wrong.any():
        return None
    error, label = (missing, 1) if missing.sum() >= wrong.sum() else (wrong, 0)
    inside = depth(error)
    candidates = np.argwhere(inside == inside.max())
    y, x = candidates[int(rng.integers(len(candidates)))]
    return (int(x), int(y)), label


def _eroded(mask: NDArray[np.bool_], *, square: bool) -> NDArray[np.bool_]:
    """`mask` has an empty border one pixel wide."""
    out = np.zeros_like(mask)
    if square:
        rows = mask[:-2] & mask[1:-1] & mask[2:]
        out[1:-1, 1:-1] = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    else:
        out[1:-1, 1:-1] = (
            mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        )
    return out
