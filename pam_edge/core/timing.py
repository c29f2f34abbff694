"""Elapsed time in milliseconds."""

from __future__ import annotations

import time


def ms_since(began: float) -> float:
    """Milliseconds since a reading of `time.perf_counter`."""
    return (time.perf_counter() - began) * 1e3
