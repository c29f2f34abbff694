"""`Stream`: a region with its mask, and pieces of text as they are decoded."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from PIL import Image

from pam_edge.api.result import Result
from pam_edge.pipeline.generation import Description
from pam_edge.pipeline.results import Answer, Piece, Region
from pam_edge.render.json_report import added


class Stream(Iterator[Piece]):
    """Iterator of pieces of text as they are decoded, of all tasks at once.

    The last piece of each task has its `answer`. As a context manager it stops decoding at the end.

    Attributes:
        region: the `Region` with the mask, known before any text.
    """

    def __init__(self, region: Region, description: Description | None, image: Image.Image | None) -> None:
        """`description` is None if no text was asked for."""
        self.region = region
        self._description = description
        self._image = image

    def __next__(self) -> Piece:
        if self._description is None:
            raise StopIteration
        return next(self._description)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop decoding; answers that are not finished are lost."""
        if self._description is not None:
            self._description.close()

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Answers finished so far, in the order of the tasks."""
        return () if self._description is None else self._description.answers

    @property
    def timing_ms(self) -> dict[str, float]:
        """Milliseconds per step so far.

        Keys: preprocess, load (opening graphs), encode, mask, perceiver, prefill, first_token, decode.
        """
        return added(self.region.timing_ms, self.text_timing_ms)

    @property
    def text_timing_ms(self) -> dict[str, float]:
        """The part of `timing_ms` spent on text: load, perceiver, prefill, first_token, decode."""
        return {} if self._description is None else self._description.timing_ms

    @property
    def speed(self) -> dict[str, float]:
        """Tokens per second of prefill and decoding, and GB of weights read per second."""
        return {} if self._description is None else self._description.speed

    @property
    def result(self) -> Result:
        """The `Result` with the answers finished so far."""
        return Result(self.region, self.answers, image=self._image, timing_ms=self.timing_ms)

    def finish(self) -> Result:
        """Decode the rest, and return the complete `Result`."""
        for _ in self:
            pass
        return self.result

    def __repr__(self) -> str:
        return f"Stream(box={self.region.box}, score={self.region.score:.3f}, answers={len(self.answers)})"
