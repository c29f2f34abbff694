"""The language model for ExecuTorch: embeddings and cache in, logits and new cache entries out.

The cache is an input that the engine reads in place, and each call returns only the entries of its own
positions, so the file holds no state. The alternative, mutable buffers in the file, gives one cache per
loaded program, but PAM keeps several at once (a prefix per region and its branches), and every further
program would pack the weights again; with the default memory plan each method even has a separate cache.
Prompts and steps are one method here, so weights are packed once and a branch is a copy of arrays. Knows
Qwen2's modules and torch's exporter, no file format.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from pam_edge.bundle.config import LanguageConfig
from pam_edge.bundle.manifest import TensorSpec
from pam_edge.export.decoder.tensors import rope_table
from pam_edge.export.model.language import DecoderLayer, RMSNorm, SelfAttention
from pam_edge.export.model.layers import MASKED

# At most, a call. The engine plans memory for the most of all axes and zeroes it when a file is loaded:
# 583 MB where 8 rows of 12,288 positions were planned at PAM-1.5B's width. Four rows are a region's tasks,
# more go in several calls; a prompt in parts of 32 is long enough for arithmetic to outweigh reading weights.
ROWS = 4
TOKENS = 32
HEAD = "lm_head"


class CachedDecoder(nn.Module):
    """Qwen2 on embeddings after a cache that is passed in."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.register_buffer("cos", torch.from_numpy(rope_table(config, np.cos)), persistent=False)
        self.register_buffer("sin", torch.from_numpy(rope_table(config, np.sin)), persistent=False)

    def forward(
        self, embeds: Tensor, positions: Tensor, past_valid: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """-> logits of each row's last position, then key and value of every layer; see `cached_specs`."""
        groups = self.config.heads // self.config.kv_heads
        rotation = self.cos[positions][:, None], self.sin[positions][:, None]
        later = (positions[:, None, :] > positions[:, :, None]).to(embeds.dtype) * MASKED
        empty = ((1 - past_valid) * MASKED)[:, None].expand(-1, embeds.shape[1], -1)
        mask = torch.cat([empty, later], dim=-1)[:, None].repeat(1, 1, groups, 1)
        x, new = embeds, []
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            attended, key, value = _attend(
                layer.self_attn, layer.input_layernorm(x), rotation, (past[2 * i], past[2 * i + 1]), mask
            )
            x = x + attended
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            new += [key, value]
        logits: Tensor = self.lm_head(self.norm(x[:, -1]))
        return (logits, *new)


def _attend(
    layer: SelfAttention,
    x: Tensor,
    rotation: tuple[Tensor, Tensor],
    past: tuple[Tensor, Tensor],
    mask: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """x [R, T, H] -> the same, new keys [R, kv, d, T] and values [R, kv, T, d].

    Heads that share keys lie under each other, so that no key is repeated; keys lie turned, so that none of
    the cache is turned at every step. Plain products and a softmax: XNNPACK takes all of them.
    """
    r, t, _ = x.shape
    heads, kv, d = layer.heads, layer.kv_heads, layer.d

    def split(y: Tensor, count: int) -> Tensor:
        return y.reshape(r, t, count, d).transpose(1, 2).contiguous()

    q = _turned(split(layer.q_proj(x), heads), rotation) * d**-0.5
    key = _turned(split(layer.k_proj(x), kv), rotation).transpose(2, 3).contiguous()
    value = split(layer.v_proj(x), kv)
    keys, values = torch.cat([past[0], key], dim=3), torch.cat([past[1], value], dim=2)
    scores = q.reshape(r, kv, heads // kv * t, d) @ keys + mask
    out = (scores.softmax(-1) @ values).reshape(r, heads, t, d)
    attended: Tensor = layer.o_proj(out.transpose(1, 2).reshape(r, t, heads * d))
    return attended, key, value


def _turned(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions, halves against each other: x [R, heads, T, d], cos and sin [R, 1, T, d / 2]."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = rotation
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def cached_specs(lm: LanguageConfig) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs, as in bundle.json.

    `positions` counts from 0 in each row; `past_valid` is 1 where the cache holds something, 0 elsewhere,
    where it must hold finite numbers. The caller puts `key.i` and `value.i` into its cache.
    """

    def cache(prefix: str, axis: str) -> Iterator[TensorSpec]:
        for i in range(lm.layers):
            yield _spec(f"{prefix}key.{i}", "rows", lm.kv_heads, lm.head_dim, axis)
            yield _spec(f"{prefix}value.{i}", "rows", lm.kv_heads, axis, lm.head_dim)

    inputs = (
        _spec("embeds", "rows", "tokens", lm.hidden_size),
        TensorSpec(name="positions", dtype="int64", axes=("rows", "tokens")),
        _spec("past_valid", "rows", "capacity"),
        *cache("past_", "capacity"),
    )
    return inputs, (_spec("logits", "rows", lm.vocab_size), *cache("", "tokens"))


def _spec(name: str, *axes: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", axes=axes)
