"""A rebuilt system's files, made in a process of its own. SYSTEM is what `systems.as_word` gives.

    python -m pam_edge.benchmarks.paper_claims.make SYSTEM OUT SCHEME

They are a bundle with another system's shapes: the decoder as PAM's is written, vision through the same
exporter and the same 8 bits. Weights are random and seeded; every one has bytes of its own, so files and
memory are as big as real ones. Ranges of activations are not calibrated but set: nothing reads what these
models say.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zlib
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pam_edge.benchmarks.paper_claims.systems import System, of_word
from pam_edge.benchmarks.paper_claims.towers import SEED, Cut, cuts
from pam_edge.bundle.bundle import file_ref
from pam_edge.bundle.config import LanguageConfig, Variant
from pam_edge.bundle.manifest import Embedding, FileRef, Graph, Manifest, Weights, write_manifest
from pam_edge.export.backends.onnxruntime.decoder import (
    decoder_specs,
    embedding_record,
    language2onnx,
    planned,
)
from pam_edge.export.backends.onnxruntime.graphs import module2onnx
from pam_edge.export.checkpoint.random_weights import random_rows
from pam_edge.quantize.blockwise import BITS, Blocks, block_shapes, block_size
from pam_edge.quantize.schemes import Scheme, scheme_named
from pam_edge.quantize.static import find_layers, quantize_static
from pam_edge.text.tokenization import PAM_PROMPTS

RANGE = (-8.0, 8.0)  # of every layer's input: normed values, or sums of a few of them


def make(system: System, folder: Path, scheme: Scheme) -> None:
    """Write the system into `folder`; bundle.json comes last. Raises like the exporters."""
    folder.mkdir(parents=True, exist_ok=True)
    graphs = [vision_graph(cut, folder, scheme) for cut in cuts(system)]
    language = system.language
    tensors, blocks = RandomTensors(language, scheme), RandomBlocks(language, scheme)
    files = language2onnx(language, tensors, folder, scheme=scheme, better=blocks)
    references = tuple(map(file_ref, files))
    inputs, outputs = decoder_specs(language)
    graphs.append(Graph(name="decoder", files=references, inputs=inputs, outputs=outputs))
    nothing = folder / "nothing"
    nothing.write_bytes(b"")
    write_manifest(folder, manifest(system, scheme, graphs, references[-1], file_ref(nothing)))


def manifest(
    system: System, scheme: Scheme, graphs: list[Graph], table: FileRef, nothing: FileRef
) -> Manifest:
    """What bundle.json says: PAM's vision stands in it by name alone, no graph of it is there."""
    embedding: Embedding = embedding_record(system.language, scheme, table)
    return Manifest(
        schema=1,
        variant=Variant(name=system.key, language=system.language),
        weights=Weights(kind="random", source=f"random:{system.key}"),
        target="cpu",
        runtime="onnxruntime",
        scheme=scheme.name,
        graphs=tuple(graphs),
        embedding=embedding,
        tokenizer=nothing,
        prompts=PAM_PROMPTS,
        stop_ids=(0,),  # nobody asks for them
        tools={tool: version(tool) for tool in ("pam-edge", "torch", "onnxscript")},
        golden=nothing,
        verification=None,
    )


def vision_graph(cut: Cut, folder: Path, scheme: Scheme) -> Graph:
    """Export one graph in float32 beside, then write it as PAM's image encoder is stored at this scheme."""
    name, module, inputs, outputs = cut
    storage = partial(scheme.storage, name)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        written = module2onnx(module.requires_grad_(False), inputs, outputs, Path(scratch) / f"{name}.onnx")
        layers = find_layers(written[0], storage)
        ranges = {layer.source: RANGE for layer in layers}
        files = quantize_static(written[0], folder / f"{name}.onnx", layers, ranges, storage=storage)
    return Graph(name=name, files=tuple(map(file_ref, files)), inputs=inputs, outputs=outputs)


class RandomTensors:
    """Weights that are no blocks, by canonical key."""

    def __init__(self, language: LanguageConfig, scheme: Scheme) -> None:
        self._shapes = {
            key: (rows, *weight.shape[1:])
            for weight in planned(language, scheme)
            for key, rows in zip(weight.keys, weight.rows, strict=True)
        }

    def __call__(self, key: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        shape = self._shapes[key]
        values: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = random_rows(
            key, shape, SEED, 0, shape[0]
        ).numpy()
        return values


class RandomBlocks:
    """Blocks of drawn codes with one scale, which takes a hundredth of the time of rounding drawn numbers."""

    def __init__(self, language: LanguageConfig, scheme: Scheme) -> None:
        self._known = {
            key: (rows, weight.shape[1], BITS[weight.storage])
            for weight in planned(language, scheme)
            if weight.storage in BITS
            for key, rows in zip(weight.keys, weight.rows, strict=True)
        }

    def __call__(self, key: str) -> Blocks | None:
        if key not in self._known:
            return None
        rows, width, bits = self._known[key]
        codes, scales = block_shapes(rows, width, bits=bits)
        random = np.random.Generator(np.random.SFC64([SEED, zlib.crc32(key.encode())]))
        drawn = np.frombuffer(random.bytes(int(np.prod(codes))), np.uint8).reshape(codes)
        spread = (1 << bits) / 12**0.5  # of codes that are all as likely
        scale = np.full(scales, 1 / (spread * width**0.5), np.float32)
        return Blocks(drawn, scale, bits, block_size(width))


def main(argv: list[str]) -> None:
    """Make one system's folder, whole or not at all."""
    out = Path(argv[1])
    draft = out.with_name(out.name + ".making")
    shutil.rmtree(draft, ignore_errors=True)  # of an interrupted run
    make(of_word(argv[0]), draft, scheme_named(argv[2]))
    draft.rename(out)


if __name__ == "__main__":
    main(sys.argv[1:])
