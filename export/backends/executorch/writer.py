"""Writer of ExecuTorch bundles: one .pte per graph, lowered to XNNPACK, free axes with an upper bound.

In schemes with 8-bit activations, linear layers of the image graphs use them, and so does the decoder where
its weights are integers. Ranges are found while the graph runs, one per position, so no calibration is
needed: with calibrated ranges XNNPACK also rounds a layer's results, all with one scale, which turned the
smallest of nano's region tokens into zeros. What a scheme stores in 16 bits is stored in 32 here, because
XNNPACK does not widen it.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import Variant
from pam_edge.bundle.golden import Losses
from pam_edge.bundle.manifest import Check, Graph, Verification
from pam_edge.export.backends.base import CLIP, Job, MemoryModel, Signature
from pam_edge.export.backends.executorch.decoder import ROWS, TOKENS, cached_specs
from pam_edge.export.backends.executorch.graphs import module2pte
from pam_edge.export.backends.executorch.weights import filled, in_8_bits, weight_noise
from pam_edge.export.checkpoint.checkpoint import Checkpoint
from pam_edge.export.decoder.embedding_file import language2embedding
from pam_edge.export.graphs.image_graphs import GraphName, fixed, graph_specs
from pam_edge.quantize.schemes import STATIC, Scheme, Storage
from pam_edge.targets import Tolerance
from pam_edge.verify.quantization_gate import check

TOOLS: tuple[str, ...] = ("pam-edge", "torch", "executorch", "torchao", "numpy", "tokenizers")
STORES: tuple[Storage, ...] = (*STATIC, "q8", "q4")
# Floats are not measured at PAM's sizes: the weights, the lowered program's, and what is being serialized. In
# integers two layers of PAM-1.5B's width took 1.2 of their floats.
MEMORY = MemoryModel(vision=3.0, language=3.0, integers=1.5, vocabularies=2)
CALIBRATES = False
MAX_POSITIONS: int | None = CLIP
# Empty slots cost little and static shapes save the engine work; SAM 2 itself remembers no more.
_SLOTS = MappingProxyType({"points": 16, "memories": 7, "pointers": 16})


def specs(variant: Variant, name: GraphName, scheme: Scheme) -> Signature:
    """Slots are fixed; the decoder's axes stay free, up to what its file takes."""
    if name == "decoder":
        return cached_specs(variant.language)
    inputs, outputs = graph_specs(variant, name)
    return fixed(inputs, _SLOTS), fixed(outputs, _SLOTS)


def write(job: Job) -> tuple[str, ...]:
    """See `Writer.write`."""
    return lowered(job, gpu=False)


def lowered(job: Job, *, gpu: bool) -> tuple[str, ...]:
    """The same for a phone's CPU or its GPU."""
    inputs, outputs = specs(job.variant, job.name, job.scheme)
    with job.work.step() as place:
        path = place / f"{job.name}.pte"
        if job.name == "decoder":
            checkpoint, language = job.part.checkpoint, job.variant.language
            longest = min(language.max_length, CLIP)
            most = {"rows": ROWS, "tokens": TOKENS, "capacity": longest}
            decoder = filled(language, checkpoint.tensor, job.scheme)
            module2pte(decoder, inputs, outputs, path, most=most, gpu=gpu)
            table = language2embedding(language, checkpoint.lazy, place, scheme=job.scheme)
            return path.name, table.name
        module = in_8_bits(job.part.module(), job.scheme, job.name)
        module2pte(module, inputs, outputs, path, most={}, gpu=gpu)
    return (path.name,)


def described(graph: Graph, variant: Variant, scheme: Scheme) -> Graph:
    """Nothing to add."""
    return graph


def checks(folder: Path, checkpoint: Checkpoint, scheme: Scheme, tolerance: Tolerance) -> tuple[Check, ...]:
    """The decoder's weights as this scheme rounds them, against the float ones.

    The file holds them packed for the engine, which nothing else reads: this is the rounding, computed again.
    """
    if not isinstance(tolerance, Losses):
        return ()
    worst, where = weight_noise(checkpoint.variant.language, checkpoint.lazy, scheme)
    return (check("decoder", f"weights: noise of the worst row, {where}", worst, tolerance.weights),)


def rehearse(bundle: Bundle) -> Verification | None:
    """No other engine reads these files."""
    return None
