"""One graph at a time: fill its module with weights, record PyTorch's outputs, release the weights.

Knows modules and recordings; neither the order of graphs nor an engine's file format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tokenizers import Tokenizer
from torch import nn
from typing_extensions import assert_never

from pam_edge.bundle.golden import RecordedAnswer, npz_bytes
from pam_edge.export.checkpoint.checkpoint import Checkpoint, load_language, load_perceiver, load_vision
from pam_edge.export.checkpoint.placeholders import Placeholders
from pam_edge.export.graphs.image_graphs import GraphName, ImageEncoderGraph, MaskDecoderGraph, PerceiverGraph
from pam_edge.export.graphs.video_graphs import MemoryAttentionGraph, MemoryEncoderGraph, PerceiverFrameGraph
from pam_edge.export.reference import golden
from pam_edge.export.reference.golden import Arrays
from pam_edge.export.reference.layered import embedded, last_logits
from pam_edge.text.tokenization import PAM_PROMPTS, Texts

Progress = Callable[[float], None]  # how much of the graph is done, 0 to 1
Recorded = Callable[[GraphName], Arrays]  # an earlier graph's recording
_ANSWER = "told"


@dataclass(frozen=True)
class Part:
    """One graph of a checkpoint. Its module is filled when it is needed, and let go of after that."""

    name: GraphName
    checkpoint: Checkpoint

    def record(self, recorded: Recorded, *, limit: float, progress: Progress) -> Arrays:
        """What PyTorch gives. `limit`: the error of logits below which two tokens count as a tie."""
        if self.name == "decoder":
            return _record_decoder(self.checkpoint, recorded("perceiver"), limit=limit, progress=progress)
        return self.run_cases(self.module(), recorded)

    def run_cases(self, graph: Callable[..., Any], recorded: Recorded) -> Arrays:
        """What `graph`, called as the stateless module is, gives for every recorded case."""
        variant = self.checkpoint.variant
        match self.name:
            case "image_encoder":
                return golden.record_image_encoder(graph, variant)
            case "mask_decoder":
                return golden.record_mask_decoder(graph, variant, recorded("image_encoder"))
            case "perceiver" | "perceiver_frame":
                return golden.record_perceiver(graph, variant, recorded("mask_decoder"), self.name)
            case "memory_encoder":
                seen = recorded("image_encoder") | recorded("mask_decoder")
                return golden.record_memory_encoder(graph, variant, seen)
            case "memory_attention":
                seen = recorded("image_encoder") | recorded("mask_decoder") | recorded("memory_encoder")
                return golden.record_memory_attention(graph, variant, seen)
            case "decoder":
                raise ValueError("the decoder keeps a cache: it has no cases of one call")
            case other:
                assert_never(other)

    def hollow(self) -> tuple[nn.Module, Placeholders]:
        """The module without its large weights, and what reads them one by one while files are written:
        torch's exporter keeps what it was given, whoever else lets go of it.
        """
        held = Placeholders(self.checkpoint)
        return replace(self, checkpoint=held.checkpoint).module(), held

    def module(self) -> nn.Module:
        """The stateless graph's module, filled. Raises ValueError for the decoder."""
        match self.name:
            case "image_encoder":
                return ImageEncoderGraph(load_vision(self.checkpoint))
            case "mask_decoder":
                return MaskDecoderGraph(load_vision(self.checkpoint, image_encoder=False))
            case "memory_encoder":
                return MemoryEncoderGraph(load_vision(self.checkpoint, image_encoder=False))
            case "memory_attention":
                return MemoryAttentionGraph(load_vision(self.checkpoint, image_encoder=False))
            case "perceiver":
                return PerceiverGraph(load_perceiver(self.checkpoint))
            case "perceiver_frame":
                return PerceiverFrameGraph(load_perceiver(self.checkpoint))
            case "decoder":
                raise ValueError("the decoder's weights are never all in memory")
            case other:
                assert_never(other)


def recording(name: GraphName) -> str:
    """The file of a graph's recording."""
    return f"recorded-{name}.npz"


def save_recording(path: Path, found: Arrays) -> None:
    """Keep what `Part.record` gave, whole."""
    path.write_bytes(npz_bytes(found, compress=False))


def load_recording(path: Path) -> Arrays:
    """What `Part.record` gave: whole tensors, by their names in golden.npz."""
    with np.load(path, allow_pickle=False) as held:
        return {key: held[key] for key in held.files}


def split_answer(recorded: Arrays) -> tuple[Arrays, RecordedAnswer | None]:
    """Recordings without the whole answer, and that answer."""
    rest = {key: value for key, value in recorded.items() if key != _ANSWER}
    return rest, msgspec.json.decode(recorded[_ANSWER].tobytes(), type=RecordedAnswer | None)


def _record_decoder(checkpoint: Checkpoint, regions: Arrays, *, limit: float, progress: Progress) -> Arrays:
    """With the whole model where it is small enough for a greedy answer, else layer by layer."""
    texts, answer = Texts(checkpoint.tokenizer_json, PAM_PROMPTS), None
    variant = checkpoint.variant
    if golden.answers_greedily(variant.language):
        language = load_language(checkpoint)
        found = golden.record_decoder(language, texts, regions)
        answer = golden.record_answer(
            language, texts, regions, variant=variant, stop_ids=checkpoint.stop_ids, limit=limit
        )
    else:
        words = Tokenizer.from_str(checkpoint.tokenizer_json.decode())
        said = words.encode(golden.SAID, add_special_tokens=False).ids
        embed, logits = partial(embedded, checkpoint), partial(last_logits, checkpoint, progress=progress)
        found = golden.record_forced(embed, logits, texts, said, regions)
    return {**found, _ANSWER: np.frombuffer(msgspec.json.encode(answer), np.uint8)}
