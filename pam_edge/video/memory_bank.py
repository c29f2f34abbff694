"""The memories of one object in a video, and which of them a frame attends to (SAM 2.1, arXiv 2408.00714).

A frame attends to every remembered frame with a prompt, to the latest `num_maskmem - 1` other frames and to
up to `max_obj_ptrs` object pointers. Nothing else is kept, however long the video. Pure numpy; knows no
engine and no picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.config import VisionConfig

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
SPARE_SLOTS = (3, 3)  # one more than `remembered_case` fills
PROMPTED = 4  # frames with a prompt that are kept: 1 MB of memory each at PAM's size


@dataclass(frozen=True, eq=False)
class Remembered:
    """What is kept of a frame."""

    memory: npt.NDArray[np.uint16]  # [mem_dim, E, E], bfloat16 as the original keeps it
    pointer: Floats  # [C]
    prompted: bool


@dataclass(frozen=True, eq=False)
class Slot:
    """A remembered frame as another frame sees it."""

    value: Floats  # memory [mem_dim, E, E], or pointer [C]
    since: float  # memory: frames since, 0 for one with a prompt; pointer: time since, as a share


class Memory:
    """One object's remembered frames. `length` is the video's number of frames, None where unknown."""

    def __init__(self, config: VisionConfig, *, length: int | None = None) -> None:
        self._recent = config.num_maskmem - 1
        most = config.max_obj_ptrs if length is None else min(length, config.max_obj_ptrs)
        self._pointers = max(most, 2)
        self._kept: dict[int, Remembered] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, frame: int, memory: Floats, pointer: Floats, *, prompted: bool) -> None:
        """Remember a frame: memory [1, mem_dim, E, E], pointer [1, C]. What no later one needs is forgotten.

        A frame that has a prompt stays one of those; of more than `PROMPTED` the oldest but one goes: the
        first says what was meant.
        """
        already = frame in self._kept and self._kept[frame].prompted
        self._kept.pop(frame, None)
        self._kept[frame] = Remembered(to_bfloat16(memory[0]), pointer[0].copy(), prompted or already)
        marked = [n for n, held in self._kept.items() if held.prompted]
        if len(marked) > PROMPTED:
            del self._kept[marked[1]]
        reach = max(self._recent, self._pointers - 1)
        for n in [n for n, held in self._kept.items() if not held.prompted and abs(n - frame) >= reach]:
            del self._kept[n]

    def seen_from(self, frame: int, *, backwards: bool = False) -> tuple[list[Slot], list[Slot]]:
        """What `frame` attends to: memories, and pointers. Both are empty where nothing is remembered."""
        step = 1 if backwards else -1
        marked = {n: held for n, held in self._kept.items() if held.prompted and n != frame}
        memories = [Slot(from_bfloat16(held.memory), 0) for held in marked.values()]
        for age in range(self._recent, 0, -1):
            held = self._kept.get(frame + step * age)
            if held is not None and not held.prompted:
                memories.append(Slot(from_bfloat16(held.memory), age))
        longest = self._pointers - 1
        since = {n: (frame - n if not backwards else n - frame) for n in marked}
        pointers = [Slot(marked[n].pointer, age / longest) for n, age in since.items() if age > 0]
        for age in range(longest, 0, -1):
            held = self._kept.get(frame + step * age)
            if held is not None and not held.prompted:
                pointers.append(Slot(held.pointer, age / longest))
        if memories and not pointers:  # only prompts that lie ahead: the nearest says what is looked for
            nearest = min(marked, key=lambda n: abs(n - frame))
            pointers.append(Slot(marked[nearest].pointer, abs(nearest - frame) / longest))
        return memories, pointers


def attention_feeds(
    memories: Sequence[Slot], pointers: Sequence[Slot], *, slots: tuple[int | None, int | None]
) -> dict[str, Array]:
    """Inputs of `memory_attention` but for the image, from at least one memory and one pointer.

    `slots` are the graph's fixed numbers of both, None where an axis is free: the rest are empty slots; of
    what does not fit the first stays and the latest.
    """
    feeds = _padded(memories, slots[0], ("memory", "memory_age", "memory_valid"))
    return feeds | _padded(pointers, slots[1], ("pointers", "pointer_time", "pointer_valid"))


def remembered_case(
    memory: Floats, pointer: Floats, *, slots: tuple[int | None, int | None]
) -> dict[str, Array]:
    """A case to check `memory_attention` by: one frame's memory [1, mem_dim, E, E] and pointer [1, C], as if
    it had carried the prompt three frames ago and been the last one too.
    """
    memories = [Slot(memory[0], age) for age in (0, 1)]
    pointers = [Slot(pointer[0], age / 15) for age in (3, 1)]
    return attention_feeds(memories, pointers, slots=slots)


def _padded(found: Sequence[Slot], slots: int | None, names: tuple[str, str, str]) -> dict[str, Array]:
    count = len(found) if slots is None else slots
    if len(found) > count:  # the first prompt stays, then what is latest
        found = [*found[:1], *found[len(found) - count + 1 :]]
    values = np.zeros((1, count, *found[0].value.shape), np.float32)
    since, valid = np.zeros((1, count), np.float32), np.zeros((1, count), np.float32)
    for i, slot in enumerate(found):
        values[0, i], since[0, i], valid[0, i] = slot.value, slot.since, 1
    return dict(zip(names, (values, since, valid), strict=True))


def to_bfloat16(x: Floats) -> npt.NDArray[np.uint16]:
    """The upper halves of finite floats, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(x: npt.NDArray[np.uint16]) -> Floats:
    """Floats of those upper halves."""
    return (x.astype(np.uint32) << 16).view(np.float32)
