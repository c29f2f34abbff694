"""How TensorRT wants a bundle: ONNX of standard operators whose types are what the engine computes in.

Engines are tied to a GPU, so they are made on the device (`pam-edge build`). Until then the very same files
run in ONNX Runtime, and an export that has no such GPU rehearses them there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import onnx_ir as ir
import torch
from torch import Tensor

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import Variant
from pam_edge.bundle.golden import Losses
from pam_edge.bundle.manifest import Check, Graph, Verification
from pam_edge.export.backends.base import Appetite, Border, Job
from pam_edge.export.backends.onnxruntime.graphs import module2onnx
from pam_edge.export.backends.onnxruntime.weight_check import ROWS
from pam_edge.export.backends.tensorrt.decoder import cached_decoder_specs, language2cached, planned_matrices
from pam_edge.export.backends.tensorrt.nodes import computes_in_half
from pam_edge.export.backends.tensorrt.profiles import profiles
from pam_edge.export.backends.tensorrt.weights import read_outputs
from pam_edge.export.checkpoint.checkpoint import Checkpoint
from pam_edge.export.decoder.onnx_graph import WEIGHTS
from pam_edge.export.graphs.image_graphs import GraphName, StatelessName, graph_specs
from pam_edge.quantize.calibration import CALIBRATED, calibrate
from pam_edge.quantize.half import compute_in_16_bits, overflowing, watched, wave_angles
from pam_edge.quantize.observe import Observer
from pam_edge.quantize.save import place_beside, save, weight_bytes
from pam_edge.quantize.schemes import FP32, Scheme
from pam_edge.quantize.static import TENSORRT, Range, find_layers, in_8_bits
from pam_edge.targets import Tolerance
from pam_edge.verify.error_metrics import noise
from pam_edge.verify.quantization_gate import check
from pam_edge.verify.verify import verify

TOOLS: tuple[str, ...] = ("pam-edge", "torch", "onnx", "onnxscript", "onnxruntime", "numpy", "tokenizers")
# The float file beside the one that is written; a tied head lies in the decoder's own file.
APPETITE = Appetite(vision=2.0, vocabularies=2, float_files=True, cache="float16")
CALIBRATES = True
LONGEST: int | None = None
WIDE = "float-"  # before the names of files that a smaller graph is made of


def specs(variant: Variant, name: GraphName, scheme: Scheme) -> Border:
    """As for ONNX Runtime; the decoder's cache is read from plain buffers."""
    if name == "decoder":
        return cached_decoder_specs(variant.language, half=computes_in_half(scheme))
    return graph_specs(variant, name)


def write(job: Job) -> tuple[str, ...]:
    """See `Writer.write`."""
    if job.name == "decoder":
        with job.work.step() as place:
            files = language2cached(
                job.variant.language,
                job.part.checkpoint.lazy,
                place,
                scheme=job.scheme,
                progress=lambda done, total: job.tell(done / total),
            )
    elif not computes_in_half(job.scheme):
        with job.work.step() as place:
            files = _float_file(job, job.name, place / f"{job.name}.onnx")
    else:
        files = _write_small(job, job.name)
    return tuple(file.name for file in files)


def described(graph: Graph, variant: Variant, scheme: Scheme) -> Graph:
    """With the shapes that an engine is built for."""
    return msgspec.structs.replace(graph, profiles=profiles(graph.name, variant))


def checks(folder: Path, checkpoint: Checkpoint, scheme: Scheme, tolerance: Tolerance) -> tuple[Check, ...]:
    """The weights of a quantized decoder against the float ones: the worst of some outputs of each matrix."""
    if not isinstance(tolerance, Losses):
        return ()
    worst, where = 0.0, "none"
    for matrix in planned_matrices(checkpoint.variant.language, scheme):
        values = checkpoint.lazy(matrix.key)
        count = values.shape[0]
        for low in sorted({0, max(0, count // 2 - ROWS // 2), max(0, count - ROWS)}):
            outputs = slice(low, min(count, low + ROWS))
            found = read_outputs(folder, WEIGHTS, matrix, outputs)
            lost = max(noise(a, b) for a, b in zip(found, values[outputs], strict=True))
            worst, where = max((worst, where), (lost, matrix.key))
    return (check("decoder", f"weights: noise of the worst row, {where}", worst, tolerance.weights),)


def rehearse(bundle: Bundle) -> Verification | None:
    """The same files in ONNX Runtime, against the same golden numbers."""
    return verify(Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, runtime="onnxruntime")))


def _float_file(job: Job, name: StatelessName, path: Path) -> tuple[Path, ...]:
    border = graph_specs(job.variant, name)
    module, held = job.part.hollow()
    return module2onnx(module, *border, path, scheme=FP32, standard=True, placeholders=held)


def _write_small(job: Job, name: StatelessName) -> tuple[Path, ...]:
    """By way of a float file, which is run to see where float16 would end and what 8 bits must span."""
    wide = f"{WIDE}{name}.onnx"
    if job.work.finished(wide) is None:
        with job.work.step() as place:
            made = _float_file(job, name, place / wide)
        job.work.keep(wide, [], scratch=[file.name for file in made])
    source = job.work.folder / wide
    model = ir.load(source)
    islands = wave_angles(model) | overflowing(model, seen_ranges(job, source))
    calibrated = next((known for known in CALIBRATED if known == name), None)
    if job.samples is not None and calibrated is not None:
        layers = find_layers(source, partial(job.scheme.storage, name))
        sources = list(dict.fromkeys(layer.source for layer in layers))
        ranges = calibrate(
            calibrated,
            source,
            sources,
            job.samples,
            job.work.shelf,
            image_size=job.variant.vision.image_size,
            how=TENSORRT,
            tell=lambda part: job.tell(0.9 * part),
        )
        in_8_bits(model, layers, ranges, how=TENSORRT)
    compute_in_16_bits(model, islands)
    with job.work.step() as place:
        return _save(model, place / f"{name}.onnx")


def seen_ranges(job: Job, source: Path) -> dict[str, Range]:
    """Least and greatest value of every float tensor of a graph's float file, over all recorded cases."""
    tensors = watched(ir.load(source))
    observer = Observer(source, tensors)
    names = [spec.name for spec in graph_specs(job.variant, _stateless(job.name))[0]]
    found: dict[str, Range] = {}

    def graph(*values: Tensor) -> Any:
        outputs, seen = observer.run({n: v.numpy() for n, v in zip(names, values, strict=True)})
        for tensor in tensors:
            low, high = found.get(tensor, (0.0, 0.0))
            found[tensor] = (min(low, seen[tensor].low), max(high, seen[tensor].high))
        return tuple(torch.from_numpy(value) for value in outputs.values())

    job.part.run_cases(graph, job.recorded)
    return found


def _stateless(name: GraphName) -> StatelessName:
    if name == "decoder":
        raise ValueError("the decoder has no float file")
    return name


def _save(model: ir.Model, path: Path) -> tuple[Path, ...]:
    beside = place_beside(path, weight_bytes(model))
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
    ir.external_data.load_to_model(model)
    return save(model, path, beside=beside)
