"""What PAM's authors publish of its speed and memory, and which of it is a claim that can be checked here.

Read off the figure on the project's page (Perceive-Anything.github.io, static/images/efficiency.png; the
paper is arXiv 2506.05302) at the bars' ends and the points' middles: +-2 %. It names neither a GPU nor the
length of the answers. Knows numbers, no system's shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["image", "video"]
Quantity = Literal["time", "memory"]
TASKS: tuple[Task, ...] = ("image", "video")
READING = 0.02  # how far a number read off the figure may be off
SOURCE = "Perceive-Anything.github.io, static/images/efficiency.png (arXiv 2506.05302)"
OURS, VARIANT = "PAM-3B", "pam-3b"  # in the figure, and here
PART = "claims"  # of rows


@dataclass(frozen=True)
class Point:
    """One system in one panel of the figure."""

    system: str
    task: Task
    seconds: float  # an item: a picture, a clip
    gigabytes: float  # of GPU memory


POINTS: tuple[Point, ...] = (
    Point("LLaVA-OV-7B", "image", 1.78, 19.1),
    Point("VP-SPHINX-13B", "image", 2.26, 22.4),
    Point("Ferret-7B", "image", 1.87, 19.6),
    Point("Omni-RGPT-7B", "image", 1.97, 18.9),
    Point("DAM-3B", "image", 1.41, 10.1),
    Point(OURS, "image", 1.05, 9.1),
    Point("LLaVA-OV-7B", "video", 12.0, 25.4),
    Point("VideoRefer-7B", "video", 11.6, 24.6),
    Point("Omni-RGPT-7B", "video", 11.1, 24.3),
    Point("DAM-3B", "video", 6.4, 12.1),
    Point(OURS, "video", 5.3, 12.5),
)


@dataclass(frozen=True)
class Claim:
    """How many times less PAM-3B takes than another system, as published: above 1, PAM wins."""

    system: str
    task: Task
    quantity: Quantity
    factor: float


def claims() -> tuple[Claim, ...]:
    """Every ratio of the figure, time before memory, in its order."""
    ours = {point.task: point for point in POINTS if point.system == OURS}
    found = []
    for point in POINTS:
        if point.system != OURS:
            pam = ours[point.task]
            found.append(Claim(point.system, point.task, "time", point.seconds / pam.seconds))
            found.append(Claim(point.system, point.task, "memory", point.gigabytes / pam.gigabytes))
    return tuple(sorted(found, key=lambda claim: (claim.task, claim.quantity == "memory")))


def claimed(variant: str, system: str, task: Task, quantity: Quantity) -> float | None:
    """The published ratio; None where the figure has none, as of any variant but PAM-3B."""
    if variant != VARIANT:
        return None
    found = (c.factor for c in claims() if (c.system, c.task, c.quantity) == (system, task, quantity))
    return next(found, None)
