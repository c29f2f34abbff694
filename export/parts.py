"""One graph at a time: fill its module, write its files, record what PyTorch gives, let go of the weights.

Knows modules, the exporter and the recordings; not the order of graphs, nor what a bundle is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from torch import nn
from typing_extensions import assert_never

from pam_edge.bundle import TensorSpec
from pam_edge.config import Variant
from pam_edge.export import golden
from pam_edge.export.checkpoint import Checkpoint, load_language, load_perceiver, load_vision
from pam_edge.export.golden import Arrays
from pam_edge.export.graphs import (
    GraphName,
    ImageEncoderGraph,
    MaskDecoderGraph,
    PerceiverGraph,
    StatelessName,
    graph_specs,
)
from pam_edge.export.onnx import module2onnx
from pam_edge.export.onnx_decoder import decoder_specs, language2onnx
from pam_edge.export.video_graphs import MemoryAttentionGraph, MemoryEncoderGraph, PerceiverFrameGraph
from pam_edge.golden import Told, npz_bytes
from pam_edge.prompts import PAM_PROMPTS, Texts
from pam_edge.quantize.schemes import Scheme

Tell = Callable[[float], None]  # how much of the graph is done, 0 to 1
Recorded = Callable[[GraphName], Arrays]  # an earlier graph's recording
_TOLD = "told"


def make_graph(
    name: GraphName,
    checkpoint: Checkpoint,
    place: Path,
    *,
    scheme: Scheme,
    recorded: Recorded,
    limit: float,
    tell: Tell,
) -> tuple[str, ...]:
    """Write a graph's files and its recording into `place`; return the files' names, the engine's first.

    `limit` is the error of logits below which two tokens count as a tie in the recorded answer.
    """
    variant = checkpoint.variant
    match name:
        case "image_encoder":
            encoder = ImageEncoderGraph(load_vision(checkpoint))
            files = _write(encoder, name, variant, place, scheme, tell)
            found = golden.record_image_encoder(encoder, variant)
        case "mask_decoder":
            masks = MaskDecoderGraph(load_vision(checkpoint))
            files = _write(masks, name, variant, place, scheme, tell)
            found = golden.record_mask_decoder(masks, variant, recorded("image_encoder"))
        case "perceiver":
            perceiver = PerceiverGraph(load_perceiver(checkpoint))
            files = _write(perceiver, name, variant, place, scheme, tell)
            found = golden.record_perceiver(perceiver, variant, recorded("mask_decoder"))
        case "memory_encoder":
            memory = MemoryEncoderGraph(load_vision(checkpoint))
            files = _write(memory, name, variant, place, scheme, tell)
            seen = recorded("image_encoder") | recorded("mask_decoder")
            found = golden.record_memory_encoder(memory, variant, seen)
        case "memory_attention":
            attention = MemoryAttentionGraph(load_vision(checkpoint))
            files = _write(attention, name, variant, place, scheme, tell)
            seen = recorded("image_encoder") | recorded("mask_decoder") | recorded("memory_encoder")
            found = golden.record_memory_attention(attention, variant, seen)
        case "perceiver_frame":
            later = PerceiverFrameGraph(load_perceiver(checkpoint))
            files = _write(later, name, variant, place, scheme, tell)
            found = golden.record_perceiver(later, variant, recorded("mask_decoder"), name)
        case "decoder":
            files = _write_decoder(checkpoint, place, scheme, lambda part: tell(0.7 * part))
            found = _record_decoder(checkpoint, recorded("perceiver"), limit)
        case other:
            assert_never(other)
    (place / recording(name)).write_bytes(npz_bytes(found, compress=False))
    return files


def recording(name: GraphName) -> str:
    """The file of a graph's recording."""
    return f"recorded-{name}.npz"


def load_recording(path: Path) -> Arrays:
    """What `make_graph` recorded: whole tensors, by their names in golden.npz."""
    with np.load(path, allow_pickle=False) as held:
        return {key: held[key] for key in held.files}


def split_told(recorded: Arrays) -> tuple[Arrays, Told | None]:
    """Recordings without the whole answer, and that answer."""
    rest = {key: value for key, value in recorded.items() if key != _TOLD}
    return rest, msgspec.json.decode(recorded[_TOLD].tobytes(), type=Told | None)


def specs(variant: Variant, name: GraphName) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of the files that `make_graph` writes."""
    return decoder_specs(variant.language) if name == "decoder" else graph_specs(variant, name)


def _write(
    graph: nn.Module, name: StatelessName, variant: Variant, place: Path, scheme: Scheme, tell: Tell
) -> tuple[str, ...]:
    tell(0.2)
    files = module2onnx(graph, *graph_specs(variant, name), place / f"{name}.onnx", scheme=scheme)
    tell(0.8)
    return tuple(file.name for file in files)


def _write_decoder(checkpoint: Checkpoint, place: Path, scheme: Scheme, tell: Tell) -> tuple[str, ...]:
    files = language2onnx(
        checkpoint.variant.language,
        lambda key: checkpoint.tensor(key).numpy(),
        place,
        scheme=scheme,
        progress=lambda done, total: tell(done / total),
    )
    return tuple(file.name for file in files)


def _record_decoder(checkpoint: Checkpoint, regions: Arrays, limit: float) -> Arrays:
    language, texts = load_language(checkpoint), Texts(checkpoint.tokenizer_json, PAM_PROMPTS)
    found = golden.record_decoder(language, texts, regions)
    told = golden.record_answer(
        language, texts, regions, variant=checkpoint.variant, stop_ids=checkpoint.stop_ids, limit=limit
    )
    return {**found, _TOLD: np.frombuffer(msgspec.json.encode(told), np.uint8)}
