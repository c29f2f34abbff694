"""Scores of a model that follows an object through a clip of the world and tells what happens to it.

Masks and words go in, figures come out: lists of numbers by name, to be averaged. Knows no model, no engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pam_edge.benchmarks.synthetic import (
    Clip,
    Language,
    event_caption,
    named_colour,
    named_event,
    named_kind,
    random_click,
    segment_caption,
    told_events,
    told_in_full,
    told_subject,
)

Figures = dict[str, list[float]]
HIDING = ("covered", "leave and return", "leave")
LONG = 32  # frames followed
_SMALL = 200  # pixels: of an object that lies still, less is not clicked on


class Subject(NamedTuple):
    """An object to track: pointed at on the first frame of the window by a box (x0, y0, x1, y1), or by a
    click (x, y). `masks` bool [T, H, W] is what shows of it in the window.
    """

    name: str  # target, or bystander
    box: tuple[int, int, int, int] | None
    click: tuple[int, int] | None
    masks: NDArray[np.bool_]


def window(filmed: Clip) -> tuple[int, bool]:
    """First of the `LONG` frames to follow, and whether the target is hidden meanwhile: two segments of which
    one covers it or takes it out of the picture, else the clip's first two.
    """
    parts = filmed.segments
    for k, part in enumerate(parts):
        if part.event in HIDING:
            return parts[min(k, len(parts) - 2)].start, True
    return 0, False


def subjects(filmed: Clip) -> tuple[Subject, ...]:
    """What is tracked through the window: the target from its box, and from a click inside it one object
    that lies still, where enough of one shows.
    """
    first, _ = window(filmed)
    frames = slice(first, first + LONG)
    found = [Subject("target", box_at(filmed, first), None, filmed.masks[frames])]
    still = filmed.owners[frames] == 1
    if len(filmed.objects) > 2 and still[0].sum() > _SMALL:
        click = random_click(still[0], np.random.default_rng(filmed.seed))
        found.append(Subject("bystander", None, click, still))
    return tuple(found)


def box_at(filmed: Clip, frame: int) -> tuple[int, int, int, int]:
    """Tight box (x0, y0, x1, y1) of the target on a frame where it is in sight."""
    box = filmed.box(frame)
    assert box is not None, "every segment begins with the target in sight"
    return box.x, box.y, box.x + box.w, box.y + box.h


def add_window(
    figures: Figures, filmed: Clip, found: Mapping[str, Sequence[NDArray[np.bool_]]]
) -> dict[str, list[float]]:
    """Masks [H, W] found in the window, frame by frame, of every subject by its name; returns their IoUs.

    Of the target also: "hidden" the frames of windows in which it is hidden meanwhile, "in sight" those of
    the others; "found again" the frames after the one on which least of it showed.
    """
    ious = {obj.name: add_masks(figures, obj.name, found[obj.name], obj.masks) for obj in subjects(filmed)}
    first, hidden = window(filmed)
    of_target = np.array(ious["target"])
    _put(figures, "hidden mIoU" if hidden else "in sight mIoU", of_target)
    if hidden:
        (part, *_) = [p for p in filmed.segments if p.event in HIDING]
        areas = filmed.masks[part.start : part.stop].sum(axis=(1, 2))
        least = part.stop - 1 - int(np.argmin(areas[::-1]))
        _put(figures, "found again mIoU", of_target[least + 1 - first :])
    return ious


def add_masks(
    figures: Figures, name: str, found: Sequence[NDArray[np.bool_]], wanted: NDArray[np.bool_]
) -> list[float]:
    """Masks [H, W] given and wanted, frame by frame; returns the IoU of each.

    Where nothing is to be seen that is NaN, and the frame counts in "NAME absent, called so" alone. Of the
    others "NAME in sight, called so" says on how many any mask was given.
    """
    ious = []
    for given, mask in zip(found, wanted, strict=True):
        if mask.any():
            ious.append(float((given & mask).sum() / (given | mask).sum()))
            figures.setdefault(f"{name} in sight, called so", []).append(float(given.any()))
        else:
            ious.append(float("nan"))
            figures.setdefault(f"{name} absent, called so", []).append(float(not given.any()))
    _put(figures, f"{name} mIoU", np.array(ious))
    return ious


def add_stream(figures: Figures, filmed: Clip, said: Mapping[Language, Sequence[str]]) -> None:
    """The captions of a clip's segments, by language, "" where nothing was said. A stream that was lost has
    fewer: the rest is wrong.

    An event is right where the caption tells it and no other; "in full" with the side it happens on and what
    covers. A name is the kind of what the caption is about, not of what covers it; the same throughout where
    every segment's caption has that one.
    """
    parts = filmed.segments
    for lang, given in said.items():
        if len(given) > len(parts):
            raise ValueError(f"{len(given)} captions of {len(parts)} segments")
        texts = [*given, *[""] * (len(parts) - len(given))]
        for k, (part, text) in enumerate(zip(parts, texts, strict=True)):
            right = float(named_event(text, lang) == part.event)
            figures.setdefault(f"event {lang}", []).append(right)
            figures.setdefault(f"event {lang}: {part.event}", []).append(right)
            in_full = float(told_in_full(text, filmed, k, lang))
            figures.setdefault(f"event in full {lang}", []).append(in_full)
            exact = float(text == segment_caption(filmed, k, lang))
            figures.setdefault(f"segment caption exact {lang}", []).append(exact)
        kinds = {named_kind(told_subject(text, lang), lang) for text in texts}
        figures.setdefault(f"named the same throughout {lang}", []).append(
            float(len(kinds) == 1 and None not in kinds)
        )
        figures.setdefault(f"named right throughout {lang}", []).append(float(kinds == {filmed.target.kind}))
        colour = named_colour(told_subject(texts[0], lang), lang)
        figures.setdefault(f"clip colour {lang}", []).append(float(colour == filmed.target.colour))


def add_whole(figures: Figures, filmed: Clip, said: Mapping[Language, str]) -> None:
    """The caption of a whole clip, by language: word for word, and the events told in their place."""
    events = tuple(part.event for part in filmed.segments)
    for lang, text in said.items():
        told = told_events(text, lang)
        right = sum(a == b for a, b in zip(told, events, strict=False))
        exact = float(text == event_caption(filmed, lang))
        figures.setdefault(f"clip caption exact {lang}", []).append(exact)
        figures.setdefault(f"clip events, in place {lang}", []).append(right / max(len(told), len(events)))


def _put(figures: Figures, name: str, ious: NDArray[np.float64]) -> None:
    """The IoUs that are numbers."""
    figures.setdefault(name, []).extend(ious[~np.isnan(ious)].tolist())
