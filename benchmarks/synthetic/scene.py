"""Scenes: a few objects on a ground, with everything that is true of them. `scene(seed)` is a pure function.

Sizes are in steps of the scene's unit, sqrt(width * height) / 256, so that a scene looks the same to a model
that squeezes every picture into a square. Words that would be a coin toss (a place between two thirds, a
neighbour no nearer than the next) are left out rather than guessed.
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pam_edge.benchmarks.synthetic.background import background, exposed, exposure
from pam_edge.benchmarks.synthetic.combos import Split, combos
from pam_edge.benchmarks.synthetic.draw import Look, Pose, body_coverage, draw
from pam_edge.benchmarks.synthetic.stage import Shadow, Staged, put_on

SIZES: dict[str, tuple[float, float]] = {"small": (54, 63), "medium": (77, 92), "large": (112, 132)}
MAX_TURN = 45.0  # degrees either way
MIN_VISIBLE = 0.45  # objects that show less than this are in the picture but not annotated
_PLACE_MARGIN = 0.035  # of the picture's side: a centre this near to a third is called neither
_NEAR, _NEARER_BY = 0.16, 0.05  # a neighbour is this near, and this much nearer than the next object


class Box(NamedTuple):
    """Pixels, left top corner and extent: [x, y, w, h] as PAM's image annotations have it."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, eq=False)
class WorldObject:
    """One object of a scene that can be asked about.

    `mask` bool [H, W] is what is visible; `visible` the share of the whole that is (0..1); `place` a key of
    `texts.PLACE_ZH`, or None between two; `neighbour` the index in `Scene.objects` of the
    object it is next to, or None.
    """

    kind: str
    colour: str
    pattern: str
    size: str
    pose: Pose
    mask: NDArray[np.bool_]
    box: Box
    visible: float
    place: str | None
    neighbour: int | None


@dataclass(frozen=True, eq=False)
class Scene:
    """`image` uint8 [H, W, 3] RGB, and the annotated objects, lowest first."""

    image: NDArray[np.uint8]
    objects: tuple[WorldObject, ...]
    seed: int
    split: Split

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.image.shape[0])


class Drawn(NamedTuple):
    """What is put on the ground: look, pose and size word."""

    look: Look
    pose: Pose
    size: str


def nth_seed(seed: int, n: int) -> int:
    """The seed of the n-th scene or clip of a set: sets of different seeds share none below a million."""
    return seed * 1_000_003 + n


def random_stream(seed: int, split: Split, purpose: str) -> np.random.Generator:
    """The generator of one scene or clip: other splits and purposes never share numbers."""
    return np.random.default_rng([seed, zlib.crc32(f"{purpose}/{split}".encode())])


def scene(seed: int, split: Split = "train") -> Scene:
    """The scene of that seed. Every combination in it is of the split; at least two annotated objects."""
    rng = random_stream(seed, split, "scene")
    while True:
        width, height = canvas(rng)
        unit = math.sqrt(width * height) / 256
        drawn = arrange(rng, (width, height), unit, split)
        if len(drawn) < 3:
            continue
        ground = background(rng, width, height)
        staged = put_on(ground, [draw(t.look, t.pose, scale=unit) for t in drawn], light(rng, unit))
        pixels = compressed(rng, exposed(rng, staged.picture, exposure(rng)))
        objects = annotate(drawn, staged, unit)
        if len(objects) >= 2:
            return Scene(pixels, objects, seed, split)


