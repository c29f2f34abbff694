"""Clips: one object that events happen to, among others that lie still. `clip(seed)` is a pure function.

A clip is a row of segments, one event each. Every segment begins with the target in full sight, so that a
stream can be cut there. What is said of events is in `clip_words.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pam_edge.benchmarks.synthetic.background import background, exposed, exposure
from pam_edge.benchmarks.synthetic.combos import Combo, Split, combos
from pam_edge.benchmarks.synthetic.draw import Look, Pose, Sprite, draw
from pam_edge.benchmarks.synthetic.moves import Event, Field, Move, coverer_at, pose_at, possible, reach
from pam_edge.benchmarks.synthetic.scene import (
    Box,
    Drawn,
    box_of,
    canvas,
    find_room,
    jitter,
    light,
    random_stream,
)
from pam_edge.benchmarks.synthetic.stage import put_on

SEGMENTS = (3, 4)
SEGMENT_FRAMES = 16  # PAM reads 16 frames of a segment
_COVERERS = (
    "book",
    "gift",
    "backpack",
    "camera",
    "shirt",
    "padlock",
    "cup",
    "apple",
)  # little to see through


class Segment(NamedTuple):
    """Frames `start` to `stop` (excluded) and what happens to the target in them.

    `side` is where it leaves ("left", "right", "top", "bottom"), else empty; `by` what covers it, else None.
    """

    start: int
    stop: int
    event: Event
    side: str
    by: Combo | None


@dataclass(frozen=True, eq=False)
class Clip:
    """`frames` uint8 [T, H, W, 3]; `masks` bool [T, H, W], what shows of the target, if anything.

    `owners` uint8 [T, H, W]: 0 ground, k the k-th of `objects`: those that lie still, the target, and last
    what may cover it.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    target: Combo
    segments: tuple[Segment, ...]
    seed: int
    split: Split
    owners: NDArray[np.uint8]
    objects: tuple[Combo, ...]

    def box(self, frame: int) -> Box | None:
        """Tight box of the target in a frame; None while it is away."""
        mask = self.masks[frame]
        return box_of(mask) if mask.any() else None


def clip(seed: int, split: Split = "train", *, segment_frames: int = SEGMENT_FRAMES) -> Clip:
    """The clip of that seed: 3 or 4 segments. Every combination in it belongs to the split."""
    rng = random_stream(seed, split, "clip")
    field, target, begin, moves = _plot(rng, split)
    width, height = field.width, field.height
    cast = _Cast(_look(rng, target), *_still_objects(rng, field, begin, split), _coverer(rng, split))
    ground, shadow, setting = background(rng, width, height), light(rng, field.unit), exposure(rng)
    frames: list[NDArray[np.uint8]] = []
    owners: list[NDArray[np.uint8]] = []
    segments: list[Segment] = []
    for move in moves:
        first = len(frames)
        for at in _times(segment_frames):
            sprites = _sprites(cast, field, begin, move, at)
            staged = put_on(ground, sprites, shadow)
            frames.append(exposed(rng, staged.picture, setting))
            owners.append(staged.owner)
        by = Combo(*cast.coverer[:3]) if move.event == "covered" else None
        segments.append(Segment(first, len(frames), move.event, move.side, by))
        begin = move.end
    whole, objects = np.stack(owners), (*cast.names, target, Combo(*cast.coverer[:3]))
    masks = whole == len(cast.names) + 1
    return Clip(np.stack(frames), masks, target, tuple(segments), seed, split, whole, objects)


def poses(
    seed: int, split: Split = "train", *, segment_frames: int = SEGMENT_FRAMES
) -> tuple[Field, list[Pose]]:
    """The field of that clip, and where its target is in every frame, in sight or not; draws nothing."""
    field, _, begin, moves = _plot(random_stream(seed, split, "clip"), split)
    found = []
    for move in moves:
        found += [pose_at(field, begin, move, at) for at in _times(segment_frames)]
        begin = move.end
    return field, found


class _Plot(NamedTuple):
    """What is decided before anything is drawn."""

    field: Field
    target: Combo
    begin: Pose
    moves: list[Move]


