"""`Model`: an opened bundle that answers questions about pictures and videos. Made by `pam_edge.load`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, overload

from pam_edge.api import arguments
from pam_edge.api.answering import Answering
from pam_edge.api.arguments import Box, MaskSource, Point
from pam_edge.api.result import Result
from pam_edge.api.steps import MAX_TOKENS, region_of
from pam_edge.api.stream import Stream
from pam_edge.api.tracking import Caption, Track, VideoSource, open_track, read_prompts
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import UsageError
from pam_edge.image.preprocess import ImageSource, Prompt
from pam_edge.pipeline.pam import engine_of
from pam_edge.pipeline.results import Answer, Region, Seen
from pam_edge.text.tokenization import Lang, Question, Task
from pam_edge.verify.verified_here import look_up, warnings
from pam_edge.video.stream import EVERY

MAX_CAPTION = 128  # tokens
_LOG = logging.getLogger("pam_edge")
Target = ImageSource | Seen | Region | Result | Stream


def load(bundle: str | os.PathLike[str] | Bundle, *, threads: int = 0, check: bool = True) -> Model:
    """Open a bundle; see `pam_edge.load`."""
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 0:
        raise UsageError(f"threads={threads!r}: give 0 (the engine chooses) or the number of threads")
    if isinstance(bundle, str | os.PathLike):
        bundle = Bundle.open(os.path.expanduser(os.fsdecode(bundle)), check=check)  # noqa: PTH111
        for message in warnings(look_up(bundle)):  # a `Bundle` given by the caller is not checked again
            _warn_once(str(bundle.folder), message)
    if not isinstance(bundle, Bundle):
        raise UsageError(
            f"expected a bundle's folder, got a {type(bundle).__name__}: "
            'load("my-bundle"), or load("nano") for the packaged one'
        )
    return Model(bundle, engine_of(bundle, threads=threads))


@cache
def _warn_once(folder: str, message: str) -> None:
    _LOG.warning("%s: %s", folder, message)


class Model(Answering):
    """An opened bundle: `model(image, point=(x, y))`. Made by `pam_edge.load`.

    Safe to use from several threads: one computes at a time, and streams take turns token by token. As a
    context manager it releases the engine's graphs at the end. `look`, `segment` and `describe` are the
    single steps of a call.
    """

    @overload  # `Pam.ask`
    def ask(
        self,
        image: ImageSource,
        question: Prompt,
        tasks: Sequence[Task],
        *,
        lang: Lang = "en",
        max_tokens: int = MAX_TOKENS,
    ) -> tuple[Region, tuple[Answer, ...]]: ...

    @overload
    def ask(
        self,
        image: Target,
        question: str | Question,
        *,
        prompt: Prompt | None = None,
        point: Point | None = None,
        points: Sequence[Point] | None = None,
        box: Box | None = None,
        mask: MaskSource | None = None,
        lang: str = "en",
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
    ) -> Answer: ...

    @overload
    def ask(
        self,
        image: Target,
        question: list[str | Question] | list[str] | tuple[str | Question, ...],
        *,
        prompt: Prompt | None = None,
        point: Point | None = None,
        points: Sequence[Point] | None = None,
        box: Box | None = None,
        mask: MaskSource | None = None,
        lang: str = "en",
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
    ) -> list[Answer]: ...

    def ask(
        self,
        image: Any,
        question: Any = None,
        tasks: Any = None,
        *,
        prompt: Any = None,
        point: Point | None = None,
        points: Sequence[Point] | None = None,
        box: Box | None = None,
        mask: MaskSource | None = None,
        lang: Any = "en",
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
    ) -> Any:
        """Answer a question about a region.

        The visual tokens of a region stay in the decoder's cache: a second question about the same region
        computes only its own tokens.

        Args:
            image: a `Region`, a `Result` or a `Stream`; or a picture, together with a prompt.
            question: the question, or several, decoded as one batch.
            tasks: only for `ask(image, prompt, tasks)`, the form of `Pam.ask`.
            prompt: a `Prompt`, instead of `point`, `points`, `box` and `mask`; only if `image` is a picture.
            point: one click (x, y) or (x, y, label), in pixels.
            points: several clicks on one object, [n, 2] or [n, 3].
            box: (x0, y0, x1, y1) around one object, in pixels.
            mask: a mask of one object, an array [h, w] or a picture file.
            lang: "en" or "zh".
            temperature: 0 takes the most likely token; above 0 tokens are drawn at random.
            top_p: draw only from the most likely tokens that together reach this probability.
            seed: seed of the random choices.
            max_tokens: maximum length of an answer, in tokens.

        Returns:
            An `Answer` (`str(answer)` is its text); a list of them for a list of questions.
            `ask(image, prompt, tasks)` returns the region and the answers to the tasks.

        Raises:
            UsageError: an argument is invalid, as in a call.
            IntegrityError: the picture is damaged, or no picture.
            EnvironmentProblem: the picture may not be read.
            WontFitError: region and question leave no room for an answer.

        Example:
            >>> r = pam("scene.png", point=(62, 40))
            >>> pam.ask(r, "What colour is it?", temperature=0.7, seed=1).text
        """
        if isinstance(question, Prompt) or tasks is not None:
            return super().ask(image, question or prompt, tasks, lang=lang, max_tokens=max_tokens)
        decoding = arguments.read_decoding(lang, temperature, top_p, seed, max_tokens)
        if question is None:
            raise UsageError('no question: give ask(result, "What is it?")')
        wanted = arguments.read_questions(question)
        if not wanted:
            raise UsageError('question=[] is empty: give ask(result, ["What is it?"])')
        if isinstance(image, Region | Result | Stream):
            parts = {"prompt": prompt, "point": point, "points": points, "box": box, "mask": mask}
            given = [name for name, value in parts.items() if value is not None]
            if given:
                raise UsageError(
                    f"{given[0]}= is for pictures only: leave it out, or give the picture instead of a region"
                )
            found = self._description(region_of(image), wanted, decoding)
            answers = Stream(region_of(image), found, None).finish().answers
        else:
            one = arguments.read_prompt(prompt, point=point, points=points, box=box, mask=mask)
            answers = self._stream(image, one, wanted, decoding).finish().answers
        return answers[0] if isinstance(question, str | Question) else list(answers)

    def track(
        self,
        source: VideoSource,
        prompt: Prompt | None = None,
        *,
        point: Point | None = None,
        points: Sequence[Point] | None = None,
        box: Box | None = None,
        mask: MaskSource | None = None,
        boxes: Sequence[Box] | None = None,
        prompts: Mapping[int, Mapping[int, Prompt]] | None = None,
        frame: int = 0,
        caption: Caption | None = None,
        every: int | Literal["change"] = EVERY,
        backwards: bool = False,
        lang: str = "en",
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_tokens: int = MAX_CAPTION,
    ) -> Track:
        """Track objects through a video, and caption what happens to them.

        Args:
            source: a video file, a folder of pictures, a camera device, "-" for stdin or an open file (all
                but folders need PyAV); or pictures one after the other: a list, a generator, an array [t, h,
                w, 3].
            prompt: a `Prompt` of one object (number 1), instead of `point`, `points`, `box` and `mask`.
            point: one click (x, y) or (x, y, label), in pixels.
            points: several clicks on one object, [n, 2] or [n, 3].
            box: (x0, y0, x1, y1) around one object, in pixels.
            mask: a mask of one object, an array [h, w] or a picture file.
            boxes: boxes [n, 4] of n objects, numbered from 1.
            prompts: prompts by frame and object number, `{0: {1: Prompt(box=...)}, 30: {1: Prompt(...)}}`:
                later ones correct an object or add one. Instead of all arguments above and `frame`.
            frame: index of the frame that the prompt is on, from 0.
            caption: "stream" captions each segment as it ends, "clip" the whole video at its end, None
                nothing.
            every: frames per segment, or "change" to start a segment where something changes.
            backwards: track from `frame` back to the first one; for a file or a folder, without captions.
            lang: "en" or "zh".
            temperature: 0 takes the most likely token; above 0 tokens are drawn at random.
            top_p: draw only from the most likely tokens that together reach this probability.
            seed: seed of the random choices.
            max_tokens: maximum length of a caption, in tokens.

        Returns:
            A `Track`, an iterator of events: a `Frame` for every frame (masks and boxes of all objects),
            `Words` (pieces of text), and a `Caption` per object and segment. As a context manager it closes
            the source.

        Raises:
            UsageError: an argument is invalid, as in a call; there is no such source; or the bundle has no
                graphs for video.
            EnvironmentProblem: PyAV is not installed.
            IntegrityError: the source is not a video, or is cut short.

        Example:
            >>> for event in pam.track("clip.mp4", box=(60, 70, 140, 150), caption="stream"):
            ...     if isinstance(event, pam_edge.Caption):
            ...         print(event.frames, event.text)
        """
        decoding = arguments.read_decoding(lang, temperature, top_p, seed, max_tokens)
        if isinstance(frame, bool) or not isinstance(frame, int) or frame < 0:
            raise UsageError(f"frame={frame!r}: give the index of a frame, from 0")
        parts = {"prompt": prompt, "point": point, "points": points, "box": box, "mask": mask}
        if prompts is not None:
            given = [
                name
                for name, value in {**parts, "boxes": boxes, "frame": frame or None}.items()
                if value is not None
            ]
            if given:
                raise UsageError(f"prompts= names frames and objects itself: leave out {given[0]}=")
            by_frame = read_prompts(prompts)
        elif boxes is not None:
            by_frame = {frame: dict(enumerate(arguments.read_boxes(boxes, **parts), start=1))}
            if not by_frame[frame]:
                raise UsageError("boxes=[] is empty: give at least one box")
        else:
            one = arguments.read_prompt(prompt, point=point, points=points, box=box, mask=mask)
            by_frame = {frame: {1: one}}
        return open_track(
            self, source, by_frame, caption=caption, every=every, backwards=backwards, decoding=decoding
        )
