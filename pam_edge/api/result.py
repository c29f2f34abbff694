"""`Result`: the mask and answers of one region, with methods to draw, save and convert them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pam_edge.core.errors import EnvironmentProblem, UsageError, cannot_write
from pam_edge.image.preprocess import ImageSource, Prompt, load_image
from pam_edge.pipeline.results import Answer, Region

if TYPE_CHECKING:
    from supervision import Detections

_TEXT = 60  # characters of the text in a repr


class Result:
    """One region of a picture: its mask, and the answers about it.

    Attributes:
        region: the `Region`; `model.ask(result, ...)` and `model.describe(result.region, ...)` continue from
            it without computing the mask again.
        answers: one `Answer` per task, in the order of the tasks: `task`, `lang`, `text`, `token_ids`,
            `finish_reason`. Empty if no text was asked for.
        image: the upright RGB picture, or None if the call was given a `Seen`.
        timing_ms: milliseconds per step; for text decoded for several regions at once, those of all together.
    """

    def __init__(
        self,
        region: Region,
        answers: Sequence[Answer] = (),
        *,
        image: Image.Image | None = None,
        timing_ms: Mapping[str, float] | None = None,
    ) -> None:
        self.region = region
        self.answers = tuple(answers)
        self.image = image
        self.timing_ms = dict(region.timing_ms if timing_ms is None else timing_ms)

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Bool [h, w] of the upright picture, True inside."""
        return self.region.mask

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """(x0, y0, x1, y1) around the mask in pixels, x1 and y1 exclusive; None if the mask is empty."""
        return self.region.box

    @property
    def score(self) -> float:
        """The model's estimate of the mask's IoU, about 0 to 1."""
        return self.region.score

    @property
    def prompt(self) -> Prompt:
        """The prompt that selected the region."""
        return self.region.prompt

    @property
    def text(self) -> str:
        """The texts of all answers, one per line; "" if no text was asked for."""
        return "\n".join(answer.text for answer in self.answers)

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= _TEXT else self.text[: _TEXT - 1] + "…"
        return f"Result(box={self.box}, score={self.score:.3f}, text={text!r})"

    def plot(self, image: ImageSource | None = None) -> Image.Image:
        """The picture with the mask tinted and outlined, the prompt, and a panel of the answers.

        Args:
            image: the picture to draw on, of the same size; needed only if the call was given a `Seen`.

        Returns:
            An RGB image; its longer side without the panel is 840 to 1600 pixels.

        Raises:
            UsageError: there is no picture to draw on, or it has another size.
        """
        return plot([self], image)

    def save(self, path: str | Path) -> Path:
        """Write the result to a file in the format of its extension.

        Args:
            path: `.png`, `.jpg`, `.jpeg` or `.webp` for the picture of `plot()`, `.json` for `to_dict()`. For
                the mask alone, see `save_mask`.

        Returns:
            The path.

        Raises:
            UsageError: the extension is another one, or there is no picture to draw on.
            EnvironmentProblem: the file cannot be written.
            WontFitError: the disk is full.

        Example:
            >>> pam("photo.jpg", point=(62, 40)).save("answer.png")
        """
        return save([self], path, self.to_dict())

    def save_mask(self, path: str | Path) -> Path:
        """Write the mask as a picture with values 0 and 255, of the picture's size.

        Args:
            path: a file name that ends in `.png`.

        Returns:
            The path.

        Raises:
            UsageError: the extension is another one.
            EnvironmentProblem: the file cannot be written.
            WontFitError: the disk is full.
        """
        if Path(path).suffix.lower() != ".png":
            raise UsageError(f"{path}: a mask is written as .png, which keeps every pixel")
        return _write(Image.fromarray(self.mask.astype(np.uint8) * 255), Path(path))

    def to_dict(self) -> dict[str, Any]:
        """The result as values for JSON, without times.

        Returns:
            `schema`, `size` [h, w], `mask` as COCO run lengths (for `pycocotools.mask.decode`), `box`
            [x0, y0, x1, y1] or None, `score`, `object_score` (a logit) and `answers`.
        """
        from pam_edge.render.json_report import region_record

        record = region_record(self.region, self.answers)
        return {**record, "box": None if self.box is None else list(self.box)}

    def to_detections(self) -> Detections:
        """The result as `supervision.Detections` of one detection, or none if the mask is empty.

        Returns:
            `xyxy` float [n, 4], `mask` bool [n, h, w], `confidence` [n] (the score), `data["class_name"]` the
            text, and `class_id`, which is equal for equal texts.

        Raises:
            EnvironmentProblem: supervision is not installed.
        """
        return detections([self])


