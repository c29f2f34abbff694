"""Writer of ONNX Runtime bundles: one .onnx per graph, free axes, its own operators where they save most."""

from __future__ import annotations

from pathlib import Path

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import Variant
from pam_edge.bundle.golden import Losses
from pam_edge.bundle.manifest import Check, Graph, Verification
from pam_edge.export.backends.base import Job, MemoryModel, Signature
from pam_edge.export.backends.onnxruntime.decoder import decoder_specs, language2onnx
from pam_edge.export.backends.onnxruntime.graphs import module2onnx
from pam_edge.export.backends.onnxruntime.static_graphs import static_graph
from pam_edge.export.backends.onnxruntime.weight_check import weight_check
from pam_edge.export.checkpoint.checkpoint import Checkpoint
from pam_edge.export.graphs.image_graphs import GraphName, graph_specs
from pam_edge.quantize.calibration import Calibrated, Samples
from pam_edge.quantize.schemes import FP32, STATIC, Scheme, Storage
from pam_edge.targets import Tolerance

TOOLS: tuple[str, ...] = ("pam-edge", "torch", "onnx", "onnxscript", "onnxruntime", "numpy", "tokenizers")
STORES: tuple[Storage, ...] = (*STATIC, "q8", "q4")
MEMORY = MemoryModel()
CALIBRATES = True
MAX_POSITIONS: int | None = None
WIDE = "float-"  # before the names of files that a quantized graph is made of


def specs(variant: Variant, name: GraphName, scheme: Scheme) -> Signature:
    """Every named axis stays free; borders are float32 at any scheme."""
    return decoder_specs(variant.language) if name == "decoder" else graph_specs(variant, name)


def write(job: Job) -> tuple[str, ...]:
    """See `Writer.write`."""
    match job.name:
        case "decoder":
            with job.work.step() as place:
                files = language2onnx(
                    job.variant.language,
                    job.part.checkpoint.lazy,
                    place,
                    scheme=job.scheme,
                    progress=lambda done, total: job.progress(done / total),
                )
        case ("image_encoder" | "mask_decoder" | "perceiver" | "perceiver_frame") as name if job.samples:
            files = _write_static(job, name, job.samples)
        case name:
            with job.work.step() as place:
                files = _traced(job, place / f"{name}.onnx", job.scheme)
    return tuple(file.name for file in files)


def described(graph: Graph, variant: Variant, scheme: Scheme) -> Graph:
    """Nothing to add."""
    return graph


def checks(folder: Path, checkpoint: Checkpoint, scheme: Scheme, tolerance: Tolerance) -> tuple[Check, ...]:
    """The weights of a quantized decoder against the float ones."""
    if not isinstance(tolerance, Losses):
        return ()
    language = checkpoint.variant.language
    return (weight_check(folder, checkpoint.lazy, language, scheme=scheme, limit=tolerance.weights),)


def rehearse(bundle: Bundle) -> Verification | None:
    """No other engine reads these files."""
    return None


def _traced(job: Job, path: Path, scheme: Scheme) -> tuple[Path, ...]:
    module, held = job.part.hollow()
    signature = specs(job.variant, job.name, scheme)
    return module2onnx(module, *signature, path, scheme=scheme, placeholders=held)


def _write_static(job: Job, name: Calibrated, samples: Samples) -> tuple[Path, ...]:
    """By way of a float file, on which the engine watches ranges of activations."""
    wide = f"{WIDE}{name}.onnx"
    if job.work.finished(wide) is None:
        with job.work.step() as place:
            made = _traced(job, place / wide, FP32)
        job.work.keep(wide, [], scratch=[file.name for file in made])
    with job.work.step() as place:
        return static_graph(
            job.work.folder / wide,
            name,
            place,
            scheme=job.scheme,
            samples=samples,
            work=job.work.shelf,
            image_size=job.variant.vision.image_size,
            progress=job.progress,
        )
