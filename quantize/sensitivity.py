"""Sensitivity to 8 bits: the error at a graph's outputs with one part of it quantized at a time.

A part is a block by default, so that Hiera-L's 195 layers are 49 rows and as many runs per picture; the
caller may name finer or coarser parts. Knows graphs and ranges, not what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from pam_edge.quantize.observe import Array, opened
from pam_edge.quantize.static import ONNXRUNTIME, Layer, Range, Static, in_8_bits

# A part that alone moves some output by more than this (root mean square, of the output's own) stays float.
# nano's whole graphs lose at most 2 %, on two runs each; no part of them alone more than 1 %.
SENSITIVE = 0.05
EVERYTHING = "everything"
_BLOCK = re.compile(r"^.*?\.(?:blocks|layers)\.\d+(?=\.)")


@dataclass(frozen=True)
class Sensitivity:
    """What quantizing one part does. `noise`: for each output, rms of its error over its own rms."""

    part: str
    layers: int
    weights: int
    noise: Mapping[str, float]

    @property
    def worst(self) -> float:
        """The noise of the output that suffers most."""
        return max(self.noise.values())


def block_of(name: str) -> str:
    """A layer's block, `image_encoder.trunk.blocks.3`; outside blocks the module it is a layer of."""
    found = _BLOCK.match(name)
    return found[0] if found else name.rpartition(".")[0].removesuffix(".layers") or name


def sensitivity(
    graph: Path,
    layers: Sequence[Layer],
    ranges: Mapping[str, Range],
    feeds: Sequence[Mapping[str, Array]],
    *,
    part_of: Callable[[str], str] = block_of,
    how: Static = ONNXRUNTIME,
    threads: int = 0,
    progress: Callable[[float], None] = lambda part: None,
) -> tuple[Sensitivity, ...]:
    """Run the float `graph` on `feeds`, then with each part of `layers` quantized alone, then with all.

    In order of computation, `EVERYTHING` last. Costs a run of each feed for every part, and memory for one
    part's integers beside the float graph. `tell` hears how much is done, 0 to 1.
    """
    parts: dict[str, list[Layer]] = {}
    for layer in layers:
        parts.setdefault(part_of(layer.name), []).append(layer)
    parts[EVERYTHING] = list(layers)
    float_runs = _outputs(graph, [], ranges, feeds, how=how, threads=threads)
    rows: list[Sensitivity] = []
    for part, chosen in parts.items():
        progress((1 + len(rows)) / (1 + len(parts)))
        runs = _outputs(graph, chosen, ranges, feeds, how=how, threads=threads)
        weights = sum(layer.elements for layer in chosen)
        rows.append(Sensitivity(part, len(chosen), weights, _noise(float_runs, runs)))
    return tuple(rows)


def keep_float(
    layers: Sequence[Layer],
    rows: Sequence[Sensitivity],
    *,
    part_of: Callable[[str], str] = block_of,
    limit: float = SENSITIVE,
) -> tuple[Layer, ...]:
    """The layers without those of parts that alone do more than `limit` to some output."""
    off = {row.part for row in rows if row.part != EVERYTHING and not row.worst <= limit}
    return tuple(layer for layer in layers if part_of(layer.name) not in off)


def _outputs(
    graph: Path,
    layers: Sequence[Layer],
    ranges: Mapping[str, Range],
    feeds: Sequence[Mapping[str, Array]],
    *,
    how: Static,
    threads: int,
) -> list[dict[str, Array]]:
    session = opened(in_8_bits(ir.load(graph), layers, ranges, how=how), graph.parent, threads=threads)
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(names, dict(given)), strict=True)) for given in feeds]


def _noise(wanted: Sequence[dict[str, Array]], found: Sequence[dict[str, Array]]) -> dict[str, float]:
    noise = {}
    for name in wanted[0]:
        error = sum(float(np.square(a[name] - b[name]).sum()) for a, b in zip(wanted, found, strict=True))
        whole = sum(float(np.square(a[name]).sum()) for a in wanted)
        noise[name] = (error / max(whole, 1e-30)) ** 0.5
    return noise
