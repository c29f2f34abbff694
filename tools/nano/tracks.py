"""Short tracks through drawn clips: which frames, whose mask, prompted how. Numpy alone; knows no model.

Half of the tracks that would be dull are drawn again, so that most batches have objects that are covered,
leave and return. A track may run backwards, at a stride, and begin long after its prompt.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.nano.data import SIDE, depth_of
from tools.nano.films import Films, Looks
from tools.nano.prompting import EMPTY, box, click

FINE = 128  # masks are compared at this side
CLEAR = 150  # pixels of S x S that an object shows where it is pointed at
LITTLE = 20  # of fewer pixels than that nothing is asked
LONGEST_LAG = 300  # frames between a prompt and what is seen next
STRIDES, STRIDE_SHARES = (1, 2, 3), (0.55, 0.3, 0.15)
Floats = NDArray[np.float32]


class Route(NamedTuple):
    """One track: a clip, whose it is, its frames in order (the first carries the prompt)."""

    film: int
    number: int
    frames: NDArray[np.int64]
    lag: float


class Tracks(NamedTuple):
    """B tracks of n frames."""

    embed: Floats  # [n, B, C, E, E]
    fine: Floats  # [n, B, C/8, 4E, 4E]
    middle: Floats  # [n, B, C/4, 2E, 2E]
    target: Floats  # [n, B, FINE, FINE] share of each cell
    area: NDArray[np.int64]  # [n, B] pixels of S x S
    coords: Floats  # [B, 2, 2] the prompt on the first frame
    labels: Floats  # [B, 2]
    masked: NDArray[np.bool_]  # [B] whether a mask is the prompt
    clicks: Floats  # [n, B, 2] where a correction would click, if the object is there
    lag: Floats  # [B]
    span: Floats  # [B]


def draw_tracks(
    rng: np.random.Generator, data: tuple[Films, Looks], drawn: NDArray[np.int64], *, shape: tuple[int, int]
) -> Tracks:
    """Tracks of the clips in `drawn`; `shape` is (tracks, frames)."""
    films, looks = data
    count, length = shape
    routes = [route(rng, films, int(rng.choice(drawn)), length) for _ in range(count)]
    maps = [np.stack([field[r.film, r.frames] for r in routes], axis=1).astype(np.float32) for field in looks]
    whole = np.stack([films.owner[r.film, r.frames] == r.number for r in routes], axis=1)
    cell = SIDE // FINE
    target = whole.reshape(length, count, FINE, cell, FINE, cell).mean(axis=(3, 5), dtype=np.float32)
    coords, labels = np.zeros((count, 2, 2), np.float32), np.full((count, 2), EMPTY, np.float32)
    masked, clicks = np.zeros(count, bool), np.zeros((length, count, 2), np.float32)
    for b in range(count):
        coords[b], labels[b], masked[b] = prompt(rng, whole[0, b])
        for n in range(1, length):
            clicks[n, b] = inside(rng, whole[n, b])
    span = np.where(rng.random(count) < 0.8, 15.0, rng.integers(7, 15, count)).astype(np.float32)
    lag = np.array([r.lag for r in routes], np.float32)
    area = whole.sum(axis=(2, 3), dtype=np.int64)
    return Tracks(maps[0], maps[1], maps[2], target, area, coords, labels, masked, clicks, lag, span)


def route(rng: np.random.Generator, films: Films, film: int, length: int) -> Route:
    """A random way through one clip: the target's in most cases, else anybody's who shows at all."""
    row = films.film[film]
    total, target = int(row["frames"]), int(row["target"])
    area = np.asarray(films.area[film, :total])
    numbers = [n for n in range(1, int(row["objects"]) + 1) if (area[:, n] >= CLEAR).any()]
    for attempt in range(6):
        number = target if rng.random() < 0.65 else int(rng.choice(numbers))
        begins = np.flatnonzero(area[:, number] >= CLEAR)
        stride = int(rng.choice(STRIDES, p=STRIDE_SHARES)) * (1 if rng.random() < 0.5 else -1)
        first = int(rng.choice(begins))
        if rng.random() < 0.25:  # what follows lies elsewhere in the clip
            reach = abs(stride) * (length - 2)
            start = int(rng.integers(0, total - reach))
            rest = start + np.arange(length - 1) * abs(stride)
            frames = np.concatenate([[first], rest if stride > 0 else rest[::-1]])
            lag = float(abs(frames[1] - first)) if rng.random() < 0.5 else _long(rng)
        else:
            frames = first + np.arange(length) * stride
            lag = _long(rng) if rng.random() < 0.15 else 0.0
        if frames.min() < 0 or frames.max() >= total:
            continue
        shown = area[frames, number]
        if shown.min() < 0.6 * shown[0] or rng.random() < 0.5 or attempt == 5:
            return Route(film, number, frames, lag)
    begins = np.flatnonzero(area[: total - length + 1, target] >= CLEAR)
    first = int(rng.choice(begins))  # a clip begins with its target in sight
    return Route(film, target, first + np.arange(length), 0.0)


def prompt(rng: np.random.Generator, mask: NDArray[np.bool_]) -> tuple[Floats, Floats, bool]:
    """Coords [2, 2], labels [2] and whether the mask itself is the prompt."""
    coords, labels = np.zeros((2, 2), np.float32), np.full(2, EMPTY, np.float32)
    choice = rng.random()
    if choice < 0.45:
        coords[0], labels[0] = inside(rng, mask), 1
    elif choice < 0.85:
        ys, xs = np.nonzero(mask)
        exact = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
        coords[:], labels[:] = box(rng, exact), (2, 3)
    else:
        labels[0] = -1
        return coords, labels, True
    return coords, labels, False


def inside(rng: np.random.Generator, mask: NDArray[np.bool_]) -> tuple[float, float]:
    """A click on the mask, the picture's middle where it is empty."""
    if not mask.any():
        return SIDE / 2, SIDE / 2
    owner = mask.astype(np.uint8)
    return click(rng, (owner, depth_of(owner)), 1)


def _long(rng: np.random.Generator) -> float:
    return float(np.round(LONGEST_LAG ** rng.random()))


def drawn_films(films: Films) -> NDArray[Any]:
    """Which clips are there."""
    found: NDArray[Any] = np.flatnonzero(films.film["frames"])
    return found
