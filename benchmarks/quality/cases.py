"""What an evaluation asks and what comes back: pictures, objects in them, truths, answers. Records only.

Filled from the rendered world (`world_cases.py`) or from PAM-format annotations (`annotations.py`); read by
`pictures.py`. Knows no model and no metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pam_edge.image.preprocess import ImageSource
from pam_edge.pipeline.results import Answer, Region
from pam_edge.text.tokenization import Lang

LABEL, DEFINITION = "recognize", "explain"
QUESTION = "question"  # a question of the data's own; its answer is scored as a caption


@dataclass(frozen=True)
class Ask:
    """One question and its true answer. `question` is None for the bundle's own task text."""

    task: str  # recognize, explain, brief, detailed, or question
    lang: Lang
    truth: str
    question: str | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One object to point at. `clicks` (x, y, label) and `box` (x0, y0, x1, y1) in pixels; at least one is
    there.
    """

    name: str  # where it comes from, for people
    kind: str  # its row in the table of kinds
    clicks: tuple[tuple[float, float, int], ...]
    box: tuple[float, float, float, float] | None
    mask: npt.NDArray[np.bool_] | None  # [h, w] of the picture; None where the data holds none
    asks: tuple[Ask, ...]
    colour: str | None = None  # in the words of the source's `colour_of`; None where not known


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and the cases in it."""

    name: str
    image: ImageSource
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Source:
    """Where pictures come from: `pictures()` yields them one by one, `count` of them.

    `about` describes the data in the report. `colour_of` reads the first colour a caption names; None where
    the data does not say what colour an object has.
    """

    about: Mapping[str, Any]
    count: int
    pictures: Callable[[], Iterator[Picture]]
    colour_of: Callable[[str, Lang], str | None] | None = field(default=None)


@dataclass(frozen=True, eq=False)
class Said:
    """An answer beside the truth. `right` is None where there is no right or wrong (captions of unknown
    colour).
    """

    ask: Ask
    answer: Answer
    right: bool | None


@dataclass(frozen=True, eq=False)
class Judged:
    """One case and all that the model made of it."""

    case: Case
    image: Image.Image
    click: Region | None
    box: Region | None
    click_iou: float | None
    box_iou: float | None
    said: tuple[Said, ...]

    @property
    def score(self) -> float:
        """How well it went, 0 to 1: the mean of IoUs and of the share of right answers."""
        parts = [iou for iou in (self.click_iou, self.box_iou) if iou is not None]
        verdicts = [said.right for said in self.said if said.right is not None]
        if verdicts:
            parts.append(sum(verdicts) / len(verdicts))
        return sum(parts) / len(parts) if parts else 0.0
