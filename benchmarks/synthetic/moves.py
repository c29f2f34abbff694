"""What can happen to an object in one segment of a clip, and the poses it takes meanwhile.

Pure geometry in pixels and frames; knows no looks and no words.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np

from pam_edge.benchmarks.synthetic.draw import Pose

Event = Literal[
    "move left", "move right", "move up", "move down", "turn clockwise", "turn counterclockwise",
    "grow", "shrink", "stay", "covered", "leave and return", "leave",
]  # fmt: skip
EVENTS: tuple[Event, ...] = get_args(Event)
MAX_TURN = 45.0  # degrees either way, as in scenes
_STEP = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


class Field(NamedTuple):
    """The picture an object moves in: pixels, and the unit sizes are counted in."""

    width: int
    height: int
    unit: float


class Move(NamedTuple):
    """One segment: what happens, the side it happens on (for leaving), and the pose at its end."""

    event: Event
    side: str
    end: Pose


def possible(rng: np.random.Generator, field: Field, pose: Pose, *, last: bool) -> list[Move]:
    """Every event that the pose has room for, with one chosen outcome each. `leave` only as the last."""
    moves = [
        *_shifts(rng, field, pose),
        *_turns(rng, pose),
        *_sizes(field, pose),
        Move("stay", "", pose),
        Move("covered", "", pose),
    ]
    side = _nearest_side(field, pose)
    if side is not None:
        moves.append(Move("leave and return", side, pose))
        if last:
            moves.append(Move("leave", side, _outside(field, pose, side)))
    return moves


def pose_at(field: Field, start: Pose, move: Move, at: float) -> Pose:
    """The pose when the share `at` (0..1) of the segment is over; motion sets in and ends softly."""
    if move.event == "leave and return":
        out = _outside(field, start, move.side)
        return _between(start, out, _soft(min(1.0, at / 0.4)) if at < 0.6 else _soft((1 - at) / 0.4))
    return _between(start, move.end, _soft(at))


def coverer_at(field: Field, start: Pose, size: float, at: float) -> Pose:
    """Where the object is that comes in from the nearer side, rests on `start` and withdraws."""
    outside = -reach(size) - 6 * field.unit
    x = outside if start.x < field.width / 2 else field.width - outside
    share = _soft(at / 0.4) if at < 0.6 else _soft((1 - at) / 0.4)
    return Pose(x + (start.x - x) * share, start.y, size, 0.0)


def reach(size: float) -> float:
    """How far from its centre an object of that size may extend, whatever its angle."""
    return 0.56 * size


def _shifts(rng: np.random.Generator, field: Field, pose: Pose) -> list[Move]:
    moves: list[Move] = []
    for way, (dx, dy) in _STEP.items():
        side = field.width if dx else field.height
        step = float(rng.uniform(0.28, 0.5)) * side
        x, y = pose.x + dx * step, pose.y + dy * step
        edge = reach(pose.size)
        if edge <= x <= field.width - edge and edge <= y <= field.height - edge:
            moves.append(Move(_event(f"move {way}"), "", pose._replace(x=x, y=y)))
    return moves


def _turns(rng: np.random.Generator, pose: Pose) -> list[Move]:
    by = float(rng.uniform(50, 80))
    turns = (("clockwise", by), ("counterclockwise", -by))
    return [
        Move(_event(f"turn {way}"), "", pose._replace(angle=pose.angle + angle))
        for way, angle in turns
        if abs(pose.angle + angle) <= MAX_TURN
    ]


def _sizes(field: Field, pose: Pose) -> list[Move]:
    grown, shrunk = pose.size * 1.55, pose.size / 1.55
    edge = reach(grown)
    room = min(pose.x, field.width - pose.x, pose.y, field.height - pose.y)
    moves = []
    if grown <= 125 * field.unit and edge <= room:
        moves.append(Move("grow", "", pose._replace(size=grown)))
    if shrunk >= 54 * field.unit:
        moves.append(Move("shrink", "", pose._replace(size=shrunk)))
    return moves


def _nearest_side(field: Field, pose: Pose) -> str | None:
    """The side an object can leave by within a segment; None from the middle of the picture."""
    gaps = {"left": pose.x, "right": field.width - pose.x, "top": pose.y, "bottom": field.height - pose.y}
    side = min(gaps, key=lambda name: gaps[name])
    return side if gaps[side] <= 0.45 * min(field.width, field.height) else None


def _outside(field: Field, pose: Pose, side: str) -> Pose:
    beyond = reach(pose.size) + 6 * field.unit
    match side:
        case "left":
            return pose._replace(x=-beyond)
        case "right":
            return pose._replace(x=field.width + beyond)
        case "top":
            return pose._replace(y=-beyond)
        case _:
            return pose._replace(y=field.height + beyond)


def _between(a: Pose, b: Pose, t: float) -> Pose:
    return Pose(
        a.x + (b.x - a.x) * t,
        a.y + (b.y - a.y) * t,
        a.size * (b.size / a.size) ** t,
        a.angle + (b.angle - a.angle) * t,
        a.mirrored,
    )


def _soft(t: float) -> float:
    return 0.5 - 0.5 * math.cos(math.pi * min(1.0, max(0.0, t)))


def _event(name: str) -> Event:
    for event in EVENTS:
        if event == name:
            return event
    raise KeyError(name)
