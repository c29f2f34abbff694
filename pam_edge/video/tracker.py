"""Tracking objects through a video: a frame is encoded once, mask decoder and memory run for each object.

As in SAM 2.1 (arXiv 2408.00714): a prompt on a frame starts an object; other frames are decoded with
attention to its memory. An object that goes out of sight has an empty mask until it is found again. Only what
later frames need is kept (`memory_bank.py`). Knows no files, no text and no engine. One thread a `Tracker`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.graph_io import check_video, slots
from pam_edge.core.errors import UsageError
from pam_edge.core.timing import ms_since
from pam_edge.image.masks import binarize, bounds
from pam_edge.image.preprocess import ImageSource, Prompt, check_prompt, encode_prompt, load_image
from pam_edge.pipeline.pam import Pam
from pam_edge.pipeline.results import Seen
from pam_edge.video.memory_bank import Floats, Memory, attention_feeds

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Tracked:
    """One object on one frame."""

    object: int  # the number it was given with its first prompt
    frame: int
    mask: npt.NDArray[np.bool_]  # [h, w] of the frame; empty where the object is not in sight
    low_res: Floats  # [4E, 4E] logits
    score: float  # the model's own guess of the mask's IoU, 0 to 1
    object_score: float  # logit: at or below 0 the object is not there
    box: tuple[int, int, int, int] | None  # around the mask; None where it is empty
    prompted: bool  # whether a prompt was given on this frame
    region_embed: Floats  # [1, C, E, E]
    mask_tokens: Floats  # [1, 2, C]
    timing_ms: dict[str, float]  # memory (attention to it), mask, remember

    @property
    def visible(self) -> bool:
        """Whether any of it is in sight."""
        return self.box is not None


@dataclass(frozen=True, eq=False)
class Frame:
    """All objects on one frame, in the order of their numbers."""

    index: int
    size: tuple[int, int]  # (h, w)
    objects: tuple[Tracked, ...]
    timing_ms: dict[str, float]  # preprocess, load, encode (0: as the frame before); then sums over objects


class _Object:
    """One object: what is remembered of it, and this frame in the light of that."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.conditioned: Array | None = None  # the frame's embedding; None where nothing is remembered
        self.attention_ms = 0.0
        self.latest: Tracked | None = None
        self.pointer: Floats | None = None


