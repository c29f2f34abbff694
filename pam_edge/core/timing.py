"""Times in the unit that records of timing use. Knows nothing else."""

from __future__ import annotations

import time


def ms_since(began: float) -> float:
    """Milliseconds since a reading of `time.perf_counter`."""
    return (time.perf_counter() - began) * 1e3
