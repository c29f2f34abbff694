"""How well a bundle follows and tells clips of the rendered world: through its own tracker and captions.

One pass over a clip's frames, one look at each: the target through the whole clip, for its caption; segment
by segment, as a stream; and the target beside an object that lies still through the 32 frames of the window.
What counts as right is in `clip_scores.py`. Knows no options and no files.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pam_edge.benchmarks.harness.machine import where_run
from pam_edge.benchmarks.quality import clip_report, clip_scores
from pam_edge.benchmarks.quality.clip_report import SCHEMA, Motion
from pam_edge.benchmarks.quality.clip_scores import LONG, Figures, Subject
from pam_edge.benchmarks.quality.report import about_bundle
from pam_edge.benchmarks.quality.streaming import Stream, told
from pam_edge.benchmarks.quality.world_cases import MOST, SPLIT, check_seed
from pam_edge.benchmarks.synthetic import clip, nth_seed
from pam_edge.benchmarks.synthetic.clips import Clip as Filmed
from pam_edge.core.errors import UsageError
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.pam import Pam
from pam_edge.pipeline.results import Answer
from pam_edge.text.tokenization import Lang
from pam_edge.video.clip_caption import Clip
from pam_edge.video.tracker import Frame, Tracker

Mask = npt.NDArray[np.bool_]
_OBJECT = 1


@dataclass(frozen=True, eq=False)
class Followed:
    """One clip and all that the model made of it."""

    filmed: Filmed
    masks: dict[str, list[Mask]]  # by subject, through the window
    ious: dict[str, list[float]]
    stream: dict[Lang, list[str]]  # captions of the segments, "" where nothing was said
    whole: dict[Lang, str]  # captions of the clip


def evaluate(
    pam: Pam,
    seed: int,
    count: int,
    *,
    langs: Sequence[Lang],
    max_tokens: int,
    watch: Callable[[Followed], None] = lambda followed: None,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> Motion:
    """Follow and tell the first `count` clips of a seed; greedy decoding. Raises UsageError where a number
    makes no sense or the bundle is for pictures alone.
    """
    check_clips(seed, count)
    figures: Figures = {}
    spent: defaultdict[str, float] = defaultdict(float)
    began = time.perf_counter()
    frames = lost = cut_off = 0
    for i in range(count):
        clock = time.perf_counter()
        filmed = clip(nth_seed(seed, i), SPLIT)
        spent["clips"] += time.perf_counter() - clock
        run = _Run(pam, filmed, langs=langs, max_tokens=max_tokens)
        run.through()
        followed = run.judged(figures)
        frames, lost, cut_off = frames + len(filmed.frames), lost + run.lost, cut_off + run.cut_off
        for part, seconds in run.seconds.items():
            spent[part] += seconds
        watch(followed)
        progress(i + 1, count)
    return Motion(
        schema=SCHEMA,
        bundle=about_bundle(pam.bundle),
        machine=where_run(pam.bundle),
        data={"kind": "world clips", "seed": seed, "clips": count, "split": SPLIT, "window": LONG},
        clips=count,
        frames=frames,
        masks=clip_report.masks(figures),
        languages={lang: clip_report.told(figures, lang) for lang in langs},
        lost=lost,
        cut_off=cut_off,
        max_tokens=max_tokens,
        seconds={
            "total": round(time.perf_counter() - began, 3),
            **{part: round(seconds, 3) for part, seconds in spent.items()},
        },
    )


def check_clips(seed: int, count: int) -> None:
    """Raise UsageError where these are no clips of the world."""
    check_seed(seed)
    if not 1 <= count <= MOST:
        raise UsageError(f"{count} clips: give 1 to {MOST}")


class _Run:
    """One clip, frame by frame."""

    def __init__(self, pam: Pam, filmed: Filmed, *, langs: Sequence[Lang], max_tokens: int) -> None:
        self._pam, self._filmed = pam, filmed
        self._langs, self._max_tokens = langs, max_tokens
        self._first, _ = clip_scores.window(filmed)
        self._objects = clip_scores.subjects(filmed)
        self._window = Tracker(pam, length=LONG)
        self._whole = Tracker(pam, length=len(filmed.frames))
        self._clip = Clip(pam, length=len(filmed.frames))
        self._start = Prompt(box=clip_scores.box_at(filmed, 0))
        self._stream = Stream(pam, self._start, langs=langs, max_tokens=max_tokens)
        self._found: dict[str, list[Mask]] = {obj.name: [] for obj in self._objects}
        self._said: dict[Lang, list[str]] = {lang: [] for lang in langs}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.lost = self.cut_off = 0

    def through(self) -> None:
        """Follow and tell all of it."""
        ends = {part.stop - 1 for part in self._filmed.segments}
        starts = {part.start: part.stop - part.start for part in self._filmed.segments}
        for n, pixels in enumerate(self._filmed.frames):
            picture = Image.fromarray(pixels)
            clock = time.perf_counter()
            self._pam.look(picture)
            clock = self._took("look", clock)
            if self._first <= n < self._first + LONG:
                self._keep(self._window.step(picture, self._prompts() if n == self._first else None))
                clock = self._took("window", clock)
            self._clip.add(self._whole.step(picture, {_OBJECT: self._start} if n == 0 else None).objects[0])
            clock = self._took("whole", clock)
            if n in starts:
                self._stream.begin(starts[n])
            self._stream.step(picture)
            clock = self._took("stream", clock)
            if n in ends:
                self._tell(self._stream.end())
                self._took("captions", clock)

    def judged(self, figures: Figures) -> Followed:
        """Tell the clip as a whole, and score everything."""
        clock = time.perf_counter()
        whole = {lang: told(self._pam, self._clip, lang, max_tokens=self._max_tokens) for lang in self._langs}
        self._took("captions", clock)
        self.cut_off += sum(answer.finish_reason == "length" for answer in whole.values())
        texts = {lang: answer.text for lang, answer in whole.items()}
        ious = clip_scores.add_window(figures, self._filmed, self._found)
        clip_scores.add_stream(figures, self._filmed, self._said)
        clip_scores.add_whole(figures, self._filmed, texts)
        return Followed(self._filmed, self._found, ious, self._said, texts)

    def _prompts(self) -> dict[int, Prompt]:
        return {number: _prompt(obj) for number, obj in enumerate(self._objects, start=1)}

    def _keep(self, frame: Frame) -> None:
        for obj, found in zip(self._objects, frame.objects, strict=True):
            self._found[obj.name].append(found.mask)

    def _tell(self, answers: dict[Lang, Answer] | None) -> None:
        self.lost += answers is None
        for lang, said in self._said.items():
            said.append("" if answers is None else answers[lang].text)
            self.cut_off += answers is not None and answers[lang].finish_reason == "length"

    def _took(self, part: str, since: float) -> float:
        now = time.perf_counter()
        self.seconds[part] += now - since
        return now


def _prompt(obj: Subject) -> Prompt:
    if obj.box is not None:
        return Prompt(box=obj.box)
    assert obj.click is not None  # a subject has a box or a click
    return Prompt(points=((*obj.click, 1),))
