"""`Model.__call__` and `Model.stream`: from a picture and a prompt to a mask and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from pam_edge.api import arguments
from pam_edge.api.arguments import Box, MaskSource, Point, Questions, Tasks
from pam_edge.api.result import Result, Results
from pam_edge.api.steps import MAX_TOKENS, Steps
from pam_edge.api.stream import Stream
from pam_edge.image.preprocess import ImageSource, Prompt
from pam_edge.pipeline.results import Seen
from pam_edge.text.tokenization import Task


class Answering(Steps):
    """Adds calls and streams to `Steps`."""

    @overload
    def __call__(
        self,
        image: ImageSource | Seen,
        prompt: Prompt | None = None,
        *,
        point: Point | None = None,
        points: Sequence[Point] | None = None,
        box: Box | None = None,
        mask: MaskSource | None = None,
        boxes: None = None,
        task: Task | None = None,
        tasks: Tasks | None = None,
        question: Questions | None = None,
        lang: str = "en",
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
    ) -> Result: ...

    @overload
    def __call__(
        self,
        image: ImageSource | Seen,
        prompt: None = None,
        *,
        boxes: Sequence[Box],
        task: Task | None = None,
        tasks: Tasks | None = None,
        question: Questions | None = None,
        lang: str = "en",
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
    ) -> Results: ...

    def __call__(
        self,
        image: ImageSource | Seen,
        prompt: Prompt | None = None,
        *,
        point: Point | None = None,
        points: Sequence[Point] | None = None,
        box: Box | None = None,
        mask: MaskSource | None = None,
        boxes: Sequence[Box] | None = None,
        task: Task | None = None,
        tasks: Tasks | None = None,
        question: Questions | None = None,
        lang: str = "en",
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
    ) -> Result | Results:
        """Segment the region that a prompt selects, and answer tasks about it.

        Coordinates are pixels of the upright picture, x to the right, y down, from its top left corner.

        Args:
            image: a picture: a path, the bytes of a picture file, an open file, a PIL image, an array [h, w,
                3] (numpy or anything with `__array__`) or a torch tensor [3, h, w], uint8 or floats from 0 to
                1; see `pam_edge.load_image`. Or a `Seen` from `look`.
            prompt: a `Prompt`, instead of `point`, `points`, `box` and `mask`.
            point: one click (x, y) or (x, y, label); label 1 is inside the object (default), 0 outside it.
            points: several clicks on one object, as a list or an array [n, 2] or [n, 3].
            box: (x0, y0, x1, y1) around one object.
            mask: a mask of one object: an array [h, w] of the picture's size, or a picture file; pixels above
                half of its largest value are inside.
            boxes: boxes [n, 4] of n objects, for one result per box. One task is decoded for all regions as
                one batch; several tasks are decoded as one batch per region.
            task: one task: "recognize", "explain", "brief" (the default), "detailed".
            tasks: several tasks, decoded as one batch; `[]` for the mask only.
            question: a question in your own words, or several, answered after the tasks.
            lang: "en" or "zh".
            temperature: 0 takes the most likely token; above 0 tokens are drawn at random.
            top_p: draw only from the most likely tokens that together reach this probability, above 0 to 1.
            seed: seed of the random choices; the same seed gives the same text.
            max_tokens: maximum length of an answer, in tokens.

        Returns:
            A `Result`; with `boxes=`, a `Results` list in the order of the boxes.

        Raises:
            UsageError: an argument is invalid: no prompt or two, a point outside the picture, a mask of
                another size, an unknown task or language.
            IntegrityError: the picture is damaged, or no picture; see `pam_edge.load_image`.
            EnvironmentProblem: the picture may not be read.
            WontFitError: region and question leave no room for an answer.

        Example:
            >>> pam = pam_edge.load("nano")
            >>> r = pam("scene.png", point=(62, 40), tasks=["recognize", "brief"])
            >>> r.mask, r.box, r.score, r.text
        """
        decoding = arguments.read_decoding(lang, temperature, top_p, seed, max_tokens)
        wanted = arguments.read_tasks(task, tasks, question, self.texts, decoding.lang)
        if boxes is None:
            one = arguments.read_prompt(prompt, point=point, points=points, box=box, mask=mask)
            return self._stream(image, one, wanted, decoding).finish()
        prompts = arguments.read_boxes(boxes, prompt=prompt, point=point, points=points, box=box, mask=mask)
        return self._results(image, prompts, wanted, decoding)

    def stream(
        self,
        image: ImageSource | Seen,
        prompt: Prompt | None = None,
        *,
        point: Point | None = None,
        points: Sequence[Point] | None = None,
        box: Box | None = None,
        mask: MaskSource | None = None,
        task: Task | None = None,
        tasks: Tasks | None = None,
        question: Questions | None = None,
        lang: str = "en",
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
    ) -> Stream:
        """Segment a region and stream the answers. The mask is computed before this returns.

        Args:
            image: a picture or a `Seen`, as in a call.
            prompt: a `Prompt`, instead of `point`, `points`, `box` and `mask`.
            point: one click (x, y) or (x, y, label), in pixels.
            points: several clicks on one object, [n, 2] or [n, 3].
            box: (x0, y0, x1, y1) around one object, in pixels.
            mask: a mask of one object, an array [h, w] or a picture file.
            task: one task; "brief" is the default.
            tasks: several tasks, decoded as one batch; `[]` for the mask only.
            question: a question in your own words, or several.
            lang: "en" or "zh".
            temperature: 0 takes the most likely token; above 0 tokens are drawn at random.
            top_p: draw only from the most likely tokens that together reach this probability.
            seed: seed of the random choices.
            max_tokens: maximum length of an answer, in tokens.

        Returns:
            A `Stream`, an iterator of `Piece` objects: `index` of the task, `task`, `text`, and `answer` in
            the last piece of each task. `stream.region` is the region; `stream.result` is complete at the
            end.

        Raises:
            UsageError: an argument is invalid, as in a call.
            IntegrityError: the picture is damaged, or no picture.
            EnvironmentProblem: the picture may not be read.
            WontFitError: while streaming, if region and question leave no room for an answer.

        Example:
            >>> for piece in pam.stream("scene.png", box=(40, 20, 90, 80), tasks=["brief", "detailed"]):
            ...     print(piece.task, piece.text)
        """
        decoding = arguments.read_decoding(lang, temperature, top_p, seed, max_tokens)
        wanted = arguments.read_tasks(task, tasks, question, self.texts, decoding.lang)
        one = arguments.read_prompt(prompt, point=point, points=points, box=box, mask=mask)
        return self._stream(image, one, wanted, decoding)
