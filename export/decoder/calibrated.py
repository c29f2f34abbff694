"""4-bit blocks of the language model chosen by data: GPTQ over its layers, one in memory at a time.

Knows Qwen2's modules and the token sequence of a question about a region; the caller supplies pictures,
regions and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pam_edge.bundle.config import LanguageConfig
from pam_edge.export.decoder.onnx_graph import NAME
from pam_edge.export.decoder.tensors import Better, Tensors
from pam_edge.export.model.language import DecoderLayer, rotation
from pam_edge.quantize.blockwise import Bits
from pam_edge.quantize.gptq import calibrated
from pam_edge.quantize.schemes import Scheme
from pam_edge.text.tokenization import Lang, Task, Texts

Floats = npt.NDArray[np.float32]
Embed = Callable[[Sequence[int]], Floats]


def better_blocks(
    language: LanguageConfig,
    tensor: Tensors,
    sequences: Sequence[Floats],
    *,
    scheme: Scheme,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> Better:
    """For `language2onnx(better=...)`: GPTQ's blocks of every matrix of the layers that the scheme has as q4.

    `sequences` are embeddings [T, H] of whole conversations (`conversation`): some ten thousand positions are
    enough. What is finished lies in `folder`, a file a layer; called again with the same weights and
    sequences it goes on from there. Raises like `calibrated`, ValueError where there are no sequences.
    """
    if not sequences:
        raise ValueError("no sequences to calibrate with")

    def layer(i: int) -> _Alone:
        with torch.device("meta"):
            module = _Alone(language)
        held = {}
        for name in module.state_dict():
            values = np.array(tensor(f"{_prefix(i)}{name}")[:], dtype=np.float32)
            held[name] = torch.from_numpy(values)
        module.load_state_dict(held, assign=True)
        return module.eval()

    def bits(key: str, shape: tuple[int, int]) -> Bits | None:
        return 4 if scheme.storage(NAME, key, shape) == "q4" else None

    return calibrated(
        layer, language.layers, sequences, prefix=_prefix, bits=bits, folder=folder, progress=progress
    )


def conversation(
    texts: Texts, embed: Embed, region: Floats, task: Task, *, lang: Lang, answer: Sequence[int]
) -> Floats:
    """Embeddings [T, H] of system text, a region's visual tokens [n, H], question and the answer's tokens."""
    after = (*texts.ids_after(task, lang=lang), *answer)
    return np.concatenate([embed(texts.ids_before), region, embed(after)])


class _Alone(DecoderLayer):
    """A layer that begins at position 0 and wants no cache."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__(config)
        self.config = config

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """[1, T, H] -> the same."""
        cos, sin = rotation(self.config, 0, x.shape[1], x.device)
        return super().forward(x, cos, sin)[0]


def _prefix(i: int) -> str:
    return f"language.layers.{i}."