def _plot(rng: np.random.Generator, split: Split) -> _Plot:
    width, height = canvas(rng)
    field = Field(width, height, math.sqrt(width * height) / 256)
    choice = combos(split)
    target = choice[int(rng.integers(len(choice)))]
    begin = _first_pose(rng, field)
    return _Plot(field, target, begin, _script(rng, field, begin))


def _times(frames: int) -> list[float]:
    """The share of a segment that is over, at each of its frames."""
    return [k / (frames - 1) for k in range(frames)]


class _Cast(NamedTuple):
    """Who plays: the target, the objects that lie still, and what may cover the target."""

    target: Look
    still: tuple[Sprite, ...]
    names: tuple[Combo, ...]
    coverer: Look


def _sprites(cast: _Cast, field: Field, begin: Pose, move: Move, at: float) -> list[Sprite]:
    """Everything in the picture, lowest first; the target comes right after the objects that lie still."""
    sprites = [*cast.still, draw(cast.target, pose_at(field, begin, move, at), scale=field.unit)]
    if move.event == "covered":
        size = max(1.35 * begin.size, 84 * field.unit)
        sprites.append(draw(cast.coverer, coverer_at(field, begin, size, at), scale=field.unit))
    return sprites


def _script(rng: np.random.Generator, field: Field, pose: Pose) -> list[Move]:
    """3 or 4 segments: a sort of event is drawn, then one of that sort; never the same sort twice running."""
    moves: list[Move] = []
    count = int(rng.integers(SEGMENTS[0], SEGMENTS[1] + 1))
    while len(moves) < count:
        open_to = possible(rng, field, pose, last=len(moves) == count - 1)
        sorts: dict[str, list[Move]] = {}
        for move in open_to:
            sorts.setdefault(_SORT[move.event], []).append(move)
        if moves:
            sorts.pop(_SORT[moves[-1].event], None)
        chosen = sorts[sorted(sorts)[int(rng.integers(len(sorts)))]]
        moves.append(chosen[int(rng.integers(len(chosen)))])
        pose = moves[-1].end
    return moves


_SORT: dict[Event, str] = {
    "move left": "move", "move right": "move", "move up": "move", "move down": "move",
    "turn clockwise": "turn", "turn counterclockwise": "turn", "grow": "size", "shrink": "size",
    "stay": "stay", "covered": "covered", "leave and return": "leave", "leave": "leave",
}  # fmt: skip


def _look(rng: np.random.Generator, combo: Combo) -> Look:
    return Look(*combo, jitter=jitter(rng), phase=float(rng.uniform(0, 1)))


def _first_pose(rng: np.random.Generator, field: Field) -> Pose:
    size = float(rng.uniform(58, 100)) * field.unit
    edge = reach(size)
    x, y = float(rng.uniform(edge, field.width - edge)), float(rng.uniform(edge, field.height - edge))
    return Pose(x, y, size, float(rng.uniform(-40, 40)), bool(rng.random() < 0.5))


def _still_objects(
    rng: np.random.Generator, field: Field, start: Pose, split: Split
) -> tuple[tuple[Sprite, ...], tuple[Combo, ...]]:
    """Two to four objects that keep clear of each other and of where the target begins; what they are."""
    choice = combos(split)
    taken = [Drawn(Look("", "", ""), start, "")]
    sprites = []
    for _ in range(int(rng.integers(2, 5))):
        size = float(rng.uniform(54, 90)) * field.unit
        pose = find_room(rng, (field.width, field.height), size, (taken, 0.0))
        look = _look(rng, choice[int(rng.integers(len(choice)))])
        if pose is not None:
            taken.append(Drawn(look, pose, ""))
            sprites.append(draw(look, pose, scale=field.unit))
    names = (Combo(*obj.look[:3]) for obj in taken[1:])
    return tuple(sprites), tuple(names)


def _coverer(rng: np.random.Generator, split: Split) -> Look:
    choice = [combo for combo in combos(split) if combo.kind in _COVERERS]
    return _look(rng, choice[int(rng.integers(len(choice)))])
