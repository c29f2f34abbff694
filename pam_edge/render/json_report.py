"""The JSON of `run --json` (schema 1), and the statistics that `run` prints to stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pam_edge.image import coco_rle
from pam_edge.pipeline.results import Answer, Region

SCHEMA = 1


def report(
    region: Region,
    answers: Sequence[Answer],
    *,
    timing_ms: Mapping[str, float],
    cache: Mapping[str, int],
) -> dict[str, Any]:
    """One region and its answers as JSON: the mask as COCO RLE, times in milliseconds, counters of the
    caches, and the most memory that the process held so far.

    `timing_ms` are those of the description; the region's own are added.
    """
    return {
        **region_record(region, answers),
        "timing_ms": {name: round(ms, 3) for name, ms in added(region.timing_ms, timing_ms).items()},
        "cache": dict(cache),
        "peak_mb": peak_mb(),
    }


def region_record(region: Region, answers: Sequence[Answer]) -> dict[str, Any]:
    """The part of it that is the same whenever the same is asked: the region and its answers."""
    height, width = region.size
    return {
        "schema": SCHEMA,
        "size": [height, width],
        "mask": {"size": [height, width], "counts": coco_rle.encode(region.mask)},
        "score": region.score,
        "object_score": region.object_score,
        "answers": [
            {
                "task": answer.task,
                "lang": answer.lang,
                "text": answer.text,
                "token_ids": list(answer.token_ids),
                "finish_reason": answer.finish_reason,
            }
            for answer in answers
        ],
    }


def added(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """Two steps' times as one's: what both have (`load`) is summed."""
    return {**first, **{name: first.get(name, 0.0) + ms for name, ms in second.items()}}


def peak_mb() -> float | None:
    """The most memory this process has held so far, in MB (1e6 bytes); None where the system hides it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def numbers(timing_ms: Mapping[str, float], speed: Mapping[str, float]) -> str:
    """Times and speeds on one line for people; a step that came from the cache says so, and opening graphs
    is told where it happened.
    """
    parts = []
    for name in ("load", "preprocess", "encode", "mask", "perceiver", "prefill", "first_token", "decode"):
        if name in timing_ms and not (name == "load" and timing_ms[name] == 0):
            cached = name in ("encode", "perceiver") and timing_ms[name] == 0
            parts.append(f"{name.replace('_', ' ')} " + ("cached" if cached else f"{timing_ms[name]:.0f} ms"))
            if name in ("prefill", "decode") and f"{name}_tokens_per_s" in speed:
                parts[-1] += f" ({speed[f'{name}_tokens_per_s']:.1f} tok/s"
                parts[-1] += f", {speed['decode_gb_per_s']:.2f} GB/s)" if name == "decode" else ")"
    peak = peak_mb()
    if peak is not None:
        parts.append(f"peak {peak:.0f} MB")
    return ", ".join(parts)
