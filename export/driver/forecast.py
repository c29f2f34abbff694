"""Memory and disk that an export will need, estimated from tensor shapes before anything is written.

The disk figure is computed exactly. The memory figure is the weights that a step holds, computed, plus an
overhead measured on PAM's sizes. Knows no engine and no file format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pam_edge.bundle.config import Variant
from pam_edge.core import system_info
from pam_edge.core.errors import WontFitError
from pam_edge.export.backends.base import MemoryModel
from pam_edge.export.checkpoint.keys import EMBED_TOKENS
from pam_edge.export.decoder.tensors import AT_ONCE
from pam_edge.export.graphs.image_graphs import VIDEO
from pam_edge.quantize.calibration import CALIBRATED
from pam_edge.quantize.schemes import STORED, Scheme, Storage
from pam_edge.render.tables import size
from pam_edge.targets import Target

FLOAT = 4  # bytes of a float32, in which everything is held in memory
TOOLS = 900_000_000  # torch, the exporter and the engine, loaded
FEATURES_A_PIXEL = 600  # activations of the image encoder, bytes per pixel of the model's input
CALIBRATING_A_PIXEL = 1250  # the engine while it watches the image encoder, but for its weights
SEEN_A_PIXEL = 160  # what calibration keeps of its pictures, gone at the end
SCRATCH_A_PIXEL = 64  # recordings of the image graphs, gone at the end
ENGINE = 100_000_000  # Python, numpy and an engine, before any weights
WORDS = 512  # positions of the cache beside a region's tokens
SMALL_FILES = 32_000_000  # golden.npz, tokenizer, rotary tables
EXPORTED: dict[str, tuple[str, ...]] = {  # prefix of a canonical key, and the graphs its tensors go to
    "vision.image_encoder.": ("image_encoder",),
    "vision.sam_": ("mask_decoder",),
    "vision.no_mem_embed": ("mask_decoder",),
    "vision.obj_ptr_proj.": ("mask_decoder",),
    "vision.memory_encoder.": ("memory_encoder",),
    "vision.memory_attention.": ("memory_attention",),
    "perceiver.": ("perceiver", "perceiver_frame"),
    "language.": ("decoder",),
}


@dataclass(frozen=True)
class Forecast:
    """Bytes: `disk` of the finished folder and its scratch files, `memory` at the peak of each step.

    `device` is what the bundle takes of its device's memory when it answers about a picture.
    """

    disk: int
    memory: dict[str, int]
    device: int = 0

    @property
    def peak(self) -> int:
        """Memory at the peak of the whole export."""
        return max(self.memory.values())

    def text(self, target: Target | None = None) -> str:
        """For people: what the work takes, and the bundle on its device where that is told."""
        steps = ", ".join(f"{name} {size(count)}" for name, count in self.memory.items())
        text = f"this takes about {size(self.disk)} of disk and {size(self.peak)} of memory ({steps})"
        if target is None:
            return text
        left = f", which leaves a process {size(target.memory.bytes)}" if target.memory else ""
        return f"{text}\nthe bundle will take about {size(self.device)} of memory on {target.title}{left}"


def forecast(
    variant: Variant,
    shapes: Mapping[str, tuple[int, ...]],
    scheme: Scheme,
    memory: MemoryModel | None = None,
    *,
    calibrates: bool = True,
) -> Forecast:
    """What exporting tensors of these shapes (by canonical key) takes, stored as the scheme says.

    `calibrates` is the writer's `CALIBRATES`: without, nothing is made of float files and pictures.
    """
    from pam_edge.export.reference.golden import answers_greedily  # torch, which `quantize` does without

    memory = memory or MemoryModel()

    def weights(*prefixes: str) -> int:
        return FLOAT * sum(math.prod(shape) for key, shape in shapes.items() if key.startswith(prefixes))

    stored = dict.fromkeys([graph for graphs in EXPORTED.values() for graph in graphs], 0)
    for key, shape in shapes.items():
        for graph in next((graphs for prefix, graphs in EXPORTED.items() if key.startswith(prefix)), ()):
            stored[graph] += math.ceil(STORED[stored_as(scheme, graph, key, shape)] * math.prod(shape))
            if key == EMBED_TOKENS and variant.language.tied:
                stored[graph] += (memory.vocabularies - 1) * math.ceil(
                    STORED[stored_as(scheme, graph, key, shape)] * math.prod(shape)
                )
    vision, language, layer = weights("vision."), weights("language."), weights("language.layers.0.")
    quantized, seen = scheme.calibrated, scheme.calibrated and calibrates
    small = any(rule.storage in ("q4", "q8") for rule in scheme.rules) and memory.integers is not None
    held = round(language * ((memory.integers or 0.0) if small else memory.language))
    largest = FLOAT * max(math.prod(shape) for shape in shapes.values())
    pictures = variant.vision.image_size**2
    features = FEATURES_A_PIXEL * pictures
    whole = answers_greedily(variant.language)
    return Forecast(
        disk=sum(stored.values())
        + SCRATCH_A_PIXEL * pictures
        + (SEEN_A_PIXEL * pictures if seen else 0)
        + (vision if seen or (memory.float_files and scheme.rules) else 0)
        + SMALL_FILES,
        memory={
            "image graphs": TOOLS
            + round(vision * max(1.0, memory.vision))
            + max(features, CALIBRATING_A_PIXEL * pictures if seen else 0),
            "decoder": TOOLS + max(language + largest if whole else layer + FLOAT * AT_ONCE, held),
            "verification": TOOLS
            + features
            + (max(vision, stored["decoder"]) if quantized else max(vision, language) + largest),
        },
        device=ENGINE
        + sum(count for graph, count in stored.items() if graph not in VIDEO)
        + FEATURES_A_PIXEL * pictures
        + _cache(variant, scheme, memory),
    )


def _cache(variant: Variant, scheme: Scheme, memory: MemoryModel) -> int:
    """Keys and values of a region's prompt, and of the answer that branches from it."""
    lm, kind = variant.language, memory.cache if scheme.rules else "float32"
    positions = memory.cached or variant.region_tokens + WORDS
    count = 2 * lm.layers * lm.kv_heads * lm.head_dim * min(lm.max_length, positions)
    return 2 * math.ceil(STORED[kind] * count)


