"""The records that `look`, `segment` and `describe` return.

All arrays are float32 and belong to the record: do not write into them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.image.preprocess import Prompt
from pam_edge.text.decoding import Finish
from pam_edge.text.tokenization import Lang

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture after the image encoder: what every click on it starts from."""

    size: tuple[int, int]  # (h, w) of the upright picture
    key: str  # of the content: equal pictures have equal keys
    # image_embed, high_res_0, high_res_1 as in the graph contract
    features: dict[str, npt.NDArray[Any]] = field(repr=False)
    timing_ms: dict[str, float]  # preprocess; load (opening graphs); encode (0 where it came from the cache)


@dataclass(frozen=True, eq=False)
class Region:
    """What a prompt selects in a picture: its mask, and what the language model will be shown of it."""

    mask: npt.NDArray[np.bool_] = field(repr=False)  # [h, w] of the picture
    low_res: Floats = field(repr=False)  # [4E, 4E] logits; `segment(..., refine=region)` starts from them
    score: float  # the model's own guess of the mask's IoU, 0 to 1
    object_score: float  # logit: at or below 0 the model says there is no object, and the mask is empty
    box: (
        tuple[int, int, int, int] | None
    )  # around the mask, x1 and y1 just outside; None where the mask is empty
    prompt: Prompt = field(repr=False)
    key: str  # of picture and prompt: equal regions have equal keys
    picture: str  # the key of the picture seen
    region_embed: Floats = field(repr=False)  # [1, C, E, E]
    mask_tokens: Floats = field(repr=False)  # [1, 2, C]
    timing_ms: dict[str, float]  # preprocess, load, encode, mask

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the picture."""
        height, width = self.mask.shape
        return height, width


@dataclass(frozen=True)
class Answer:
    """A finished answer to one task."""

    task: str  # the task's name, or "question"
    lang: Lang
    text: str
    token_ids: tuple[int, ...]  # without the stop token
    finish_reason: Finish  # "stop": the model was done; "length": it was cut off

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Piece:
    """A piece of streamed text; the last of each task carries its answer."""

    index: int  # which of the tasks asked, from 0
    task: str
    text: str
    answer: Answer | None
