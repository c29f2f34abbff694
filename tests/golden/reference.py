"""What the original answered on the golden checkpoint, and how far an answer may be from it.

Any implementation can be held against it, PyTorch's or an exported graph's: it hands in arrays and gets
complaints.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from golden.seeded import HERE

from pam_edge.image.preprocess import Prompt, encode_prompt, load_image, pixels

Array = npt.NDArray[Any]
FRAME_SIZE = (240, 320)
IMAGE_SIZE = 1024
PROMPTS = {
    "box": Prompt(box=(60, 70, 140, 150)),
    "points": Prompt(points=((100, 110, 1), (230, 150, 0))),
    "click": Prompt(points=((235, 150, 1),)),
}
TASKS = {"box": ("recognize", "explain"), "points": ("recognize",), "click": ("recognize",)}
ASKED = tuple((name, task) for name, tasks in TASKS.items() for task in tasks)


class Limit(NamedTuple):
    """One value of a region, its key in golden.npz, and the worst difference allowed."""

    value: str
    key: str
    worst: float


LIMITS = (
    Limit("object_score", "object_score_logits", 1e-4),
    Limit("mask_tokens", "mid_mask_tokens_out", 1e-4),
    Limit("region_embed", "mid_image_embed", 1e-4),
    Limit("object_pointer", "obj_ptr", 1e-4),
    Limit("masks", "pred_masks", 1e-3),
    Limit("region_tokens", "region_tokens", 1e-4),
)


@cache
def golden() -> dict[str, Array]:
    """Every array of golden.npz by its key."""
    with np.load(HERE / "golden.npz") as arrays:
        return dict(arrays)


@cache
def frame_pixels(index: int) -> Array:
    """A frame of the clip as the image encoder reads it, [1, 3, 1024, 1024]."""
    return pixels(load_image(HERE / "frames" / f"{index:05}.png"), IMAGE_SIZE)


def prompt_arrays(name: str, *, slots: int | None = None) -> dict[str, Array]:
    """A golden prompt as the mask decoder reads it."""
    return encode_prompt(PROMPTS[name], size=FRAME_SIZE, image_size=IMAGE_SIZE, slots=slots)


def complaints(name: str, region: Mapping[str, Array]) -> list[str]:
    """Where a region's values differ from the original's by more than allowed; empty is parity.

    `region`: object_score, mask_tokens, region_embed, object_pointer, masks [1, 1, 256, 256] and
    region_tokens [1, 1042, hidden], all of one prompt.
    """
    found = []
    for limit in LIMITS:
        ours = np.asarray(region[limit.value], np.float64)
        if limit.value == "region_embed":
            ours = ours[:, :, ::8, ::8]
        if limit.value == "region_tokens":
            ours = ours[0]
        found += differs(f"{name}/{limit.key}", ours, limit.worst)
    return found


def differs(key: str, ours: Array, worst: float, *, part: int | slice | None = None) -> list[str]:
    """A complaint where `ours` is further than `worst` (and float16 rounding) from golden.npz's array.

    `part` picks along that array's first axis.
    """
    theirs = golden()[key] if part is None else golden()[key][part]
    if ours.shape != theirs.shape:
        return [f"{key}: shape {ours.shape} instead of {theirs.shape}"]
    rounding = np.spacing(np.abs(theirs)).astype(np.float64) / 2 if theirs.dtype == np.float16 else 0.0
    excess = np.abs(ours - theirs.astype(np.float64)) - rounding
    # Not `excess > worst`: a NaN must complain.
    return [] if bool((excess <= worst).all()) else [f"{key}: off by {excess.max():.3g}, {worst:g} allowed"]
