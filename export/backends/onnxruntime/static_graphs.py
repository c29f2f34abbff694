"""Graphs with 8-bit layers, made of float graphs and ranges of activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx_ir as ir

from pam_edge.bundle.bundle import Bundle
from pam_edge.quantize.calibration import Calibrated, Samples, calibrate
from pam_edge.quantize.fp16 import store_in_16_bits, store_in_32_bits
from pam_edge.quantize.save import save
from pam_edge.quantize.schemes import Scheme
from pam_edge.quantize.static import find_layers, quantize_static


def static_graph(
    graph: Path,
    name: Calibrated,
    place: Path,
    *,
    scheme: Scheme,
    samples: Samples,
    work: Path,
    image_size: int,
    tell: Callable[[float], None],
) -> tuple[Path, ...]:
    """Write the float `graph` into `place` with the layers that `scheme` wants in w8a8; return its files.

    `work` is the bundle's folder of calibration; see `calibrate`.
    """
    layers = find_layers(graph, partial(scheme.storage, name))
    sources = list(dict.fromkeys(layer.source for layer in layers))
    ranges = calibrate(
        name, graph, sources, samples, work, image_size=image_size, tell=lambda part: tell(0.9 * part)
    )
    storage = partial(scheme.storage, name)
    return quantize_static(graph, place / f"{name}.onnx", layers, ranges, storage=storage)


def float_graph(source: Bundle, name: str, calibration: Path) -> Path:
    """A graph's file with its weights in 32 bits, as layers are looked for; in `calibration` if made."""
    path = source.path(source.graph(name).files[0])
    if source.manifest.scheme == "fp32":
        return path
    calibration.mkdir(parents=True, exist_ok=True)
    wide = calibration / path.name
    model = ir.load(path)
    store_in_32_bits(model)
    large = len(source.graph(name).files) > 1
    save(model, wide, beside=wide.with_suffix(".bin") if large else None)
    return wide


def stored_graph(source: Bundle, name: str, place: Path, scheme: Scheme) -> tuple[Path, ...]:
    """A float graph as it is, but for weights that the scheme stores in 16 bits."""
    files = tuple(place / ref.path for ref in source.graph(name).files)
    model = ir.load(source.path(source.graph(name).files[0]))
    store_in_16_bits(model, partial(scheme.storage, name))
    return save(model, files[0], beside=files[1] if len(files) > 1 else None)
