"""The loss of each part of a bundle under a scheme, measured before anything is written.

A vision graph runs with one block at a time in 8 bits on the golden file's cases; its loss is the noise at
the outputs. The decoder's layers are judged by the error of their weights: to run it with one layer quantized
at a time would take as many decoders as there are layers. Knows plans and parts; `quantize/` measures noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from pam_edge.bundle.golden import Golden
from pam_edge.export.backends.onnxruntime.decoder import planned
from pam_edge.export.backends.onnxruntime.float_weights import DecoderWeights
from pam_edge.export.backends.onnxruntime.static_graphs import float_graph
from pam_edge.export.driver.quantized import QuantizePlan
from pam_edge.quantize.blockwise import BITS, dequantize, quantize
from pam_edge.quantize.calibration import CALIBRATED, calibrate
from pam_edge.quantize.sensitivity import keep_float, sensitivity
from pam_edge.quantize.static import find_layers
from pam_edge.verify.error_metrics import noise
from pam_edge.verify.golden_runner import replay

ROWS = 64  # of a matrix, looked at
Report = Callable[[str, float], None]


class Sensitive(msgspec.Struct, frozen=True):
    """A part of a graph, and what quantizing it alone does, as noise (0.1: a tenth of what is there)."""

    graph: str
    part: str
    storage: str
    weights: int
    of: Literal["outputs", "weights"]  # whose noise it is
    noise: float
    sensitive: bool  # suffers so much alone that it had better stay float


def sensitivity_report(
    settled: QuantizePlan, work: Path, *, report: Report = lambda name, part: None
) -> tuple[Sensitive, ...]:
    """Every part, in order of computation. `work` is a folder for calibration, the caller's to remove."""
    return (*_vision(settled, work, report), *_decoder(settled, report))


def _vision(settled: QuantizePlan, work: Path, report: Report) -> Iterator[Sensitive]:
    source, samples = settled.source, settled.samples
    if samples is None:
        return
    golden = Golden(source.path(source.manifest.golden))
    runs = list(replay(source, golden, threads=0, progress=lambda name: None))
    size = source.manifest.variant.vision.image_size
    held = {graph.name for graph in source.manifest.graphs}
    for name in (name for name in CALIBRATED if name in held):
        graph = float_graph(source, name, work)
        layers = find_layers(graph, partial(settled.scheme.storage, name))
        tensors = list(dict.fromkeys(layer.source for layer in layers))
        ranges = calibrate(
            name, graph, tensors, samples, work, image_size=size, progress=partial(_half, report, name, 0.0)
        )
        feeds = [ran.fed for ran in runs if ran.graph == name]
        rows = sensitivity(graph, layers, ranges, feeds, progress=partial(_half, report, name, 0.5))
        for row in rows:
            kept = len(keep_float(layers, [row])) < len(layers)
            yield Sensitive(name, row.part, "w8a8", row.weights, "outputs", round(row.worst, 5), kept)
        report(name, 1.0)


def _half(report: Report, name: str, start: float, part: float) -> None:
    report(name, start + 0.49 * part)


def _decoder(settled: QuantizePlan, report: Report) -> Iterator[Sensitive]:
    """A row a layer: its matrix that suffers most."""
    source = settled.source
    tensor, found = DecoderWeights(source), dict[str, list[tuple[str, int, float]]]()
    weights = planned(source.manifest.variant.language, settled.scheme)
    for done, weight in enumerate(weights):
        report("decoder", done / len(weights))
        if weight.storage not in BITS:
            continue
        for key in weight.keys:
            values = tensor(key)
            count, size = values.shape[0], math.prod(values.shape)
            sample = values[np.linspace(0, count - 1, min(ROWS, count)).astype(int)]
            blocks = quantize(sample, bits=BITS[weight.storage], name=key)
            lost = noise(dequantize(blocks, sample.shape[1]), sample)
            found.setdefault(_layer_of(key), []).append((weight.storage, size, lost))
    for part, rows in found.items():
        storage, size = "+".join(sorted({row[0] for row in rows})), sum(row[1] for row in rows)
        worst = round(max(row[2] for row in rows), 5)
        yield Sensitive("decoder", part, storage, size, "weights", worst, False)
    report("decoder", 1.0)


def _layer_of(key: str) -> str:
    """`layers.3` of `language.layers.3.mlp.up_proj.weight`; what is in no layer goes by its own name."""
    words = key.split(".")
    return ".".join(words[1:3]) if words[1] == "layers" else words[1]


def to_rows(found: Sequence[Sensitive]) -> list[tuple[str, ...]]:
    """The table's cells, its head first."""
    rows: list[tuple[str, ...]] = [("graph", "part", "storage", "weights", "noise", "of", "")]
    for row in found:
        kept = "sensitive" if row.sensitive else ""
        size = f"{row.weights:,}"
        rows.append((row.graph, row.part, row.storage, size, f"{row.noise:.4f}", f"its {row.of}", kept))
    return rows