class Results(list[Result]):
    """Results of several regions of one picture, in the order of the boxes.

    A list of `Result` that can also be drawn, saved and converted as a whole.
    """

    def plot(self, image: ImageSource | None = None) -> Image.Image:
        """One picture with all regions, numbered.

        Args:
            image: the picture to draw on; needed only if the call was given a `Seen`.

        Returns:
            An RGB image, as of `Result.plot`.

        Raises:
            UsageError: the list is empty, there is no picture to draw on, or it has another size.
        """
        return plot(self, image)

    def save(self, path: str | Path) -> Path:
        """Write one picture of all regions, or `.json` of them.

        Args:
            path: a file name, as of `Result.save`.

        Returns:
            The path.

        Raises:
            UsageError: the extension is unknown, or there is nothing to draw.
            EnvironmentProblem: the file cannot be written.
            WontFitError: the disk is full.
        """
        return save(self, path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The results as values for JSON.

        Returns:
            `schema`, and `results`, a list of `Result.to_dict()`.
        """
        from pam_edge.render.json_report import SCHEMA

        return {"schema": SCHEMA, "results": [result.to_dict() for result in self]}

    def to_detections(self) -> Detections:
        """All results as one `supervision.Detections`, without those whose mask is empty.

        Returns:
            Detections as of `Result.to_detections`.

        Raises:
            EnvironmentProblem: supervision is not installed.
        """
        return detections(self)


def plot(results: Sequence[Result], image: ImageSource | None) -> Image.Image:
    """Draw results of one picture on it."""
    from pam_edge.render.overlay import draw, shown

    if not results:
        raise UsageError("no results to draw")
    picture = results[0].image if image is None else load_image(image)
    if picture is None:
        raise UsageError(
            "these results were made from a Seen, which keeps no picture: call plot(image) with one"
        )
    return draw(picture, [shown(result.region, result.answers) for result in results])


def save(results: Sequence[Result], path: str | Path, record: dict[str, Any]) -> Path:
    """Write results as a picture, or their record as JSON, by the extension of `path`."""
    from pam_edge.render.image_writer import PICTURES

    place = Path(path)
    ending = place.suffix.lower()
    if ending == ".json":
        try:
            place.write_text(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as e:
            raise cannot_write(place, e) from e
        return place
    if ending not in PICTURES:
        raise UsageError(f"{path}: the name must end in {', '.join(PICTURES)} or .json")
    return _write(plot(results, None), place)


def _write(picture: Image.Image, path: Path) -> Path:
    from pam_edge.render.image_writer import save_picture

    save_picture(picture, path)
    return path


def detections(results: Sequence[Result]) -> Detections:
    """Results as supervision's detections, without those whose mask is empty."""
    try:
        import supervision
    except ImportError as e:
        raise EnvironmentProblem("to_detections needs supervision: pip install supervision") from e
    kept = [result for result in results if result.box is not None]
    if not kept:
        return supervision.Detections.empty()
    names, ids = np.unique([result.text for result in kept], return_inverse=True)
    return supervision.Detections(
        xyxy=np.array([result.box for result in kept], np.float32),
        mask=np.stack([result.mask for result in kept]),
        confidence=np.array([result.score for result in kept], np.float32),
        class_id=ids.reshape(-1),  # annotators take their colours from it
        data={"class_name": names[ids.reshape(-1)]},
    )
