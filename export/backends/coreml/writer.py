"""Writer of CoreML bundles: one package per graph, all axes fixed, computed in float16."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import LanguageConfig, Variant
from pam_edge.bundle.manifest import Check, Graph, Verification
from pam_edge.export.backends.base import CLIP, Job, MemoryModel, Signature
from pam_edge.export.backends.coreml.decoder import decoder_specs, language2coreml
from pam_edge.export.backends.coreml.graphs import module2coreml
from pam_edge.export.backends.coreml.package import SUFFIX
from pam_edge.export.checkpoint.checkpoint import Checkpoint
from pam_edge.export.decoder.embedding_file import language2embedding
from pam_edge.export.graphs.image_graphs import GraphName, fixed, graph_specs
from pam_edge.quantize.schemes import STATIC, Scheme, Storage
from pam_edge.targets import Tolerance
from pam_edge.video.memory_bank import PROMPTED

TOOLS: tuple[str, ...] = ("pam-edge", "torch", "coremltools", "numpy", "tokenizers")
STORES: tuple[Storage, ...] = (*STATIC, "q8", "q4")
CALIBRATES = False  # integers are weights alone
POINTS = 16  # slots for the points of a prompt, a box's corners among them
MAX_POSITIONS: int | None = CLIP
# The modules' float32 weights beside coremltools' and those of the package; the decoder's as they are stored,
# its tied head in its own package.
MEMORY = MemoryModel(vision=3.0, language=0.5, vocabularies=2, cache="float16", cached=MAX_POSITIONS)


def specs(variant: Variant, name: GraphName, scheme: Scheme) -> Signature:
    """Every axis fixed, but for the decoder's `tokens`, of which its two functions have two extents."""
    if name == "decoder":
        return decoder_specs(variant.language)
    inputs, outputs = graph_specs(variant, name)
    vision = variant.vision
    slots = {
        "points": POINTS,
        # What pam_edge/video/memory_bank.py may remember at once.
        "memories": PROMPTED + vision.num_maskmem - 1,
        "pointers": PROMPTED + vision.max_obj_ptrs - 1,
    }
    return fixed(inputs, slots), fixed(outputs, slots)


def write(job: Job) -> tuple[str, ...]:
    """See `Writer.write`."""
    with job.work.step() as place:
        package = place / f"{job.name}{SUFFIX}"
        if job.name == "decoder":
            language, lazy = shortened(job.variant.language), job.part.checkpoint.lazy
            files = language2coreml(language, lazy, package, scheme=job.scheme, progress=job.progress)
            files += (language2embedding(language, lazy, place, scheme=job.scheme),)
        else:
            signature = specs(job.variant, job.name, job.scheme)
            files = module2coreml(job.part.module(), *signature, package, scheme=job.scheme)
        return tuple(file.relative_to(place).as_posix() for file in files)


def shortened(language: LanguageConfig) -> LanguageConfig:
    """The same model, reading no more positions than its cache is made for."""
    return msgspec.structs.replace(language, max_length=min(language.max_length, CLIP))


def described(graph: Graph, variant: Variant, scheme: Scheme) -> Graph:
    """Nothing to add."""
    return graph


def rehearse(bundle: Bundle) -> Verification | None:
    """None: no other engine reads these files."""
    return None


def checks(folder: Path, checkpoint: Checkpoint, scheme: Scheme, tolerance: Tolerance) -> tuple[Check, ...]:
    """None: what nothing here can run is not called checked."""
    return ()
