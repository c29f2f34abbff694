"""What the verb `track` does: events of a video as lines of JSON, as words for people, and as a film.

Every line is written when it is known and is whole, so what was finished stays readable. Knows neither
options nor engines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pam_edge.core.errors import PamEdgeError, cannot_write
from pam_edge.image import coco_rle
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.pam import Pam
from pam_edge.render.track_timing import Spent
from pam_edge.render.video_writer import Film
from pam_edge.video.reader import Shot, Source
from pam_edge.video.stream import Caption, Event, Plan, Words, follow
from pam_edge.video.tracker import Frame

SCHEMA = 2  # 1 said "things", "thing" and "told"
Say = Callable[[str, str], None]  # a text and what ends it
Line = Callable[[Any], None]  # takes a document for JSON


@dataclass(frozen=True)
class Outputs:
    """Where results go: `line` gets every event as JSON, `say` words for people, `film` is a video's path."""

    line: Line | None = None
    say: Say | None = None
    film: Path | None = None


def track(
    pam: Pam, source: Source, prompts: Mapping[int, Mapping[int, Prompt]], plan: Plan, outputs: Outputs
) -> Spent:
    """Follow and tell a whole source. Raises what stopped it, after everything known is written. A film of a
    video that is followed backwards plays backwards too.
    """
    spent = Spent()
    line = outputs.line or (lambda document: None)
    say = outputs.say or (lambda text, end: None)
    line(
        {
            "schema": SCHEMA,
            "type": "source",
            "name": source.name,
            "frames": plan.length,
            "rate": source.rate,
            "backwards": plan.backwards,
        }
    )
    shots: list[Shot] = []  # the one at hand

    def pictures() -> Iterator[Image.Image]:
        for shot in source:
            shots[:] = [shot]
            yield shot.picture

    subtitles = Subtitles()
    words = subtitles.words
    began: float | None = None  # when the first frame was
    teller = _Teller(say, several=len({obj for given in prompts.values() for obj in given}) > 1)
    error: PamEdgeError | KeyboardInterrupt | None = None
    with ExitStack() as stack:
        film = None if outputs.film is None else stack.enter_context(Film(outputs.film, rate=source.rate))
        try:
            for event in follow(pam, pictures(), prompts, plan):
                spent.take(event)
                match event:
                    case Frame():
                        line(_frame_line(event, shots[0].time))
                        began = shots[0].time if began is None else began
                        if film is not None:
                            pointed = prompts.get(event.index, {})
                            time = _film_time(shots[0].time, began, backwards=plan.backwards)
                            film.add(shots[0].picture, event, words, pointed, time)
                    case Words():
                        line(_words_line(event))
                        subtitles.take(event)
                    case Caption():
                        line(_caption_line(event))
                        subtitles.take(event)
                teller.tell(event)
        except (PamEdgeError, KeyboardInterrupt) as e:
            error = e
        try:
            if film is not None:
                film.close(words)
        except PamEdgeError as e:
            error = error or e
        line(_end_line(spent, None if error is None else str(error) or "interrupted"))
    if error is not None:
        raise error
    return spent


class Subtitles:
    """What a film shows of captions: each as its words come, and then until the next begins."""

    def __init__(self) -> None:
        self.words: dict[int, str] = {}  # by object
        self._segment: dict[int, int] = {}

    def take(self, event: Words | Caption) -> None:
        """Show what was said."""
        if isinstance(event, Caption):
            self.words[event.object] = "(out of sight)" if event.lost else event.text
        else:
            goes_on = self._segment.get(event.object) == event.segment
            self.words[event.object] = (self.words[event.object] if goes_on else "") + event.text
        self._segment[event.object] = event.segment


class _Teller:
    """Words for people: one caption at a time as it is decoded, and whole lines between captions."""

    def __init__(self, say: Say, *, several: bool) -> None:
        self._say, self._several = say, several
        self._insight: dict[int, bool] = {}
        self._open: tuple[int, int] | None = None  # object and segment whose words are being told
        self._late: set[tuple[int, int]] = set()  # whose words came while another's were told
        self._lines: list[str] = []

    def tell(self, event: Event) -> None:
        """Tell what can be told now."""
        match event:
            case Frame():
                self._lines += self._changes(event)
            case Words():
                at = event.object, event.segment
                if self._open is None and at not in self._late:
                    self._open = at
                    self._say(self._name(event.object), "")
                if self._open == at:
                    self._say(event.text, "")
                else:
                    self._late.add(at)
            case Caption():
                frames = "frames {} to {}".format(*event.frames)
                if self._open == (event.object, event.segment):
                    self._say(f"  [{frames}]", "\n")
                    self._open = None
                elif event.lost:
                    self._lines.append(f"{self._name(event.object)}out of sight  [{frames}]")
                else:
                    self._lines.append(f"{self._name(event.object)}{event.text}  [{frames}]")
        if self._open is None:
            for text in self._lines:
                self._say(text, "\n")
            self._lines = []

    def _changes(self, frame: Frame) -> Iterator[str]:
        for found in frame.objects:
            before = self._insight.get(found.object)
            self._insight[found.object] = found.visible
            if before == found.visible or (before is None and found.visible):
                continue
            what = "found again" if found.visible else "out of sight"
            yield f"frame {frame.index}: {self._name(found.object)}{what}"

    def _name(self, obj: int) -> str:
        return f"object {obj}: " if self._several else ""


@contextmanager
def lines_in(path: Path) -> Iterator[Line]:
    """A file of documents as lines of JSON, each written at once. Opening and writing raise like
    `cannot_write`.
    """
    try:
        # Names of files, which a document may hold, need not be text.
        stream = path.open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as e:
        raise cannot_write(path, e) from e

    def write(document: Any) -> None:
        try:
            stream.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
            stream.flush()
        except OSError as e:
            raise cannot_write(path, e) from e

    try:
        yield write
    finally:
        with suppress(OSError):  # what could not be written was told when it was tried
            stream.close()


def _frame_line(frame: Frame, time: float | None) -> dict[str, Any]:
    return {
        "type": "frame",
        "frame": frame.index,
        "time": None if time is None else round(time, 4),
        "objects": [
            {
                "object": found.object,
                "state": "seen" if found.visible else "lost",
                "prompted": found.prompted,
                "box": None if found.box is None else list(found.box),
                "score": found.score,
                "object_score": found.object_score,
                "mask": {"size": list(frame.size), "counts": coco_rle.encode(found.mask)},
            }
            for found in frame.objects
        ],
        "timing_ms": _rounded(frame.timing_ms),
    }


def _film_time(time: float | None, began: float | None, *, backwards: bool) -> float | None:
    return began - time if backwards and time is not None and began is not None else time


def _words_line(event: Words) -> dict[str, Any]:
    return {"type": "words", "object": event.object, "segment": event.segment, "text": event.text}


def _caption_line(event: Caption) -> dict[str, Any]:
    return {
        "type": "caption",
        "object": event.object,
        "segment": event.segment,
        "frames": list(event.frames),
        "state": "lost" if event.lost else "captioned",
        "text": event.text,
        "token_ids": list(event.token_ids),
        "finish_reason": event.finish_reason,
        "timing_ms": _rounded(event.timing_ms),
    }


def _end_line(spent: Spent, error: str | None) -> dict[str, Any]:
    return {
        "type": "end",
        "frames": spent.frames,
        "captions": spent.captions,
        "error": error,
        **spent.numbers(),
    }


def _rounded(timing_ms: Mapping[str, float]) -> dict[str, float]:
    return {name: round(ms, 3) for name, ms in timing_ms.items()}