def stored_as(scheme: Scheme, graph: str, key: str, shape: Sequence[int]) -> Storage:
    """Integer activations are for the image graphs' products alone; what else a rule means by it stays."""
    found = scheme.storage(graph, key, shape)
    kept = found == "w8a8" and (graph not in CALIBRATED or len(shape) != 2)
    return "float32" if kept else found


def check_fits(needed: Forecast, folder: Path) -> None:
    """Refuse what will not fit. What the system does not say is not held against it. Raises WontFitError."""
    have = system_info.available_memory()
    if have is not None and needed.peak > have:
        step = max(needed.memory, key=needed.memory.__getitem__)
        raise WontFitError(
            f"this needs about {size(needed.peak)} of memory (for {step}), {size(have)} are free: "
            "close other programs, use a machine with more, or take a smaller variant"
        )
    free = system_info.free_disk(folder)
    if free is not None and needed.disk > free + _held(folder):
        raise WontFitError(
            f"this needs about {size(needed.disk)} of disk, {size(free)} are free at {folder}: "
            "free some space, or give -o a folder on another disk"
        )


def check_suits(needed: Forecast, target: Target) -> None:
    """Refuse what the device itself has no memory for. Raises WontFitError."""
    memory = target.memory
    if memory is not None and needed.device > memory.bytes:
        raise WontFitError(
            f"this bundle would need about {size(needed.device)} of memory on {target.title}, which leaves a "
            f"process {size(memory.bytes)} ({memory.source}): choose a smaller scheme "
            f"({', '.join(target.schemes)}), a smaller variant (up to {target.variant}) or another target"
        )


def _held(folder: Path) -> int:
    """Bytes already there: what an interrupted export made, or what a new one will replace."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:  # not there yet, or not for us to read: the export itself will say
        return 0
