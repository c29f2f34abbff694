"""`Track`: tracking through any source of frames, with prompts as callers write them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from types import TracebackType
from typing import IO, Any, Literal, cast

from PIL import Image

from pam_edge.api.arguments import Decoding
from pam_edge.core.errors import UsageError
from pam_edge.image.preprocess import ImageSource, Prompt, load_image
from pam_edge.pipeline.pam import Pam
from pam_edge.video.reader import PIPE, Source, open_source
from pam_edge.video.reverse_reader import open_backwards
from pam_edge.video.stream import Event, Plan, follow

VideoSource = str | os.PathLike[str] | IO[bytes] | Iterable[ImageSource]
Caption = Literal["stream", "clip"]
_NOT_FRAMES: tuple[type, ...] = (bytes, bytearray, Mapping)
Prompts = Mapping[int, Mapping[int, Prompt]]  # by frame, then by object


class Track(Iterator[Event]):
    """Iterator of a video's events: a `Frame` per frame, `Words` and `Caption` events as they are decoded.

    As a context manager it closes the source at the end.

    Attributes:
        name: name of the source.
        count: number of frames, None if not known beforehand.
        rate: frames per second, None if unknown.
    """

    def __init__(self, events: Iterator[Event], source: Source | None, *, count: int | None) -> None:
        self._events, self._source = events, source
        self.name = "frames" if source is None else source.name
        self.count = count
        self.rate = None if source is None else source.rate

    def __next__(self) -> Event:
        try:
            return next(self._events)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Track:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop tracking and close the source."""
        close = getattr(self._events, "close", None)
        if close is not None:
            close()
        if self._source is not None:
            self._source.close()

    def __repr__(self) -> str:
        return f"Track({self.name!r}, frames={self.count})"


def open_track(
    pam: Pam,
    source: VideoSource,
    prompts: Prompts,
    *,
    caption: Caption | None,
    every: int | Literal["change"],
    backwards: bool,
    decoding: Decoding,
) -> Track:
    """Check all arguments, open the source and return its events; no frame is read yet.

    Raises like `Model.track`.
    """
    if caption not in ("stream", "clip", None):
        raise UsageError(
            f'caption={caption!r}: give caption="stream", caption="clip", or None for masks alone'
        )
    if every != "change" and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise UsageError(f'every={every!r}: give a number of frames, at least 1, or every="change"')
    opened, pictures, count = _open(source, last=max(prompts), caption=caption, backwards=backwards)
    try:
        plan = Plan(
            caption or "none",
            None if every == "change" else every,
            count,
            decoding.lang,
            decoding.sampling,
            decoding.max_tokens,
            backwards,
        )
        return Track(follow(pam, pictures, prompts, plan), opened, count=count)
    except BaseException:
        if opened is not None:
            opened.close()
        raise


def read_prompts(prompts: Any) -> Prompts:
    """Check prompts by frame and object.

    Raises:
        UsageError: they have another form.
    """
    form = "{frame: {object: pam_edge.Prompt(...)}}"
    if not isinstance(prompts, Mapping) or not prompts:
        raise UsageError(f"prompts={prompts!r}: give prompts={form}")
    for frame, given in prompts.items():
        if not isinstance(frame, int) or frame < 0 or not isinstance(given, Mapping) or not given:
            raise UsageError(f"prompts of frame {frame!r}: give prompts={form}, with frames from 0")
        if not all(isinstance(prompt, Prompt) for prompt in given.values()):
            raise UsageError(f"prompts of frame {frame}: each must be a pam_edge.Prompt; give prompts={form}")
    return {frame: dict(given) for frame, given in prompts.items()}


def _open(
    source: VideoSource, *, last: int, caption: Caption | None, backwards: bool
) -> tuple[Source | None, Iterator[Image.Image], int | None]:
    """The source to close, if there is one, its pictures, and their number if known."""
    if isinstance(source, str | os.PathLike):
        where = os.fspath(source)
        opened = open_backwards(where, last) if backwards else open_source(where, count=caption == "clip")
        return opened, (shot.picture for shot in opened), opened.count
    if backwards:
        raise UsageError("backwards=True needs a file or a folder of pictures; give its path")
    if hasattr(source, "read"):
        opened = open_source(PIPE, pipe=cast("IO[bytes]", source))
        return opened, (shot.picture for shot in opened), opened.count
    if isinstance(source, _NOT_FRAMES) or not isinstance(source, Iterable):
        raise UsageError(
            f"expected a video, got a {type(source).__name__}: give a path (a file or a folder of pictures), "
            "an open file, or pictures one after the other"
        )
    count = len(source) if isinstance(source, Sized) else None
    return None, (load_image(picture) for picture in source), count
