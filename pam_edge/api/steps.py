"""`look`, `segment` and `describe`, the three steps of a call, with checked arguments; and closing."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar

from PIL import Image

from pam_edge.api import arguments
from pam_edge.api.arguments import Box, Decoding, MaskSource, Point
from pam_edge.api.batch import describe_regions
from pam_edge.api.result import Result, Results
from pam_edge.api.stream import Stream
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import UsageError
from pam_edge.core.lru_cache import Lru
from pam_edge.image.preprocess import ImageSource, Prompt, load_image
from pam_edge.pipeline.generation import Description
from pam_edge.pipeline.pam import IMAGES, PREFIXES, Pam
from pam_edge.pipeline.results import Region, Seen
from pam_edge.render.json_report import added
from pam_edge.runtimes.common.open_graphs import DECODER, Engine
from pam_edge.text.decoding import Sampling
from pam_edge.text.tokenization import Lang, Question, Task

MAX_TOKENS = 512  # the longest answer
Self = TypeVar("Self", bound="Steps")


class Steps(Pam):
    """A `Pam` that checks its arguments, and that can be closed."""

    def __init__(
        self, bundle: Bundle, engine: Engine, *, images: int = IMAGES, prefixes: int = PREFIXES
    ) -> None:
        super().__init__(bundle, engine, images=images, prefixes=prefixes)
        self._bounds = images, prefixes

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the engine's graphs and empty the caches. Closing twice is no error.

        Later calls raise UsageError.
        """
        images, prefixes = self._bounds
        with self.lock:
            self._graphs.close()
            self._images, self._prefixes = Lru(images), Lru(prefixes)

    def __repr__(self) -> str:
        held = self.bundle.manifest
        return (
            f"{type(self).__name__}({held.variant.name!r}, target={held.target!r}, scheme={held.scheme!r}, "
            f"runtime={held.runtime!r})"
        )

    def segment(
        self,
        seen: Seen,
        prompt: Prompt | None = None,
        *,
        refine: Region | None = None,
        point: Point | None = None,
        points: Sequence[Point] | None = None,
        box: Box | None = None,
        mask: MaskSource | None = None,
    ) -> Region:
        """Segment the region that a prompt selects: one run of the mask decoder.

        Args:
            seen: a picture encoded by `look`.
            prompt: a `Prompt`, instead of `point`, `points`, `box` and `mask`.
            point: one click (x, y) or (x, y, label), in pixels.
            points: several clicks on one object, [n, 2] or [n, 3].
            box: (x0, y0, x1, y1) around one object, in pixels.
            mask: a mask of one object, an array [h, w] or a picture file.
            refine: an earlier region of the same picture to start from. Give the whole prompt, including the
                earlier clicks: `segment(seen, prompt=region.prompt.also((x, y, 0)), refine=region)`.

        Returns:
            The `Region`.

        Raises:
            UsageError: the prompt does not fit the picture, or `refine` does not fit the picture or the
                prompt.
        """
        if not isinstance(seen, Seen):
            raise UsageError(
                f"segment needs a Seen, not a {type(seen).__name__}: segment(pam.look(image), ...)"
            )
        if refine is not None and not isinstance(refine, Region):
            raise UsageError(f"refine= must be an earlier Region, not a {type(refine).__name__}")
        one = arguments.read_prompt(prompt, point=point, points=points, box=box, mask=mask)
        return super().segment(seen, one, refine=refine)

    def describe(
        self,
        region: Region,
        tasks: Task | Sequence[Task] = ("brief",),
        *,
        lang: Lang = "en",
        sampling: Sampling | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> Description:
        """Stream the answers about a region. Nothing is computed before the first piece is requested.

        Args:
            region: a region from `segment`, or a `Result`.
            tasks: one task or `Question`, or several, decoded as one batch.
            lang: "en" or "zh".
            sampling: temperature, top_p and seed; greedy by default.
            max_tokens: maximum length of an answer, in tokens.

        Returns:
            An iterator of `Piece`s; its `answers` holds the answers finished so far.

        Raises:
            UsageError: a task or language is unknown.
            WontFitError: while streaming, if region and question leave no room for an answer.
        """
        if sampling is not None and not isinstance(sampling, Sampling):
            raise UsageError(
                f"sampling={sampling!r}: give pam_edge.Sampling(temperature=0.7, top_p=0.9, seed=1)"
            )
        several = [tasks] if isinstance(tasks, str | Question) else tasks
        return super().describe(
            region_of(region),
            arguments.read_tasks(None, several, None, self.texts, arguments.read_lang(lang)),
            lang=lang,
            sampling=sampling,
            max_tokens=max_tokens,
        )

    def _stream(
        self, image: ImageSource | Seen, prompt: Prompt, tasks: Sequence[Task], decoding: Decoding
    ) -> Stream:
        picture, seen = self._seen(image, [prompt])
        if tasks:
            self.open_ahead("perceiver", DECODER)
        region = Pam.segment(self, seen, prompt)
        return Stream(region, self._description(region, tasks, decoding), picture)

    def _description(self, region: Region, tasks: Sequence[Task], decoding: Decoding) -> Description | None:
        if not tasks:
            return None
        return Pam.describe(
            self,
            region,
            tasks,
            lang=decoding.lang,
            sampling=decoding.sampling,
            max_tokens=decoding.max_tokens,
        )

    def _results(
        self, image: ImageSource | Seen, prompts: Sequence[Prompt], tasks: Sequence[Task], decoding: Decoding
    ) -> Results:
        """One result per prompt.

        One task is decoded for all regions as one batch. Several tasks are decoded as one batch per region,
        because they share its prefix.
        """
        picture, seen = self._seen(image, prompts)
        if tasks:
            self.open_ahead("perceiver", DECODER)
        regions = [Pam.segment(self, seen, prompt) for prompt in prompts]
        if len(tasks) != 1:
            streams = [Stream(r, self._description(r, tasks, decoding), picture) for r in regions]
            return Results(stream.finish() for stream in streams)
        answers, spent = describe_regions(self, regions, tasks[0], decoding)
        return Results(
            Result(region, [answer], image=picture, timing_ms=added(region.timing_ms, spent))
            for region, answer in zip(regions, answers, strict=True)
        )

    def _seen(self, image: ImageSource | Seen, prompts: Sequence[Prompt]) -> tuple[Image.Image | None, Seen]:
        """The picture, if there is one, and its `Seen`; prompts are checked before it is encoded."""
        picture = None if isinstance(image, Seen) else load_image(image)
        size = image.size if isinstance(image, Seen) else (0, 0)
        if picture is not None:
            size = picture.height, picture.width
        for prompt in prompts:
            self.check_prompt(prompt, size)
        return picture, image if isinstance(image, Seen) else self.look(picture or image)


def region_of(region: Any) -> Region:
    """The region of a `Region`, `Result` or `Stream`.

    Raises:
        UsageError: the argument is none of these.
    """
    found = region.region if isinstance(region, Result | Stream) else region
    if not isinstance(found, Region):
        raise UsageError(
            f"expected a Region from segment or the Result of a call, got a {type(region).__name__}"
        )
    return found
