"""The language model with one layer in memory at a time: PyTorch's logits of a model of any size.

A sequence of known tokens passes through one layer after the other, each loaded for its turn and then
released; embedding and head are read a few rows at a time. An answer cannot be generated this way, because
each token would read all weights. Knows neither prompts nor recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pam_edge.export.checkpoint.checkpoint import Checkpoint, load_module
from pam_edge.export.checkpoint.keys import EMBED_TOKENS, LM_HEAD
from pam_edge.export.model.language import DecoderLayer, RMSNorm, rotation

HEAD_ROWS = 8192  # of the head at once: 64 MB for pam-3b


def embedded(checkpoint: Checkpoint, ids: Sequence[int]) -> Tensor:
    """Embeddings [1, n, H] of tokens, read row by row."""
    rows = {row: checkpoint.rows(EMBED_TOKENS, row, row + 1) for row in set(ids)}
    return torch.cat([rows[row] for row in ids])[None]


@torch.no_grad()
def last_logits(
    checkpoint: Checkpoint,
    embeds: Tensor,
    count: int,
    *,
    progress: Callable[[float], None] = lambda part: None,
) -> Tensor:
    """Logits [count, V] of the last `count` positions of embeddings [1, T, H], each knowing those before.

    Raises IntegrityError where the checkpoint does not fit its variant.
    """
    config = checkpoint.variant.language
    cos, sin = rotation(config, 0, embeds.shape[1], embeds.device)
    x = embeds
    for i in range(config.layers):
        progress(i / (config.layers + 1))
        x = _layer(checkpoint, i)(x, cos, sin)[0]
    with torch.device("meta"):
        norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
    load_module(norm, checkpoint, "language.norm.")
    x = norm(x)[0, -count:]
    progress(config.layers / (config.layers + 1))
    head = EMBED_TOKENS if config.tied else LM_HEAD
    starts = range(0, config.vocab_size, HEAD_ROWS)
    parts = [F.linear(x, checkpoint.rows(head, at, min(at + HEAD_ROWS, config.vocab_size))) for at in starts]
    return torch.cat(parts, dim=1)


def _layer(checkpoint: Checkpoint, i: int) -> DecoderLayer:
    with torch.device("meta"):
        layer = DecoderLayer(checkpoint.variant.language)
    load_module(layer, checkpoint, f"language.layers.{i}.")
    return layer.eval()
