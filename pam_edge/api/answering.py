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
    """Calling and streaming."""

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
        """The region that a prompt selects in a picture, and words for it.

        Coordinates are pixels of the upright picture, x to the right, y down, from its top left corner.

        Args:
            image: a picture: a path, the bytes of a picture file, an open file, a PIL image, an array
                [h, w, 3] (numpy and the like) or a torch tensor [3, h, w], uint8 or floats 0..1; see
                `pam_edge.load_image`. Or a `Seen` of `look`.
            prompt: a `Prompt`, instead of its parts.
            point: one click (x, y), or (x, y, label): label 1 for "this", 0 for "not this".
            points: several clicks on one object, as a list or an array [n, 2] or [n, 3].
            box: (x0, y0, x1, y1) around one object.
            mask: a mask of one object: an array [h, w] of the picture's size, or a picture file of it; inside
                is what is above half of the largest value.
            boxes: boxes [n, 4] of n objects: one result a box. The words of all regions are decoded as one
                batch where there is one task; several tasks are decoded as one batch a region.
            task: one of the bundle's tasks: "recognize", "explain", "brief" (the default), "detailed".
            tasks: several of them, decoded side by side; `[]` for the mask alone.
            question: a question of your own, or several, asked after the tasks.
            lang: "en" or "zh".
            temperature: 0 takes the likeliest token; above 0 tokens are drawn.
            top_p: draw only from the likeliest tokens that together reach this probability, above 0 to 1.
            seed: of the random choices; the same seed gives the same text.
            max_tokens: the longest answer, in tokens.

        Returns:
            A `Result`; with `boxes=` a list of them, in the order of the boxes.

        Raises:
            UsageError: the call makes no sense as given: nothing or too much is pointed at, a point is
                outside the picture, a mask has another size, a task or language is unknown.
            IntegrityError, EnvironmentProblem: the picture cannot be read; see `pam_edge.load_image`.
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
        """The same as a call, with words as they are decoded. The mask is there at once, as `.region`.

        Args and Raises: as of a call.

        Returns:
            A `Stream`: an iterator of `Piece`s (`index` of the task, `task`, `text`, and its `answer` at the
            end), and `.result` when it is through.

        Example:
            >>> for piece in pam.stream("scene.png", box=(40, 20, 90, 80), tasks=["brief", "detailed"]):
            ...     print(piece.task, piece.text)
        """
        decoding = arguments.read_decoding(lang, temperature, top_p, seed, max_tokens)
        wanted = arguments.read_tasks(task, tasks, question, self.texts, decoding.lang)
        one = arguments.read_prompt(prompt, point=point, points=points, box=box, mask=mask)
        return self._stream(image, one, wanted, decoding)
