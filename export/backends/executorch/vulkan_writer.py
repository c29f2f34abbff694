"""Writer of ExecuTorch bundles for phones' GPUs: as for their CPUs, but lowered to Vulkan.

The output of these files was never checked, because ExecuTorch's Python runtime has no Vulkan. One graph is
lowered for the CPU, because the package's passes fail on it (`FuseBatchNormPass`: tensors of two fake modes).
"""

from __future__ import annotations

from pam_edge.export.backends.base import Job
from pam_edge.export.backends.executorch.writer import (
    CALIBRATES,
    MAX_POSITIONS,
    MEMORY,
    STORES,
    TOOLS,
    checks,
    described,
    lowered,
    rehearse,
    specs,
)

__all__ = [
    "CALIBRATES",
    "MAX_POSITIONS",
    "MEMORY",
    "STORES",
    "TOOLS",
    "checks",
    "described",
    "rehearse",
    "specs",
    "write",
]
ON_CPU = ("memory_attention",)


def write(job: Job) -> tuple[str, ...]:
    """See `Writer.write`."""
    return lowered(job, gpu=job.name not in ON_CPU)
