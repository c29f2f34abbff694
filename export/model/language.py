"""The language model: Qwen2 (arXiv 2412.15115), with real-valued rotary positions and an explicit cache.

Takes embeddings, so it knows neither text nor images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pam_edge.bundle.config import LanguageConfig
from pam_edge.export.model.layers import merge_heads

Cache = tuple[tuple[Tensor, Tensor], ...]  # per layer: keys and values [B, kv_heads, positions, head_dim]


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same."""
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def rotation(config: LanguageConfig, start: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of `count` positions from `start`, each [count, head_dim]; its halves are equal."""
    index = torch.arange(0, config.head_dim, 2, device=device).float()
    frequency = 1.0 / config.rope_theta ** (index / config.head_dim)
    angle = torch.arange(start, start + count, device=device).float()[:, None] * frequency
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn halves against each other: [B, heads, T, d] with cos and sin [T, d]."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class SelfAttention(nn.Module):
    """Causal grouped-query attention."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.d = config.heads, config.kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.d)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.d)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.d)
        self.o_proj = nn.Linear(self.heads * self.d, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x [B, T, hidden] -> the same, and keys and values of every position so far."""
        b, t, _ = x.shape
        q = rotate(self.q_proj(x).reshape(b, t, self.heads, self.d).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).reshape(b, t, self.kv_heads, self.d).transpose(1, 2), cos, sin)
        v = self.v_proj(x).reshape(b, t, self.kv_heads, self.d).transpose(1, 2)
        before = 0
        if past is not None:
            before = past[0].shape[2]
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        each = self.heads // self.kv_heads
        keys, values = k.repeat_interleave(each, dim=1), v.repeat_interleave(each, dim=1)
        if before == 0:
            out = F.scaled_dot_product_attention(q, keys, values, is_causal=True)
        else:
            seen = (
                torch.arange(before + t, device=x.device)
                <= torch.arange(before, before + t, device=x.device)[:, None]
            )
            out = F.scaled_dot_product_attention(q, keys, values, attn_mask=seen)
        return self.o_proj(merge_heads(out)), (k, v)


class GatedMLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.mlp, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.mlp, bias=False)
        self.down_proj = nn.Linear(config.mlp, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> the same."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class DecoderLayer(nn.Module):
    """One Qwen2 layer; it holds nothing of its neighbours and can be run alone."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config)
        self.mlp = GatedMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x [B, T, hidden] -> the same, and this layer's cache."""
        attended, past = self.self_attn(self.input_layernorm(x), cos, sin, past)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), past


class Language(nn.Module):
    """Qwen2 on embeddings."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        if not config.tied:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, embeds: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Embeddings [B, T, hidden] after those in `cache` -> last position's logits [B, V], new cache."""
        x, cache = self.hidden(embeds, cache)
        return self.logits(x[:, -1]), cache

    def hidden(self, embeds: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Like `forward`, but the normed hidden states of all T positions, [B, T, hidden]."""
        past = 0 if cache is None else cache[0][0].shape[2]
        cos, sin = rotation(self.config, past, embeds.shape[1], embeds.device)
        x, grown = embeds, []
        for i, layer in enumerate(self.layers):
            x, kv = layer(x, cos, sin, None if cache is None else cache[i])
            grown.append(kv)
        return self.norm(x), tuple(grown)

    def logits(self, hidden: Tensor) -> Tensor:
        """Normed hidden states [..., hidden] -> [..., vocabulary]."""
        return F.linear(hidden, self.embed_tokens.weight if self.config.tied else self.lm_head.weight)
