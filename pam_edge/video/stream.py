"""Tracking and captioning of a whole video: masks frame by frame, captions segment by segment.

A stream is cut into segments, by length or where something changes. Each segment starts from the last mask of
the one before, and its caption is prompted with that segment's caption as history; an object that was out of
sight at the end is searched for by memory instead. A caption is decoded a few tokens at a time between the
frames that follow its segment, on one thread. Knows no files and prints nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from pam_edge.core.errors import PamEdgeError, UsageError, prompt_too_late
from pam_edge.core.timing import ms_since
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.generation import Description
from pam_edge.pipeline.pam import Pam
from pam_edge.text.decoding import Finish, Sampling
from pam_edge.text.tokenization import Lang
from pam_edge.video.clip_caption import Clip, caption
from pam_edge.video.tracker import Frame, Tracker

Captions = Literal["stream", "clip", "none"]
LEAST, MOST = 8, 64  # frames of a segment that is cut where something changes
CHANGED = 0.12  # mean difference of brightness, of 1, on a 16 x 16 picture
EVERY = 32  # frames of a segment, as in the original's example


@dataclass(frozen=True)
class Plan:
    """How to caption a video. `every` is the number of frames of a segment, None to cut where something
    changes. `length` is the video's number of frames, where it is known. `backwards`: frames come in reverse
    order, from the latest one with a prompt to the first; they get no captions, since events would be seen in
    reverse.
    """

    captions: Captions = "none"
    every: int | None = EVERY
    length: int | None = None
    lang: Lang = "en"
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 128
    backwards: bool = False

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise UsageError(f"a segment of {self.every} frames: at least 1 is needed")
        if self.max_tokens < 1:
            raise UsageError(f"max tokens {self.max_tokens}: at least 1 is needed for a caption")
        if self.backwards and self.captions != "none":
            raise UsageError("captions tell what happens in its order: backwards, objects are followed alone")


@dataclass(frozen=True)
class Words:
    """A piece of a caption, as it is decoded."""

    object: int
    segment: int  # from 1
    text: str


@dataclass(frozen=True)
class Caption:
    """A finished caption. `lost`: the object was never in sight, and nothing is said."""

    object: int
    segment: int
    frames: tuple[int, int]  # the first and the last
    text: str
    lost: bool
    token_ids: tuple[int, ...]
    finish_reason: Finish
    timing_ms: dict[str, float]  # perceiver, prefill, decode; first_word, whole: since the segment's end


Event = Frame | Words | Caption


def follow(
    pam: Pam, frames: Iterable[Image.Image], prompts: Mapping[int, Mapping[int, Prompt]], plan: Plan
) -> Iterator[Event]:
    """Frames as they are followed, words and captions as they are told.

    `prompts` maps a frame's index to prompts by object: the first start objects, later ones correct them or
    start others. Frames before the first prompt are passed over unseen (backwards: `frames` begin with the
    latest that has a prompt). Where `frames` raises one of our
    errors, captions of what was seen are finished first. Raises UsageError for a prompt after the end.
    """
    if not prompts or not all(prompts.values()):
        raise UsageError("nothing is pointed at: give at least one prompt")
    if plan.length is not None and max(prompts) >= plan.length:
        raise prompt_too_late(max(prompts), plan.length)
    return _Follower(pam, prompts, plan).run(frames)


class _Telling:
    """A caption being decoded."""

    def __init__(
        self,
        narrator: _Narrator,
        description: Description,
        spent: dict[str, float],
        *,
        segment: int,
        frames: tuple[int, int],
    ) -> None:
        self.narrator, self.description = narrator, description
        self.segment, self.frames, self.spent = segment, frames, spent  # ms, while the segment went on
        self.began = time.perf_counter()
        self.first_word = 0.0
        self.finished = False

    def go_on(self, pieces: int | None) -> Iterator[Event]:
        """At most so many pieces of text; None for the rest."""
        while not self.finished and (pieces is None or pieces > 0):
            pieces = None if pieces is None else pieces - 1
            piece = next(self.description)
            self.first_word = self.first_word or ms_since(self.began)
            if piece.text:
                yield Words(self.narrator.object, self.segment, piece.text)
            if piece.answer is not None:
                self.finished, answer = True, piece.answer
                self.narrator.history = answer.text
                timing, spent = self.description.timing_ms, self.spent
                yield Caption(
                    object=self.narrator.object,
                    segment=self.segment,
                    frames=self.frames,
                    text=answer.text,
                    lost=False,
                    token_ids=answer.token_ids,
                    finish_reason=answer.finish_reason,
                    timing_ms={
                        "perceiver": spent["perceiver"],
                        "prefill": spent["prefill"] + timing["prefill"],
                        "decode": timing["decode"],
                        "first_word": self.first_word,
                        "whole": ms_since(self.began),
                    },
                )


class _Narrator:
    """What is told of one object: its running clip, the caption being decoded, the history."""

    def __init__(self, obj: int) -> None:
        self.object = obj
        self.history = ""
        self.clip: Clip | None = None
        self.since = 0  # the clip's first frame
        self.telling: _Telling | None = None

    def go_on(self, pieces: int | None) -> Iterator[Event]:
        """Decode at most so many pieces of the caption in hand, None for all of it."""
        telling, self.telling = self.telling, None  # and none it stays where that fails
        if telling is not None:
            yield from telling.go_on(pieces)
            if not telling.finished:
                self.telling = telling


class _Follower:
    def __init__(self, pam: Pam, prompts: Mapping[int, Mapping[int, Prompt]], plan: Plan) -> None:
        self._pam, self._prompts, self._plan = pam, prompts, plan
        length = None if plan.length is None else plan.length - min(prompts)
        if plan.backwards:
            length = max(prompts) + 1
        self._tracker = Tracker(pam, length=length)
        self._narrators: dict[int, _Narrator] = {}
        self._segment, self._count = 1, 0  # the running one's number, and its frames so far
        self._again: dict[int, Prompt] = {}  # what the next segment starts from
        self._scene: npt.NDArray[np.float32] | None = None
        self._insight: dict[int, bool] = {}
        self._latest: Frame | None = None

    def run(self, frames: Iterable[Image.Image]) -> Iterator[Event]:
        if self._plan.backwards:
            last = max(self._prompts)
            yield from (self._step(last - back, picture) for back, picture in enumerate(frames))
            return
        begin, count, source = min(self._prompts), 0, iter(frames)
        ended: PamEdgeError | None = None
        try:
            for picture in source:
                if count >= begin:
                    yield self._step(count, picture)
                    yield from self._narrate(picture)
                count += 1
        except PamEdgeError as e:
            ended = e
        yield from self._end_segment(last=True)
        if ended is not None:
            raise ended
        if max(self._prompts) >= count:
            raise prompt_too_late(max(self._prompts), count)

    def _step(self, index: int, picture: Image.Image) -> Frame:
        clock = time.perf_counter()
        given = dict(self._prompts.get(index, {}))
        for obj, again in self._again.items():
            self._tracker.forget(obj)
            clicks = given.get(obj, again)
            if clicks.box is None and clicks.mask is None:
                given[obj] = Prompt(box=again.box, points=clicks.points)
            else:
                given[obj] = clicks
        self._again = {}
        frame = self._tracker.step(picture, given, at=index)
        frame.timing_ms["whole"] = ms_since(clock)
        self._count, self._latest = self._count + 1, frame
        return frame

    def _narrate(self, picture: Image.Image) -> Iterator[Event]:
        """Take the latest frame into the running clips, tell a little more of those before."""
        frame = self._latest
        if self._plan.captions == "none" or frame is None:
            return
        for found in frame.objects:
            narrator = self._narrators.setdefault(found.object, _Narrator(found.object))
            if narrator.clip is None:
                narrator.clip, narrator.since = (
                    Clip(self._pam, length=self._remaining(frame.index)),
                    frame.index,
                )
            narrator.clip.add(found)
        for narrator in self._narrators.values():
            yield from narrator.go_on(self._share())
        if self._plan.captions == "stream" and self._over(frame, picture):
            yield from self._end_segment(last=False)

    def _remaining(self, index: int) -> int | None:
        """Frames from this one to the segment's end, where that is known."""
        left = None if self._plan.length is None else self._plan.length - index
        if self._plan.captions == "clip":
            return left
        if self._plan.every is None:
            return None
        rest = self._plan.every - self._count + 1  # this frame is counted already
        return rest if left is None else min(rest, max(left, 1))

    def _share(self) -> int:
        """Tokens to decode after a frame, so that a caption is finished within the next segment."""
        return math.ceil(self._plan.max_tokens / (self._plan.every or LEAST))

    def _over(self, frame: Frame, picture: Image.Image) -> bool:
        """Whether the segment ends with this frame."""
        if self._plan.every is not None:
            return self._count >= self._plan.every
        tiny = picture.convert("L").resize((16, 16), Image.Resampling.BOX)
        small = np.asarray(tiny, np.float32) / np.float32(255)
        insight = {found.object: found.visible for found in frame.objects}
        before, self._insight = self._insight, insight
        scene = self._scene = small if self._scene is None else self._scene
        if self._count < LEAST:
            return False
        turned = any(before.get(obj, now) != now for obj, now in insight.items())
        changed = float(np.abs(small - scene).mean()) > CHANGED
        return turned or changed or self._count >= MOST

    def _end_segment(self, *, last: bool) -> Iterator[Event]:
        """Finish the captions of the segment before, begin those of this one, and settle where the next
        starts. With `last` nothing follows: captions are finished at once.
        """
        for narrator in self._narrators.values():
            yield from narrator.go_on(None)
            if narrator.clip is not None and self._latest is not None:
                yield from self._begin_telling(narrator, narrator.clip, self._latest.index)
        for narrator in self._narrators.values():
            yield from narrator.go_on(None if last else 0)
        if self._latest is not None and not last:
            boxes = {found.object: found.box for found in self._latest.objects}
            self._again = {obj: Prompt(box=box) for obj, box in boxes.items() if box is not None}
            self._segment, self._count, self._scene = self._segment + 1, 0, None

    def _begin_telling(self, narrator: _Narrator, clip: Clip, last: int) -> Iterator[Event]:
        frames, narrator.clip, plan = (narrator.since, last), None, self._plan
        if not clip.visible:
            yield Caption(narrator.object, self._segment, frames, "", True, (), "stop", clip.timing_ms)
            return
        description = caption(
            self._pam,
            clip,
            lang=plan.lang,
            history=narrator.history,
            sampling=plan.sampling,
            max_tokens=plan.max_tokens,
        )
        spent = dict(clip.timing_ms)
        narrator.telling = _Telling(narrator, description, spent, segment=self._segment, frames=frames)
