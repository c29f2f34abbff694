"""A toy engine's writer, as CONTRIBUTING describes one: modules as PyTorch pickles them."""

from __future__ import annotations

from pathlib import Path

import torch

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import Variant
from pam_edge.bundle.manifest import Check, Graph, Verification
from pam_edge.export.backends.base import Job, MemoryModel, Signature
from pam_edge.export.backends.onnxruntime.decoder import decoder_specs
from pam_edge.export.checkpoint.checkpoint import Checkpoint, load_language
from pam_edge.export.decoder.embedding_file import language2embedding
from pam_edge.export.graphs.image_graphs import GraphName, graph_specs
from pam_edge.quantize.schemes import Scheme, Storage
from pam_edge.targets import Tolerance

TOOLS: tuple[str, ...] = ("pam-edge", "torch", "numpy")
STORES: tuple[Storage, ...] = ("float32",)
MEMORY = MemoryModel(language=1.0)
CALIBRATES = False
MAX_POSITIONS: int | None = None


def specs(variant: Variant, name: GraphName, scheme: Scheme) -> Signature:
    return decoder_specs(variant.language) if name == "decoder" else graph_specs(variant, name)


def write(job: Job) -> tuple[str, ...]:
    checkpoint = job.part.checkpoint
    with job.work.step() as place:
        file = place / f"{job.name}.pt"
        if job.name == "decoder":
            torch.save(load_language(checkpoint), file)
            table = language2embedding(job.variant.language, checkpoint.lazy, place, scheme=job.scheme)
            return file.name, table.name
        torch.save(job.part.module(), file)
        return (file.name,)


def described(graph: Graph, variant: Variant, scheme: Scheme) -> Graph:
    return graph


def checks(folder: Path, checkpoint: Checkpoint, scheme: Scheme, tolerance: Tolerance) -> tuple[Check, ...]:
    return ()


def rehearse(bundle: Bundle) -> Verification | None:
    return None
