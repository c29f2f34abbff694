"""Memory and disk that quantizing a float bundle will need, estimated before anything is written.

The disk figure is computed exactly. The memory figure is the weights that a step holds, computed, plus a
measured overhead. Knows bundles, no torch: `quantize` runs without it.
"""

from __future__ import annotations

import math
from pathlib import Path

import onnx_ir as ir

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Graph
from pam_edge.export.backends.onnxruntime.decoder import planned
from pam_edge.export.decoder.tensors import AT_ONCE
from pam_edge.export.driver.forecast import (
    CALIBRATING_A_PIXEL,
    FEATURES_A_PIXEL,
    FLOAT,
    SEEN_A_PIXEL,
    SMALL_FILES,
    Forecast,
    stored_as,
)
from pam_edge.quantize.schemes import STORED, Scheme

DECODER = "decoder"
TOOLS = 300_000_000  # Python, numpy and the engine, loaded


def quantize_forecast(source: Bundle, scheme: Scheme) -> Forecast:
    """What making a bundle of `scheme` of a float one takes. Raises IntegrityError for a damaged graph."""
    manifest = source.manifest
    language, pictures = manifest.variant.language, manifest.variant.vision.image_size**2
    float32 = {graph.name: _values(source, graph) for graph in manifest.graphs if graph.name != DECODER}
    stored = {
        graph: sum(
            math.ceil(STORED[stored_as(scheme, graph, name, shape)] * math.prod(shape))
            for name, shape in held
        )
        for graph, held in float32.items()
    }
    weights = planned(language, scheme)
    stored[DECODER] = sum(weight.end - weight.offset for weight in weights)
    whole = {graph: FLOAT * sum(math.prod(shape) for _, shape in held) for graph, held in float32.items()}
    whole[DECODER] = FLOAT * sum(math.prod(weight.shape) for weight in weights)
    largest = FLOAT * max(math.prod(weight.shape) for weight in weights)
    features = FEATURES_A_PIXEL * pictures
    widened = whole["image_encoder"] if scheme.calibrated and manifest.scheme != "fp32" else 0
    return Forecast(
        disk=sum(stored.values())
        + widened
        + (SEEN_A_PIXEL * pictures if scheme.calibrated else 0)
        + SMALL_FILES,
        memory={
            # What the float bundle gives is the reference: its engine holds the whole float decoder.
            "reference": TOOLS
            + max(features + max(whole[name] for name in float32), whole[DECODER] + largest),
            "image graphs": TOOLS
            + max(whole[name] for name in float32)
            + (CALIBRATING_A_PIXEL * pictures if scheme.calibrated else 0),
            "decoder": TOOLS + FLOAT * AT_ONCE * 3,
            "verification": TOOLS + features + max(stored.values()),
        },
    )


def _values(source: Bundle, graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a graph's weights, none of them read."""
    model = ir.load(Path(source.path(graph.files[0])))
    return [
        (name, tuple(value.shape.numpy()))
        for name, value in model.graph.initializers.items()
        if value.shape is not None
    ]