class Tracker:
    """Objects followed frame by frame, forwards or backwards.

    `length` is the video's number of frames where it is known: SAM 2 measures time by it where it is small.
    """

    def __init__(self, pam: Pam, *, length: int | None = None) -> None:
        """Raises UsageError where the bundle is for pictures alone."""
        check_video(pam.bundle)
        self._pam = pam
        self._length = length
        graph = pam.bundle.graph("memory_attention")
        self._slots = slots(graph, "memory"), slots(graph, "pointers")
        self._objects: dict[int, _Object] = {}
        self._seen: Seen | None = None
        self._at, self._backwards = -1, False

    @property
    def objects(self) -> tuple[int, ...]:
        """Numbers of the objects that are followed."""
        return tuple(sorted(self._objects))

    @property
    def remembered(self) -> int:
        """Frames held in memory now, over all objects."""
        return sum(len(obj.memory) for obj in self._objects.values())

    def step(
        self, image: ImageSource, prompts: Mapping[int, Prompt] | None = None, *, at: int | None = None
    ) -> Frame:
        """Track every object onto the next frame. `prompts` start new objects and correct known ones: clicks
        refine the mask of this frame, a box or a mask replaces it.

        `at` is the frame's index where it is not the one after the latest; a smaller index turns back. Raises
        UsageError where a prompt does not fit the frame, and like `load_image`; nothing was then changed.
        """
        prompts = prompts or {}
        picture = load_image(image)
        size = picture.height, picture.width
        for prompt in prompts.values():
            check_prompt(prompt, size, slots=self._pam.slots)
        seen = self._pam.look(picture)
        at = self._at + 1 if at is None else at
        if at != self._at:
            self._backwards = at < self._at
        self._seen, self._at = seen, at
        load = sum(map(self._pam.open_graph, ("memory_attention", "mask_decoder", "memory_encoder")))
        found: dict[int, Tracked] = {}
        for number, obj in self._objects.items():
            self._attend(obj, seen)
            said_anew = number in prompts and (prompts[number].box or prompts[number].mask is not None)
            if not said_anew:
                obj.latest = self._segment(number, obj, None)
            if number not in prompts:
                found[number] = self._remember(obj)
        found |= self._prompted(prompts)
        return self._frame(found, {**seen.timing_ms, "load": seen.timing_ms["load"] + load})

    def correct(self, prompts: Mapping[int, Prompt]) -> Frame:
        """Prompts on the frame that `step` just gave, as often as need be; only the objects that they are of.

        Raises UsageError where there is no such frame yet, or a prompt does not fit it.
        """
        if self._seen is None:
            raise UsageError("there is no frame yet to point at: step to one first")
        for prompt in prompts.values():
            check_prompt(prompt, self._seen.size, slots=self._pam.slots)
        return self._frame(self._prompted(prompts), {})

    def forget(self, obj: int) -> None:
        """Follow an object no longer; a prompt of that number starts anew. An unknown number is no error."""
        self._objects.pop(obj, None)

    def _attend(self, obj: _Object, seen: Seen) -> None:
        """Read the frame in the light of what is remembered of an object."""
        clock = time.perf_counter()
        memories, pointers = obj.memory.seen_from(self._at, backwards=self._backwards)
        obj.conditioned = None
        if memories:
            feeds = attention_feeds(memories, pointers, slots=self._slots)
            feeds["image_embed"] = seen.features["image_embed"]
            obj.conditioned = self._pam.run_graph("memory_attention", feeds)["conditioned"]
        obj.attention_ms = ms_since(clock)

    def _prompted(self, prompts: Mapping[int, Prompt]) -> dict[int, Tracked]:
        """What prompts select, kept in memory. Clicks on an object that this frame shows refine its mask."""
        found: dict[int, Tracked] = {}
        for number, prompt in prompts.items():
            if number not in self._objects:
                config = self._pam.bundle.manifest.variant.vision
                self._objects[number] = _Object(Memory(config, length=self._length))
            obj, earlier = self._objects[number], None
            before = obj.latest
            refines = prompt.box is None and prompt.mask is None
            if refines and before is not None and before.frame == self._at and before.visible:
                earlier = before.low_res
            obj.latest = self._segment(number, obj, prompt, earlier=earlier)
            found[number] = self._remember(obj)
        return found

    def _segment(
        self, number: int, obj: _Object, prompt: Prompt | None, *, earlier: Floats | None = None
    ) -> Tracked:
        pam, seen = self._pam, self._seen
        assert seen is not None
        clock = time.perf_counter()
        side, slots = pam.bundle.manifest.variant.vision.image_size, pam.slots
        if prompt is None:
            feeds = _no_prompt(side, slots)
        else:
            feeds = encode_prompt(prompt, size=seen.size, image_size=side, slots=slots, earlier=earlier)
        feeds = {**seen.features, **feeds, "no_memory": np.ones(1, np.float32)}
        if obj.conditioned is not None:
            feeds |= {"image_embed": obj.conditioned, "no_memory": np.zeros(1, np.float32)}
        out = pam.run_graph("mask_decoder", feeds)
        obj.pointer = out["object_pointer"]
        mask = binarize(out["masks"][0, 0], seen.size)
        return Tracked(
            object=number,
            frame=self._at,
            mask=mask,
            low_res=out["masks"][0, 0],
            score=float(out["iou"].reshape(())),
            object_score=float(out["object_score"].reshape(())),
            box=bounds(mask),
            prompted=prompt is not None,
            region_embed=out["region_embed"],
            mask_tokens=out["mask_tokens"],
            timing_ms={"memory": obj.attention_ms, "mask": ms_since(clock), "remember": 0.0},
        )

    def _remember(self, obj: _Object) -> Tracked:
        """Keep what was just found of an object for later frames."""
        found, seen = obj.latest, self._seen
        assert found is not None and seen is not None and obj.pointer is not None
        clock = time.perf_counter()
        feeds = {
            "image_embed": seen.features["image_embed"],
            "masks": found.low_res[None, None],
            "object_score": np.full((1, 1), found.object_score, np.float32),
            "prompted": np.full(1, found.prompted, np.float32),
        }
        memory = self._pam.run_graph("memory_encoder", feeds)["memory"]
        obj.memory.keep(self._at, memory, obj.pointer, prompted=found.prompted)
        found.timing_ms["remember"] = ms_since(clock)
        return found

    def _frame(self, found: Mapping[int, Tracked], timing_ms: Mapping[str, float]) -> Frame:
        assert self._seen is not None
        objects = tuple(found[number] for number in sorted(found))
        spent = {name: sum(obj.timing_ms[name] for obj in objects) for name in ("memory", "mask", "remember")}
        return Frame(self._at, self._seen.size, objects, {**timing_ms, **spent})


def _no_prompt(image_size: int, slots: int | None) -> dict[str, Array]:
    """The mask decoder's prompt on a frame without one: SAM's padding point, and empty slots."""
    labels = np.full((1, slots or 1), -2, np.float32)
    labels[0, 0] = -1
    side = image_size // 4
    return {
        "point_coords": np.zeros((*labels.shape, 2), np.float32),
        "point_labels": labels,
        "mask_prompt": np.zeros((1, 1, side, side), np.float32),
        "has_mask": np.zeros(1, np.float32),
    }
