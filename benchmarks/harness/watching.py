"""A process that watches itself: its memory over time, and how much energy the machine takes meanwhile.

Linux tells memory by kind every 20 ms; elsewhere only the peak is known. Energy is told by Intel's and AMD's
counters (RAPL), by the rails that tegrastats prints, by nvidia-smi, or by a phone's battery; where none of
these speaks it is not measured.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from pam_edge.benchmarks.harness.rows import Series

EVERY = 0.02  # seconds
POINTS = 240  # of a series that is kept
_KINDS = {"VmHWM": "peak", "RssAnon": "own", "RssFile": "mapped"}
# Read here, not by psutil: it has neither VmHWM on Linux nor a way to begin a peak anew.
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def memory(status: Path = _STATUS) -> dict[str, int]:
    """Bytes this process holds: its peak, own pages, mapped files. Empty where the system does not say."""
    try:
        text = status.read_text()
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key in _KINDS:
            found[_KINDS[key]] = int(value.split()[0]) * 1024
    return found


def forget_peak(place: Path = _CLEAR) -> bool:
    """Have this process's peak begin anew at what it holds now; whether the system can do that."""
    try:
        place.write_text("5")
    except OSError:
        return False
    return True


class MemoryWatch:
    """Looks at memory in a thread of its own until it is closed. `series` is of the time up to `keep`."""

    def __init__(self, *, read: Callable[[], dict[str, int]] = memory, every: float = EVERY) -> None:
        self._read, self._every, self._began = read, every, time.perf_counter_ns()
        self._points: list[tuple[int, int, int]] = []
        self._marks: dict[str, int] = {}
        self._most: dict[str, int] = {}
        self._over, self._kept = threading.Event(), False
        self._thread = threading.Thread(target=self._run, daemon=True)
        if read():
            self._thread.start()

    def mark(self, name: str) -> None:
        """Something begins now. Only the first time counts."""
        if not self._kept:
            self._marks.setdefault(name, time.perf_counter_ns() - self._began)

    def keep(self) -> None:
        """What comes from now on is no part of the series; the most of it still counts."""
        self._look()
        self._kept = True

    def most(self) -> dict[str, int]:
        """Bytes at most, by kind."""
        self._look()
        return dict(self._most)

    def series(self) -> Series | None:
        """What was seen, in at most 240 points, each the most of its span; None where nothing was."""
        if len(self._points) < 2:
            return None
        span = max(1, -(-len(self._points) // POINTS))
        groups = [self._points[i : i + span] for i in range(0, len(self._points), span)]
        return Series(
            unit="bytes",
            at_ns=tuple(group[-1][0] for group in groups),
            values={
                "own": tuple(max(point[1] for point in group) for group in groups),
                "mapped": tuple(max(point[2] for point in group) for group in groups),
            },
            marks=dict(self._marks),
        )

    def close(self) -> None:
        """Stop looking."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self._look()

    def _look(self) -> None:
        seen = self._read()
        for kind, size in seen.items():
            self._most[kind] = max(size, self._most.get(kind, 0))
        if seen and not self._kept:
            at = time.perf_counter_ns() - self._began
            self._points.append((at, seen.get("own", 0), seen.get("mapped", 0)))
