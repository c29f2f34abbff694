"""Small layers that several parts of PAM share."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Additive attention mask of a slot without influence: exp underflows to exactly 0, and float16 can hold it.
MASKED = -3e4


class MLP(nn.Module):
    """Linear layers with an activation between them (SAM 2 `MLP`)."""

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        activation: Callable[[Tensor], Tensor] = F.relu,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = activation
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        """[..., widths[0]] -> [..., widths[-1]]."""
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            x = layer(x) if i == last else self.activation(layer(x))
        return torch.sigmoid(x) if self.sigmoid else x


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of a [B, C, H, W] map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return y.permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than its outer one (SAM 2 `Attention`)."""

    def __init__(
        self, width: int, heads: int, *, inner: int | None = None, kv_width: int | None = None
    ) -> None:
        super().__init__()
        inner, kv_width = inner or width, kv_width or width
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(kv_width, inner)
        self.v_proj = nn.Linear(kv_width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """q [B, T, width], k and v [B, L, kv_width], additive `mask` [B, 1, 1, L] -> [B, T, width]."""
        q, k, v = self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v))
        out: Tensor = self.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        return out

    def split(self, x: Tensor) -> Tensor:
        """[B, T, inner] -> [B, heads, T, inner / heads]."""
        b, t, inner = x.shape
        return x.reshape(b, t, self.heads, inner // self.heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, heads, T, d] -> [B, T, heads * d]."""
    b, heads, t, d = x.shape
    return x.transpose(1, 2).reshape(b, t, heads * d)


class FourierPosition(nn.Module):
    """Random-Fourier position encoding (SAM 2 `PositionEmbeddingRandom`): stored, not learned."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, width // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """Coordinates in [0, 1], [..., 2] as (x, y) -> [..., width]."""
        angle = 2 * math.pi * ((2 * xy - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)

    def dense(self, size: int) -> Tensor:
        """The encoding of every cell centre of a size x size grid, [1, width, size, size]."""
        matrix = self.positional_encoding_gaussian_matrix
        centre = (torch.arange(size, dtype=matrix.dtype, device=matrix.device) + 0.5) / size
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        code: Tensor = self(torch.stack([x, y], dim=-1))
        return code.permute(2, 0, 1)[None]


def sine_position(width: int, size: int, device: torch.device) -> Tensor:
    """SAM 2's normalized sine encoding of a grid, [1, width, size, size]; first half y, second half x."""
    half = width // 2
    place = torch.arange(1, size + 1, dtype=torch.float32, device=device)
    place = place / (place[-1] + 1e-6) * (2 * math.pi)
    index = torch.arange(half, device=device)
    angle = place[:, None] / 10000 ** (2 * (index // 2).float() / half)
    code = torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)
    y = code[:, None, :].expand(size, size, half)
    x = code[None, :, :].expand(size, size, half)
    return torch.cat([y, x], dim=-1).permute(2, 0, 1)[None]


def sine_1d(position: Tensor, width: int) -> Tensor:
    """SAM 2's sine encoding of scalars, [T] -> [T, width]; first half sines, second half cosines."""
    half = width // 2
    index = torch.arange(half, device=position.device)
    angle = position[:, None] / 10000 ** (2 * (index // 2).float() / half)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
