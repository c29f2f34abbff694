"""What an evaluation on clips found: the record behind its JSON, and the same as a table for people.

Made of the figures of `clip_scores.py`; each says over how many it was taken. Computes nothing but means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from pam_edge.benchmarks.quality.clip_scores import Figures
from pam_edge.benchmarks.quality.report import Cell, figure_columns, shown
from pam_edge.benchmarks.synthetic.moves import EVENTS
from pam_edge.text.tokenization import Lang

SCHEMA = 1


class Masks(msgspec.Struct, frozen=True):
    """Mean IoU over the frames, the prompted one among them, on which any of the object shows; then shares of
    frames.
    """

    target: Cell
    hidden: Cell  # the target, of clips in which it is covered or leaves the picture meanwhile
    found_again: Cell  # of those, the frames after the one on which least of it showed
    in_sight: Cell  # the target, of the other clips
    bystander: Cell  # an object that lies still, from a click
    seen: Cell  # frames on which any of the target shows, with a mask that is not empty
    absent: Cell  # frames on which nothing of it shows, with an empty mask


class Told(msgspec.Struct, frozen=True):
    """Captions in one language, as shares."""

    event: Cell  # segments whose caption tells what happens and nothing else
    event_in_full: Cell  # and the side it leaves by, and what covers it
    same_name: Cell  # streams that name the object's kind, and the same in every segment
    right_name: Cell  # and the right one
    colour: Cell  # streams whose first caption names the object's colour
    exact: Cell  # segments' captions, word for word
    clip_events: Cell  # events of a whole clip's caption, told in their place
    clip_exact: Cell  # whole clips' captions, word for word
    by_event: dict[str, Cell]


class Motion(msgspec.Struct, frozen=True):
    """The whole evaluation; `to_json` writes it."""

    schema: int
    bundle: dict[str, Any]  # variant, target, runtime, scheme, weights, tools
    data: dict[str, Any]
    clips: int
    frames: int  # that were looked at
    masks: Masks
    languages: dict[str, Told]
    lost: int  # segments in which the object was never found, and so nothing said
    cut_off: int  # captions that reached `max_tokens`
    max_tokens: int
    seconds: dict[str, float]  # total, and the parts of it
    machine: dict[str, str] = {}  # processor, kind of CPU as engines see it, engine; rows of before have none


def masks(figures: Figures) -> Masks:
    """Figures of masks as cells."""
    return Masks(
        target=_cell(figures, "target mIoU"),
        hidden=_cell(figures, "hidden mIoU", "no clip hides its target"),
        found_again=_cell(figures, "found again mIoU", "no clip brings its target back"),
        in_sight=_cell(figures, "in sight mIoU", "every clip hides its target"),
        bystander=_cell(figures, "bystander mIoU", "nothing lies still in these clips"),
        seen=_cell(figures, "target in sight, called so"),
        absent=_cell(figures, "target absent, called so", "no target is out of sight"),
    )


def told(figures: Figures, lang: Lang) -> Told:
    """Figures of captions in a language as cells."""
    of_events = {event: figures[key] for event in EVENTS if (key := f"event {lang}: {event}") in figures}
    return Told(
        event=_cell(figures, f"event {lang}"),
        event_in_full=_cell(figures, f"event in full {lang}"),
        same_name=_cell(figures, f"named the same throughout {lang}"),
        right_name=_cell(figures, f"named right throughout {lang}"),
        colour=_cell(figures, f"clip colour {lang}"),
        exact=_cell(figures, f"segment caption exact {lang}"),
        clip_events=_cell(figures, f"clip events, in place {lang}"),
        clip_exact=_cell(figures, f"clip caption exact {lang}"),
        by_event={event: Cell(float(np.mean(values)), len(values)) for event, values in of_events.items()},
    )


def to_json(report: Motion) -> bytes:
    """UTF-8 JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def rows(report: Motion) -> list[tuple[str, Mapping[str, Cell]]]:
    """Rows of the summary: a figure's name and its cell by language ("" where it has none)."""
    masks, of = report.masks, report.languages
    found: list[tuple[str, Mapping[str, Cell]]] = [
        ("target mIoU", {"": masks.target}),
        ("  hidden meanwhile", {"": masks.hidden}),
        ("  found again", {"": masks.found_again}),
        ("  in sight throughout", {"": masks.in_sight}),
        ("bystander mIoU", {"": masks.bystander}),
        ("in sight, called so", {"": masks.seen}),
        ("out of sight, called so", {"": masks.absent}),
        ("event right", {lang: of[lang].event for lang in of}),
        ("  with side and coverer", {lang: of[lang].event_in_full for lang in of}),
        ("named the same throughout", {lang: of[lang].same_name for lang in of}),
        ("  and right", {lang: of[lang].right_name for lang in of}),
        ("colour named right", {lang: of[lang].colour for lang in of}),
        ("segment's caption exact", {lang: of[lang].exact for lang in of}),
        ("clip's events in place", {lang: of[lang].clip_events for lang in of}),
        ("clip's caption exact", {lang: of[lang].clip_exact for lang in of}),
    ]
    events = [event for event in EVENTS if any(event in told.by_event for told in of.values())]
    return found + [
        (
            f"event: {event}",
            {lang: told.by_event[event] for lang, told in of.items() if event in told.by_event},
        )
        for event in events
    ]


def to_text(report: Motion, names: Mapping[str, str]) -> str:
    """Summary for a terminal, languages by their names; in brackets over how many."""
    langs = list(report.languages)
    table = [["", *(names.get(lang, lang) for lang in langs)]]
    for name, cells in rows(report):
        row = [_counted(cells.get(lang)) for lang in langs]
        table.append([name, *([_counted(cells[""]), *[""] * (len(langs) - 1)] if "" in cells else row)])
    parts = [
        f"{report.clips} clips, {report.frames} frames, {report.seconds['total']:.0f} s",
        figure_columns(table),
    ]
    if report.lost:
        parts.append(f"the target was never found in {report.lost} segments")
    if report.cut_off:
        parts.append(f"{report.cut_off} captions were cut off at {report.max_tokens} tokens")
    return "\n\n".join(parts)


def _counted(cell: Cell | None) -> str:
    text = shown(cell)
    return text if cell is None or cell.value is None else f"{text} ({cell.n})"


def _cell(figures: Figures, name: str, why: str = "not asked for") -> Cell:
    values: Sequence[float] = figures.get(name, ())
    return Cell(float(np.mean(values)), len(values)) if len(values) else Cell(None, 0, why)
