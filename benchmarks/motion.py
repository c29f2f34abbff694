"""Scores of a model that follows a thing through a clip of the world and tells what happens to it.

Masks and words go in, figures come out: lists of numbers by name, to be averaged. Knows no model, no engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pam_edge.benchmarks.world import (
    Clip,
    Language,
    event_caption,
    named_colour,
    named_event,
    named_kind,
    segment_caption,
    told_events,
)

Figures = dict[str, list[float]]
HIDING = ("covered", "leave and return", "leave")
LONG = 32  # frames followed


def window(filmed: Clip) -> tuple[int, bool]:
    """First of the `LONG` frames to follow, and whether the target is hidden meanwhile: two segments of which
    one covers it or takes it out of the picture, else the clip's first two.
    """
    parts = filmed.segments
    for k, part in enumerate(parts):
        if part.event in HIDING:
            return parts[min(k, len(parts) - 2)].start, True
    return 0, False


def add_masks(
    figures: Figures, name: str, found: Sequence[NDArray[np.bool_]], wanted: NDArray[np.bool_]
) -> list[float]:
    """Masks [H, W] given and wanted, frame by frame; returns the IoU of each.

    Where nothing is to be seen that is NaN, and the frame counts in "NAME absent, called so" alone.
    """
    ious = []
    for given, mask in zip(found, wanted, strict=True):
        if mask.any():
            ious.append(float((given & mask).sum() / (given | mask).sum()))
            figures.setdefault(f"{name} mIoU", []).append(ious[-1])
        else:
            ious.append(float("nan"))
            figures.setdefault(f"{name} absent, called so", []).append(float(not given.any()))
    return ious


def add_stream(figures: Figures, filmed: Clip, said: Mapping[Language, Sequence[str]]) -> None:
    """The captions of a clip's segments, by language. A stream that was lost has fewer: the rest is wrong."""
    for lang, texts in said.items():
        for k, part in enumerate(filmed.segments):
            text = texts[k] if k < len(texts) else ""
            right = float(named_event(text, lang) == part.event)
            figures.setdefault(f"event {lang}", []).append(right)
            figures.setdefault(f"event: {part.event}", []).append(right)
            exact = float(text == segment_caption(filmed, k, lang))
            figures.setdefault(f"segment caption exact {lang}", []).append(exact)
        kinds = {named_kind(text, lang) for text in texts}
        figures.setdefault(f"named the same throughout {lang}", []).append(
            float(len(kinds) == 1 and None not in kinds)
        )
        figures.setdefault(f"named right throughout {lang}", []).append(float(kinds == {filmed.target.kind}))
        colour = named_colour(texts[0], lang) if texts else None
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