def canvas(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height in pixels: 256..384, not more than 5 : 4 so that size words survive the square."""
    while True:
        width, height = (int(rng.integers(128, 193)) * 2 for _ in range(2))
        if max(width, height) <= 1.25 * min(width, height):
            return width, height


def light(rng: np.random.Generator, unit: float) -> Shadow:
    """One lamp for the whole scene."""
    angle, length = rng.uniform(0, math.pi), rng.uniform(2, 5) * unit
    return Shadow(math.cos(angle) * length, math.sin(angle) * length, float(rng.uniform(0.25, 0.5)))


def arrange(rng: np.random.Generator, canvas: tuple[int, int], unit: float, split: Split) -> list[Drawn]:
    """Up to twelve objects that mostly keep clear of each other, lowest first."""
    wanted = int(rng.integers(3, 13))
    likely = (0.2 + wanted / 12, 0.6, max(0.12, 0.7 - wanted / 16))
    words = rng.choice(np.arange(len(SIZES)), size=wanted, p=np.array(likely) / sum(likely))
    names, choice = list(SIZES), combos(split)
    drawn: list[Drawn] = []
    for word in sorted(words.tolist(), reverse=True):  # the large ones first, while there is room
        combo = choice[int(rng.integers(len(choice)))]
        look = Look(*combo, jitter=jitter(rng), phase=float(rng.uniform(0, 1)))
        size = float(rng.uniform(*SIZES[names[word]])) * unit
        crowding = 0.19 if rng.random() < 0.4 else 0.03
        pose = find_room(rng, canvas, size, (drawn, crowding))
        if pose is not None:
            drawn.append(Drawn(look, pose, names[word]))
    return [drawn[i] for i in rng.permutation(len(drawn)).tolist()]


def annotate(drawn: list[Drawn], staged: Staged, unit: float) -> tuple[WorldObject, ...]:
    """What is true of the objects that show enough of themselves, and of their colour."""
    height, width = staged.owner.shape
    seen = []
    for number, obj in enumerate(drawn, start=1):
        mask = staged.owner == number
        visible = float(mask.sum()) / max(1, staged.full[number - 1])
        if visible >= MIN_VISIBLE and (visible > 0.9 or _colour_shows(obj, mask, unit)):
            seen.append((obj, mask, box_of(mask), visible))
    every = [box_of(staged.owner == n) for n in range(1, len(drawn) + 1) if (staged.owner == n).any()]
    boxes = [box for _, _, box, _ in seen]
    side = math.sqrt(width * height)
    return tuple(
        WorldObject(
            kind=obj.look.kind,
            colour=obj.look.colour,
            pattern=obj.look.pattern,
            size=obj.size,
            pose=obj.pose,
            mask=mask,
            box=box,
            visible=visible,
            place=place_of(box, width, height),
            neighbour=_neighbour(box, boxes, every, side),
        )
        for obj, mask, box, visible in seen
    )


def _colour_shows(obj: Drawn, mask: NDArray[np.bool_], unit: float) -> bool:
    coverage, left, top = body_coverage(obj.look, obj.pose, scale=unit)
    body = np.array(coverage) >= 128
    whole = Image.new("L", (mask.shape[1], mask.shape[0]), 0)
    whole.paste(255, (left, top, left + coverage.width, top + coverage.height), coverage)
    return float(((np.array(whole) >= 128) & mask).sum()) >= MIN_VISIBLE * float(body.sum())


def box_of(mask: NDArray[np.bool_]) -> Box:
    """Tight box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return Box(x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)


def place_of(box: Box, width: int, height: int) -> str | None:
    """Where the box's centre lies, in thirds of the picture; None too near to the line between two."""
    column = _third((box.x + box.w / 2) / width, ("left", "", "right"))
    row = _third((box.y + box.h / 2) / height, ("top", "", "bottom"))
    if column is None or row is None:
        return None
    return f"{row} {column}".strip() or "centre"


def compressed(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Most pictures have been a JPEG."""
    if rng.random() < 0.3:
        return pixels
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
    return np.array(Image.open(buffer))


def _third(at: float, names: tuple[str, str, str]) -> str | None:
    if min(abs(at - 1 / 3), abs(at - 2 / 3)) < _PLACE_MARGIN:
        return None
    return names[0] if at < 1 / 3 else names[1] if at < 2 / 3 else names[2]


def jitter(rng: np.random.Generator) -> tuple[float, float, float]:
    """A small shift of an object's colours, as `Look.jitter`."""
    brightness = rng.uniform(-8, 8)
    r, g, b = (float(round(brightness + v)) for v in rng.uniform(-6, 6, 3))
    return r, g, b


def find_room(
    rng: np.random.Generator, canvas: tuple[int, int], size: float, taken: tuple[list[Drawn], float]
) -> Pose | None:
    """A pose inside the picture, its circle sharing little with others; None after twenty tries."""
    drawn, crowding = taken
    angle, mirrored = float(rng.uniform(-MAX_TURN, MAX_TURN)), bool(rng.random() < 0.5)
    reach = 0.56 * size  # about half of what a turned shape spans
    for _ in range(20):
        x = float(rng.uniform(reach, canvas[0] - reach))
        y = float(rng.uniform(reach, canvas[1] - reach))
        if not (_clear(x / canvas[0]) and _clear(y / canvas[1])):
            continue
        gaps = (math.hypot(x - t.pose.x, y - t.pose.y) / (size + t.pose.size) for t in drawn)
        if all(gap > 0.5 - crowding for gap in gaps):
            return Pose(x, y, size, angle, mirrored)
    return None


def _clear(at: float) -> bool:
    return min(abs(at - 1 / 3), abs(at - 2 / 3)) >= _PLACE_MARGIN + 0.012


def _gap(a: Box, b: Box) -> float:
    dx = max(b.x - (a.x + a.w), a.x - (b.x + b.w), 0)
    dy = max(b.y - (a.y + a.h), a.y - (b.y + b.h), 0)
    return math.hypot(dx, dy)


def _neighbour(box: Box, boxes: list[Box], every: list[Box], side: float) -> int | None:
    """The one object that is clearly nearest, if it is near and itself annotated."""
    gaps = sorted((_gap(box, other) / side, other) for other in every if other != box)
    if not gaps or gaps[0][0] > _NEAR or (len(gaps) > 1 and gaps[1][0] - gaps[0][0] < _NEARER_BY):
        return None
    return boxes.index(gaps[0][1]) if gaps[0][1] in boxes else None
