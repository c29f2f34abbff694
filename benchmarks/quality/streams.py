"""Streams in PAM's annotation format: how well a bundle follows and tells them, event by event.

Only the first event's box is given; every further event starts from the last mask of the one before and is
told its caption, as in use. METEOR and CIDEr are those of `caption_scores.py`. Continuity is a number of our
own, from words alone: how much of one caption's words the next repeats (F1), beside the same for the true
captions. PAM's paper has a language model judge continuity: the two cannot be compared. Knows no options.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET

from pam_edge.benchmarks.quality.caption_scores import Meteor, Pair, Score, cider
from pam_edge.benchmarks.quality.metrics import words
from pam_edge.benchmarks.quality.streaming import Stream
from pam_edge.benchmarks.synthetic.records import (
    EventRecord,
    VideoRecord,
    as_mask,
    numbered_records,
    pictures_of,
    require_pictures,
)
from pam_edge.core.errors import IntegrityError, UsageError
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.pam import Pam
from pam_edge.text.tokenization import Lang
from pam_edge.video.tracker import Tracked


@dataclass(frozen=True)
class Streams:
    """One language's figures. `iou` is the mean over frames that have a true mask, None where none has."""

    lang: Lang
    streams: int
    events: int
    lost: int  # events in which the object was never in sight, and nothing was said
    iou: float | None
    meteor: Score
    cider: Score
    continuity: float | None  # 0 to 1, of what was said; None without two events in a row
    continuity_of_truth: float | None


@dataclass
class _Tally:
    streams: int = 0
    events: int = 0
    lost: int = 0

    def __post_init__(self) -> None:
        self.overlaps: list[float] = []
        self.pairs: list[Pair] = []
        self.said: list[float] = []
        self.true: list[float] = []


def as_lines(records: Sequence[VideoRecord]) -> bytes:
    """Records as JSON lines."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def read_streams(path: Path, image_root: Path, langs: Sequence[Lang]) -> tuple[VideoRecord, ...]:
    """The video records of a file in the languages asked for, their frames known to be there; images are left
    out. Raises UsageError where there is none, IntegrityError naming the line that is broken.
    """
    found: list[VideoRecord] = []
    for number, record in numbered_records(path):
        if not isinstance(record, VideoRecord) or language_of(record) not in langs:
            continue
        require_pictures(record, image_root, where=f"{path}, line {number}")
        if not record.annotations[0].box:
            raise IntegrityError(
                f"{path}, line {number}: its first event has no box: what is to be followed?"
            )
        found.append(record)
    if not found:
        raise UsageError(f"{path} holds no video record in {', '.join(langs)}")
    return tuple(found)


def language_of(record: VideoRecord) -> Lang:
    """The language of a record's captions."""
    return "zh" if any("\u4e00" <= c <= "\u9fff" for c in record.annotations[0].gt) else "en"


def evaluate_streams(
    pam: Pam,
    records: Sequence[VideoRecord],
    image_root: Path,
    *,
    max_tokens: int = 128,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> tuple[tuple[VideoRecord, ...], tuple[Streams, ...]]:
    """The records with `pred` filled in, and the figures of each language in them."""
    tallies: dict[Lang, _Tally] = {}
    results: list[VideoRecord] = []
    for done, record in enumerate(records, start=1):
        tally = tallies.setdefault(language_of(record), _Tally())
        events = tuple(_told(pam, record, image_root, tally, max_tokens=max_tokens))
        results.append(msgspec.structs.replace(record, annotations=events))
        tally.streams += 1
        for before, after in pairwise(events):
            assert before.pred is not UNSET and after.pred is not UNSET
            tally.said.append(repeated(before.pred, after.pred))
            tally.true.append(repeated(before.gt, after.gt))
        progress(done, len(records))
    meteor = Meteor()
    return tuple(results), tuple(
        Streams(
            lang=lang,
            streams=tally.streams,
            events=tally.events,
            lost=tally.lost,
            iou=_mean(tally.overlaps),
            meteor=meteor.score(tally.pairs),
            cider=cider(tally.pairs),
            continuity=_mean(tally.said),
            continuity_of_truth=_mean(tally.true),
        )
        for lang, tally in sorted(tallies.items())
    )


def repeated(before: str, after: str) -> float:
    """F1 of the words (Chinese: characters) that two captions share, counted as often as both have them."""
    a, b = Counter(words(before)), Counter(words(after))
    shared = sum((a & b).values())
    return 2 * shared / (a.total() + b.total()) if shared else 0.0


def to_text(report: Sequence[Streams]) -> str:
    """The figures for people, with what they are not."""
    lines = []
    for row in report:
        figures = [
            f"{row.lang}: {row.streams} streams, {row.events} events, {row.lost} out of sight",
            f"mask IoU {_number(row.iou)}",
            *(
                f"{name} {_number(score.value)}{f' ({score.note})' if score.note else ''}"
                for name, score in (("METEOR", row.meteor), ("CIDEr", row.cider))
            ),
            f"continuity {_number(row.continuity)} (true captions {_number(row.continuity_of_truth)})",
        ]
        lines.append("\n  ".join(figures))
    lines.append(
        "continuity: words shared by a caption and the next (F1), a number of our own; "
        "PAM's paper has a language model judge it"
    )
    return "\n".join(lines)


def _told(
    pam: Pam, record: VideoRecord, image_root: Path, tally: _Tally, *, max_tokens: int
) -> Iterator[EventRecord]:
    lang = language_of(record)
    pictures = iter(pictures_of(record, image_root))
    start = Prompt(box=record.annotations[0].box[0])
    stream = Stream(pam, start, langs=[lang], max_tokens=max_tokens)
    for event in record.annotations:
        stream.begin(len(event.frames))
        for index in range(len(event.frames)):
            _judge(event, index, stream.step(next(pictures)), tally)
        answers = stream.end()
        said = "" if answers is None else answers[lang].text
        tally.events, tally.lost = tally.events + 1, tally.lost + (answers is None)
        tally.pairs.append((said, event.gt))
        yield msgspec.structs.replace(event, pred=said)


def _judge(event: EventRecord, index: int, found: Tracked, tally: _Tally) -> None:
    if event.segmentations is UNSET or index >= len(event.segmentations):
        return
    coded = event.segmentations[index]
    if coded is None:
        return
    true = as_mask(coded)
    if true.shape != found.mask.shape:
        h, w = true.shape
        raise IntegrityError(f"event {event.event_id}: its masks are {w}x{h} pixels, its frames are not")
    tally.overlaps.append(float((true & found.mask).sum() / max(1, (true | found.mask).sum())))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
