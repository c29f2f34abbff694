"""What a person might point at: clicks, boxes and mistakes corrected, drawn at random from rendered scenes.

All coordinates are pixels of the S x S picture. It knows scenes as arrays, and no model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.nano.data import DEEP, SIDE, Rendered

SLOTS_OF_A_PROMPT = 3
EMPTY = -2.0
Floats = NDArray[np.float32]


class Prompts(NamedTuple):
    """P prompts for each of B pictures, flattened to [B * P, ...]."""

    coords: Floats  # [BP, 3, 2]
    labels: Floats  # [BP, 3]
    target: NDArray[np.int64]  # [BP] number of the object in `owner`, 0 where nothing is there
    is_box: NDArray[np.bool_]  # [BP]


class Batch(NamedTuple):
    """Pictures with their prompts."""

    images: NDArray[np.uint8]  # [B, S, S, 3]
    owner: NDArray[np.uint8]  # [B, S, S]
    objects: NDArray[Any]  # [B, SLOTS] data.OBJECT
    prompts: Prompts


class Mix(NamedTuple):
    """What share of prompts is of which kind; the rest are clicks on the ground."""

    click: float = 0.52
    box: float = 0.30
    both: float = 0.05
    several: float = 0.06  # clicks, a negative one among them at times


MIX = Mix()
BOXES = Mix(click=0.30, box=0.56, both=0.03, several=0.05)


def draw_batch(
    rng: np.random.Generator, scenes: Rendered, *, pictures: int, prompts: int, drawn: int, mix: Mix = MIX
) -> Batch:
    """A random batch from the first `drawn` scenes, mirrored at random."""
    images = np.empty((pictures, SIDE, SIDE, 3), np.uint8)
    owner = np.empty((pictures, SIDE, SIDE), np.uint8)
    objects, parts = [], []
    for b in range(pictures):
        i = int(rng.integers(drawn))
        while not scenes.counts[i]:
            i = int(rng.integers(drawn))
        flip = bool(rng.random() < 0.5)
        step = -1 if flip else 1
        images[b], owner[b] = scenes.images[i][:, ::step], scenes.owner[i][:, ::step]
        objects = np.array(scenes.objects[i])
        if flip:
            mirror(objects)
        objects.append(objects)
        maps = owner[b], scenes.depth[i][:, ::step]
        parts.append(prompts_for(rng, maps, objects[: scenes.counts[i]], prompts, mix=mix))
    joined = Prompts(*(np.concatenate(field) for field in zip(*parts, strict=True)))
    return Batch(images, owner, np.stack(objects), joined)


def mirror(objects: NDArray[Any]) -> None:
    """Turn the objects' coordinates left to right, in place."""
    x0, x1 = objects["box"][:, 0].copy(), objects["box"][:, 2].copy()
    objects["box"][:, 0], objects["box"][:, 2] = SIDE - x1, SIDE - x0
    objects["click"][:, 0] = SIDE - 1 - objects["click"][:, 0]
    objects["pose"][:, 0] = 1 - objects["pose"][:, 0]
    objects["pose"][:, 3] *= -1


def prompts_for(
    rng: np.random.Generator,
    maps: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    objects: NDArray[Any],
    count: int,
    *,
    mix: Mix = MIX,
) -> Prompts:
    """`count` prompts for one picture; `maps` are owner and depth."""
    coords = np.zeros((count, SLOTS_OF_A_PROMPT, 2), np.float32)
    labels = np.full((count, SLOTS_OF_A_PROMPT), EMPTY, np.float32)
    target = np.zeros(count, np.int64)
    is_box = np.zeros(count, bool)
    order = rng.permutation(len(objects))
    clicks, boxes, both, several = np.cumsum(mix)
    for p in range(count):
        number = int(order[p % len(order)]) + 1
        target[p] = number
        obj, choice = objects[number - 1], rng.random()
        if choice < clicks:
            centre = rng.random() < 0.25
            coords[p, 0] = obj["click"] if centre else click(rng, maps, number)
            labels[p, 0] = 1
        elif choice < boxes:
            coords[p, :2], labels[p, :2], is_box[p] = box(rng, obj["box"]), (2, 3), True
        elif choice < both:
            coords[p, :2], labels[p, :2] = box(rng, obj["box"]), (2, 3)
            coords[p, 2], labels[p, 2] = click(rng, maps, number), 1
        elif choice < several:
            for slot in range(int(rng.integers(2, 4))):
                coords[p, slot], labels[p, slot] = click(rng, maps, number), 1
            if rng.random() < 0.5:
                other = int(rng.integers(len(objects))) + 1
                coords[p, 1] = click(rng, maps, 0 if other == number else other)
                labels[p, 1] = 0
        else:
            target[p] = 0
            coords[p, 0], labels[p, 0] = click(rng, maps, 0), 1
    return Prompts(coords, labels, target, is_box)


def click(
    rng: np.random.Generator, maps: tuple[NDArray[np.uint8], NDArray[np.uint8]], number: int
) -> tuple[float, float]:
    """A pixel of that object (0: the ground, well away from all else), off its rim where it is thick."""
    owner, depth = maps
    least = DEEP if number == 0 else int(rng.integers(1, 5))
    inside = owner == number
    found = np.flatnonzero(inside & (depth >= least))
    if not len(found):
        found = np.flatnonzero(inside)
    if not len(found):
        return SIDE / 2, SIDE / 2
    at = int(found[int(rng.integers(len(found)))])
    dx, dy = rng.uniform(-0.3, 0.3, 2)
    return float(at % SIDE + dx), float(at // SIDE + dy)


def box(rng: np.random.Generator, exact: Floats) -> Floats:
    """[2, 2] corners: exact half of the time, else each side off by up to 8 % of its length."""
    corners = exact.reshape(2, 2).astype(np.float32)
    if rng.random() < 0.5:
        return corners
    off = rng.uniform(-0.08, 0.08, (2, 2)) * (corners[1] - corners[0])
    return np.clip(corners + off, 0, SIDE).astype(np.float32)


def corrections(
    rng: np.random.Generator, wanted: NDArray[np.bool_], given: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """A click on a wrong pixel of each mask: [BP, h, w] twice -> [BP, 2], labels [BP] (EMPTY: none)."""
    coords = np.zeros((len(wanted), 2), np.float32)
    labels = np.full(len(wanted), EMPTY, np.float32)
    scale = SIDE / wanted.shape[-1]
    for i, (want, give) in enumerate(zip(wanted, given, strict=True)):
        missing, extra = want & ~give, give & ~want
        wrong, label = (missing, 1.0) if missing.sum() >= extra.sum() else (extra, 0.0)
        found = np.flatnonzero(wrong)
        if not len(found):
            continue
        at = int(found[int(rng.integers(len(found)))])
        coords[i] = ((at % wrong.shape[1] + 0.5) * scale - 0.5, (at // wrong.shape[1] + 0.5) * scale - 0.5)
        labels[i] = label
    return coords, labels
