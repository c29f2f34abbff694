"""The image encoder in float32 as a bundle that holds nothing else: no language model need be written for it.

    python -m pam_edge.benchmarks.competitors.float_encoder VARIANT OUT

Its language side is nano's, in name alone: one table of zeros, no decoder. Only `open_session` can use it.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from pam_edge.bundle.bundle import file_ref
from pam_edge.bundle.config import NANO
from pam_edge.bundle.manifest import Embedding, Graph, Manifest, write_manifest
from pam_edge.export.backends.onnxruntime.graphs import module2onnx
from pam_edge.export.checkpoint.checkpoint import load_vision, open_checkpoint
from pam_edge.export.graphs.image_graphs import ImageEncoderGraph, graph_specs
from pam_edge.text.tokenization import PAM_PROMPTS

_GRAPH: Final = "image_encoder"


def make(variant: str, folder: Path) -> None:
    """Write the bundle, with the weights that an export of `random:VARIANT` has."""
    checkpoint = open_checkpoint(f"random:{variant}")
    shape = (NANO.language.vocab_size, NANO.language.hidden_size)
    folder.mkdir(parents=True, exist_ok=True)
    inputs, outputs = graph_specs(checkpoint.variant, _GRAPH)
    graph = ImageEncoderGraph(load_vision(checkpoint))
    files = module2onnx(graph, inputs, outputs, folder / f"{_GRAPH}.onnx")
    table, nothing = folder / "embedding.bin", folder / "nothing"
    table.write_bytes(bytes(4 * shape[0] * shape[1]))
    nothing.write_bytes(b"")
    write_manifest(
        folder,
        Manifest(
            schema=1,
            variant=msgspec.structs.replace(checkpoint.variant, language=NANO.language),
            weights=checkpoint.weights,
            target="cpu",
            runtime="onnxruntime",
            scheme="fp32",
            graphs=(Graph(name=_GRAPH, files=tuple(map(file_ref, files)), inputs=inputs, outputs=outputs),),
            embedding=Embedding(file=file_ref(table), dtype="float32", shape=shape),
            tokenizer=file_ref(nothing),
            prompts=PAM_PROMPTS,
            stop_ids=(0,),
            tools={tool: version(tool) for tool in ("pam-edge", "torch", "onnxscript")},
            golden=file_ref(nothing),
            verification=None,
        ),
    )


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
