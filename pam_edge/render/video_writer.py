"""The video of a video: every frame as `subtitles.py` draws it, in a file.

Written in fragments, so that what is finished can be watched whatever happens next. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from pam_edge.core.errors import EnvironmentProblem, PamEdgeError, cannot_write
from pam_edge.image.preprocess import Prompt
from pam_edge.render.subtitles import Screen
from pam_edge.video.tracker import Frame

ENDINGS = (".mp4", ".mkv")
CODEC = "libx264"
RATE = 10.0  # frames a second where the source does not say
HOLD = 3.0  # seconds that the last frame stays where words came after it
_CLOCK = 90_000  # ticks a second


class Film:
    """A video file being written. `rate` is the source's, None where unknown."""

    def __init__(self, path: Path, *, rate: float | None) -> None:
        """Raises EnvironmentProblem without PyAV or its H.264 encoder, like `cannot_write` otherwise."""
        try:
            import av
        except ImportError as e:
            raise EnvironmentProblem("writing a video needs PyAV: pip install 'pam-edge[video]'") from e
        if CODEC not in av.codecs_available:
            raise EnvironmentProblem(f"this PyAV has no {CODEC}: pip install 'pam-edge[video]' brings one")
        self._av, self._path, self._rate = av, path, rate or RATE
        self._container: Any = None
        self._stream: Any = None
        self._screen = Screen()
        self._last: tuple[Image.Image, Frame, Mapping[int, Prompt], float] | None = None
        self._told: dict[int, str] = {}
        self._tick = -1
        self._began: float | None = None

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close({})

    def add(
        self,
        picture: Image.Image,
        frame: Frame,
        words: Mapping[int, str],
        prompts: Mapping[int, Prompt],
        time: float | None,
    ) -> None:
        """Write a frame with words and with what was pointed at on it, by object; at `time` in its source, in
        seconds, None for one frame after the one before. The film starts with its first frame, wherever in
        the source that is.
        """
        if time is None:
            time = 0.0 if self._last is None else self._last[3] + 1 / self._rate
        self._began = time if self._began is None else self._began
        self._write(self._drawn(picture, frame, words, prompts), time)
        self._last, self._told = (picture, frame, prompts, time), dict(words)

    def close(self, words: Mapping[int, str]) -> None:
        """Finish the file; words that are new are shown on the last frame, which then stays a while."""
        try:
            if self._last is not None and words and dict(words) != self._told:
                picture, frame, prompts, time = self._last
                drawn = self._drawn(picture, frame, words, prompts)
                for after in (1 / self._rate, HOLD):
                    self._write(drawn, time + after)
            if self._container is not None and self._stream is not None:
                self._guarded(lambda: self._container.mux(self._stream.encode()))
        finally:
            container, self._container, self._last = self._container, None, None
            if container is not None:
                self._guarded(container.close)

    def _drawn(
        self, picture: Image.Image, frame: Frame, words: Mapping[int, str], prompts: Mapping[int, Prompt]
    ) -> Image.Image:
        masks = {found.object: found.mask for found in frame.objects}
        return self._screen.drawn(picture, masks, words, prompts)

    def _write(self, drawn: Image.Image, time: float) -> None:
        if self._stream is None:
            self._guarded(lambda: self._open(drawn.size))
        self._tick = max(self._tick + 1, round((time - (self._began or 0.0)) * _CLOCK))
        frame = self._av.VideoFrame.from_ndarray(np.asarray(drawn), format="rgb24")
        frame.pts, frame.time_base = self._tick, Fraction(1, _CLOCK)
        self._guarded(lambda: self._container.mux(self._stream.encode(frame)))

    def _open(self, size: tuple[int, int]) -> None:
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        mp4 = self._path.suffix.lower() == ".mp4"
        self._container = self._av.open(str(self._path), "w", options=options if mp4 else {})
        rate = Fraction(self._rate).limit_denominator(1000)
        self._stream = self._container.add_stream(CODEC, rate=rate, options={"crf": "20"})
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _CLOCK)
        self._stream.codec_context.gop_size = max(1, round(self._rate))

    def _guarded(self, act: Any) -> None:
        try:
            act()
        except PamEdgeError:
            raise
        except OSError as e:
            raise cannot_write(self._path, e) from e
        except (self._av.FFmpegError, ValueError) as e:
            raise EnvironmentProblem(f"cannot write the video {self._path}: {e}") from e
