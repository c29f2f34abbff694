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
        for message in warnings(look_up(bundle)):  # whoever opened it looks for themselves
            _warn_once(str(bundle.folder), message)
    if not isinstance(bundle, Bundle):
        raise UsageError(
            f"a {type(bundle).__name__} is no bundle: give a folder, "
            'load("my-bundle"), or the packaged load("nano")'
        )
    return Model(bundle, engine_of(bundle, threads=threads))


@cache
def _warn_once(folder: str, message: str) -> None:
    _LOG.warning("%s: %s", folder, message)


class Model(Answering):
    """A bundle ready to answer: `model(image, point=(x, y))`. Made by `pam_edge.load`.

    Safe from several threads: one computes at a time, and streams take turns token by token. A context
    manager: leaving it lets go of the engine's graphs. `look`, `segment` and `describe` are the three steps
    underneath.
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
        """Ask a question of your own about a region.

        A region's visual prefix is kept: a second question about the same region costs its own words alone.

        Args:
            image: a `Region`, a `Result` or a `Stream` of before; or a picture, with a prompt beside it.
            question: the question, or several, decoded as one batch.
            prompt, point, points, box, mask: as of a call; for a picture only.
            lang, temperature, top_p, seed, max_tokens: as of a call.

        Returns:
            An `Answer` (`str(answer)` is its text); a list of them for a list of questions.
            `ask(image, prompt, tasks)` gives the region and the answers to tasks, as `Pam.ask` does.

        Raises: as a call.

        Example:
            >>> r = pam("scene.png", point=(62, 40))
            >>> pam.ask(r, "What colour is it?", temperature=0.7, seed=1).text
        """
        if isinstance(question, Prompt) or tasks is not None:
            return super().ask(image, question or prompt, tasks, lang=lang, max_tokens=max_tokens)
        decoding = arguments.read_decoding(lang, temperature, top_p, seed, max_tokens)
        if question is None:
            raise UsageError('nothing is asked: give ask(result, "What is it?")')
        wanted = arguments.read_questions(question)
        if not wanted:
            raise UsageError('question=[] holds no question: give ask(result, ["What is it?"])')
        if isinstance(image, Region | Result | Stream):
            parts = {"prompt": prompt, "point": point, "points": points, "box": box, "mask": mask}
            given = [name for name, value in parts.items() if value is not None]
            if given:
                raise UsageError(
                    f"a region is asked about as it is: leave out {given[0]}=, or give the picture"
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
        """Follow objects through a video, and tell what happens to them.

        Args:
            source: a video file, a folder of pictures, a camera's device, "-" for stdin, an open file (these
                need PyAV, folders excepted), or pictures one after the other: a list, a generator, an array
                [t, h, w, 3].
            prompt, point, points, box, mask: as of a call: one object, number 1.
            boxes: boxes [n, 4] of n objects, numbered from 1.
            prompts: prompts by frame and object number, `{0: {1: Prompt(box=...)}, 30: {1: Prompt(...)}}`:
                later ones correct an object or start another. Instead of all the above.
            frame: which frame is pointed at, counted from 0.
            caption: "stream" tells each segment as it ends, "clip" the whole at its end, None nothing.
            every: frames of a segment, or "change" to cut where something changes.
            backwards: from `frame` back to the first one; a file or a folder, without captions.
            lang, temperature, top_p, seed: as of a call.
            max_tokens: the longest caption, in tokens.

        Returns:
            A `Track`: an iterator of events. A `Frame` for every frame (masks and boxes of all objects), then
            `Words` (pieces of text) and a `Caption` a segment. A context manager that closes the source.

        Raises:
            UsageError: as a call; there is no such source; the bundle is for pictures alone.
            EnvironmentProblem: PyAV is missing. IntegrityError: the source is no video, or breaks off.

        Example:
            >>> for event in pam.track("clip.mp4", box=(60, 70, 140, 150), caption="stream"):
            ...     if isinstance(event, pam_edge.Caption):
            ...         print(event.frames, event.text)
        """
        decoding = arguments.read_decoding(lang, temperature, top_p, seed, max_tokens)
        if isinstance(frame, bool) or not isinstance(frame, int) or frame < 0:
            raise UsageError(f"frame={frame!r}: give the number of a frame, counted from 0")
        parts = {"prompt": prompt, "point": point, "points": points, "box": box, "mask": mask}
        if prompts is not None:
            given = [
                name
                for name, value in {**parts, "boxes": boxes, "frame": frame or None}.items()
                if value is not None
            ]
            if given:
                raise UsageError(f"prompts= says everything: leave out {given[0]}=")
            by_frame = read_prompts(prompts)
        elif boxes is not None:
            by_frame = {frame: dict(enumerate(arguments.read_boxes(boxes, **parts), start=1))}
            if not by_frame[frame]:
                raise UsageError("boxes=[] holds no object to follow")
        else:
            one = arguments.read_prompt(prompt, point=point, points=points, box=box, mask=mask)
            by_frame = {frame: {1: one}}
        return open_track(
            self, source, by_frame, caption=caption, every=every, backwards=backwards, decoding=decoding
        )
