"""One click in a fresh process: what a person waits for, and what the process holds meanwhile.

    python -m pam_edge.benchmarks.peers.probe BUNDLE THREADS TOKENS

Prints one JSON object: nanoseconds of every stage, rates, and the peak of resident memory.
"""

from __future__ import annotations

import time

_START = time.perf_counter_ns()

import json  # noqa: E402 - the clock starts before anything is imported
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def main(argv: list[str]) -> dict[str, Any]:
    """Load, look, segment, describe."""
    import msgspec

    import pam_edge
    from pam_edge.benchmarks.peers.scene import clicks, picture
    from pam_edge.bundle import Bundle
    from pam_edge.preprocess import Prompt

    image, point = picture(), clicks(1)[0]
    began = time.perf_counter_ns()
    opened = Bundle.open(argv[0])  # with every file's sha256, as a person would
    bundle = Bundle(opened.folder, msgspec.structs.replace(opened.manifest, stop_ids=()))
    pam = pam_edge.load(bundle, threads=int(argv[1]))
    seen = pam.look(image)
    region = pam.segment(seen, Prompt(points=((*point, 1),)))
    first_mask = time.perf_counter_ns()
    description = pam.describe(region, ["brief"], max_tokens=int(argv[2]))
    first_piece = 0
    for _ in description:
        first_piece = first_piece or time.perf_counter_ns()
    done = time.perf_counter_ns()
    spent = description.timing_ms
    return {
        "times": {
            "load to first mask": first_mask - began,
            "encode": round(region.timing_ms["encode"] * 1e6),
            "mask": round(region.timing_ms["mask"] * 1e6),
            "perceiver": round(spent["perceiver"] * 1e6),
            "prefill": round(spent["prefill"] * 1e6),
            # From the click on a picture already seen, everything opened.
            "first token": round((region.timing_ms["mask"] + spent["first_token"]) * 1e6),
            "decode": round(spent["decode"] * 1e6),
            "whole": done - began,
        },
        "decode_tokens": description.speed.get("decode_tokens", 0),
        "prefill_tokens": description.speed.get("prefill_tokens", 0),
        "peak": peak(Path("/proc/self/status")),
        "imports": began - _START,
    }


def peak(status: Path) -> dict[str, int]:
    """Bytes of VmHWM, the most this process ever held resident, mapped files included."""
    found = {}
    for line in status.read_text().splitlines():
        key, _, value = line.partition(":")
        if key in ("VmHWM", "RssAnon", "RssFile"):
            found[key] = int(value.split()[0]) * 1024
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))  # noqa: T201 - a command of its own
