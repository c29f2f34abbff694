"""Timing of tracking and captioning a video: times of frames and captions, and statistics of them."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from statistics import median
from typing import Any

from pam_edge.render.json_report import peak_mb
from pam_edge.video.stream import Caption, Event, Words
from pam_edge.video.tracker import Frame

_FRAME = ("encode", "memory", "mask", "remember", "whole")  # that people are told
_CAPTION = ("perceiver", "prefill", "first_word", "decode", "whole")


class Spent:
    """Times of a run so far, kept as 4 bytes a number: 60 MB for a day of 25 frames a second."""

    def __init__(self) -> None:
        self.frames = self.captions = 0
        self.load_ms = 0.0  # opening graphs
        self._frame_ms: dict[str, array[float]] = {}
        self._caption_ms: dict[str, array[float]] = {}
        self._began = time.perf_counter()

    def take(self, event: Event) -> None:
        """Count an event's times. A caption of what never was in sight took none."""
        if isinstance(event, Words) or (isinstance(event, Caption) and event.lost):
            return
        if isinstance(event, Frame):
            self.frames, held = self.frames + 1, self._frame_ms
        else:
            self.captions, held = self.captions + 1, self._caption_ms
        for name, ms in event.timing_ms.items():
            if name == "load":
                self.load_ms += ms
            else:
                held.setdefault(name, array("f")).append(ms)

    @property
    def seconds(self) -> float:
        """Since the run began, whatever was done and waited for."""
        return time.perf_counter() - self._began

    def numbers(self) -> dict[str, Any]:
        """For machines: medians over frames and over captions, sums, speed without opening graphs, peak."""
        seconds = self.seconds
        working = seconds - self.load_ms / 1e3
        return {
            "seconds": round(seconds, 3),
            "load_ms": round(self.load_ms, 3),
            "frames_per_s": round(self.frames / working, 3) if self.frames and working > 0 else None,
            "frame_ms": _each(self._frame_ms),
            "caption_ms": _each(self._caption_ms),
            "peak_mb": peak_mb(),
        }

    def text(self) -> str:
        """For people, on one line."""
        numbers = self.numbers()
        parts = [f"{self.frames} frame{'' if self.frames == 1 else 's'}"]
        if numbers["frames_per_s"] is not None:
            parts[0] += f", {numbers['frames_per_s']:.1f} a second"
        for what, held, names in (
            ("ms a frame", self._frame_ms, _FRAME),
            ("ms a segment", self._caption_ms, _CAPTION),
        ):
            steps = [f"{name.replace('_', ' ')} {median(held[name]):.0f}" for name in names if name in held]
            if steps:
                parts.append(f"{what} (median): {', '.join(steps)}")
        if numbers["peak_mb"] is not None:
            parts.append(f"peak {numbers['peak_mb']:.0f} MB")
        return "; ".join(parts)


def _each(held: Mapping[str, array[float]]) -> dict[str, dict[str, float]]:
    return {name: {"median": round(median(ms), 3), "sum": round(sum(ms), 3)} for name, ms in held.items()}
