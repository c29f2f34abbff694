"""The image encoder: Hiera trunk and feature-pyramid neck of SAM 2.1 (arXiv 2306.00989, 2408.00714).

Takes square images of one size. The vision tower uses its feature maps.
"""

from __future__ import annotations

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pam_edge.bundle.config import VisionConfig
from pam_edge.export.model.layers import MLP, merge_heads

TOP_DOWN_LEVELS = (2, 3)  # of the four maps, those that take part in the neck's top-down path


class Hiera(nn.Module):
    """The trunk: windowed attention in four stages, each at half the resolution and twice the width."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.size = config.image_size // 4
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, config.embed_dim, 7, stride=4, padding=3)})
        background = config.window_pos_embed_bkg_spatial_size
        window = config.window_spec[0]
        self.pos_embed = nn.Parameter(torch.randn(1, config.embed_dim, *background) * 0.02)
        self.pos_embed_window = nn.Parameter(torch.randn(1, config.embed_dim, window, window) * 0.02)
        self.ends = tuple(n - 1 for n in accumulate(config.stages))
        blocks, width, heads, stage = [], config.embed_dim, config.num_heads, 0
        for i in range(sum(config.stages)):
            # A stage's first block pools its queries and still has the window of the stage before.
            first = i - 1 in self.ends
            window = 0 if i in config.global_att_blocks else config.window_spec[stage]
            if first:
                stage += 1
                heads *= 2
            out = width * 2 if first else width
            blocks.append(Block(width, out, heads=heads, window=window, pool=first))
            width = out
        self.blocks = nn.ModuleList(blocks)

    def position(self) -> Tensor:
        """Position embedding of the whole grid, [1, S/4, S/4, embed_dim]: constant for given weights."""
        coarse = F.interpolate(self.pos_embed, size=(self.size, self.size), mode="bicubic")
        times = self.size // self.pos_embed_window.shape[-1]
        return (coarse + self.pos_embed_window.tile(1, 1, times, times)).permute(0, 2, 3, 1)

    def forward(self, image: Tensor, position: Tensor | None = None) -> list[Tensor]:
        """Image [B, 3, S, S] -> four maps, [B, width_i, S / 2^(i+2), S / 2^(i+2)].

        `position` is what `position()` returned, where the caller keeps it.
        """
        x = self.patch_embed["proj"](image).permute(0, 2, 3, 1)
        x = x + (self.position() if position is None else position)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.ends:
                maps.append(x.permute(0, 3, 1, 2))
        return maps


class Block(nn.Module):
    """One Hiera block on a [B, H, W, width] map; `window` 0 is global, `pool` halves the resolution."""

    def __init__(self, width: int, out: int, *, heads: int, window: int, pool: bool) -> None:
        super().__init__()
        self.window, self.pool = window, pool
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = WindowAttention(width, out, heads=heads, pool=pool)
        self.norm2 = nn.LayerNorm(out, eps=1e-6)
        self.mlp = MLP((out, out * 4, out), activation=F.gelu)
        if width != out:
            self.proj = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, width] -> [B, H', W', out]."""
        normed = self.norm1(x)
        if self.pool:
            x = max_pool(self.proj(normed))
        if self.window:
            size = normed.shape[1]
            windows = split_windows(normed, self.window)
            window = self.window // 2 if self.pool else self.window
            attended = join_windows(self.attn(windows), window, padded=-(-size // self.window) * window)
            attended = attended[:, : x.shape[1], : x.shape[2]]
        else:
            attended = self.attn(normed)
        x = x + attended
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class WindowAttention(nn.Module):
    """Attention within each [H, W] map of the batch, queries optionally max-pooled 2x2."""

    def __init__(self, width: int, out: int, *, heads: int, pool: bool) -> None:
        super().__init__()
        self.heads, self.out, self.pool = heads, out, pool
        self.qkv = nn.Linear(width, out * 3)
        self.proj = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, width] -> [B, H', W', out]."""
        b, h, w, _ = x.shape
        d = self.out // self.heads
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.pool:
            q = max_pool(q)
        rows, columns = q.shape[1], q.shape[2]
        q = q.reshape(b, rows * columns, self.heads, d).transpose(1, 2)
        k = k.reshape(b, h * w, self.heads, d).transpose(1, 2)
        v = v.reshape(b, h * w, self.heads, d).transpose(1, 2)
        attended = merge_heads(F.scaled_dot_product_attention(q, k, v))
        out: Tensor = self.proj(attended.reshape(b, rows, columns, self.out))
        return out


def max_pool(x: Tensor) -> Tensor:
    """2x2 maximum of a channels-last map, [B, H, W, C] -> [B, H/2, W/2, C]."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), kernel_size=2, stride=2).permute(0, 2, 3, 1)


def split_windows(x: Tensor, window: int) -> Tensor:
    """[B, H, W, C] -> [B * windows, window, window, C], zero-padded at the far edges. Never above rank 5."""
    b, h, w, c = x.shape
    down, right = -h % window, -w % window
    if down or right:
        x = F.pad(x, (0, 0, 0, right, 0, down))
    rows, columns = (h + down) // window, (w + right) // window
    x = x.reshape(b * rows, window, columns, window, c).transpose(1, 2)
    return x.reshape(b * rows * columns, window, window, c)


def join_windows(x: Tensor, window: int, *, padded: int) -> Tensor:
    """Inverse of `split_windows` for a square map of side `padded`: -> [B, padded, padded, C]."""
    count, c = padded // window, x.shape[-1]
    batch = x.shape[0] // (count * count)
    x = x.reshape(batch * count, count, window, window, c).transpose(1, 2)
    return x.reshape(batch, padded, padded, c)


class Neck(nn.Module):
    """Feature pyramid: every map to `d_model` channels, the coarsest added to the one above it."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        widths = [config.embed_dim * 2**i for i in reversed(range(4))]
        self.convs = nn.ModuleList(nn.ModuleDict({"conv": nn.Conv2d(w, config.d_model, 1)}) for w in widths)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The trunk's four maps -> three of d_model channels at S/4, S/8 and S/16."""
        out: list[Tensor] = []
        above: Tensor | None = None
        for level in reversed(range(4)):
            conv = self.convs[3 - level]
            assert isinstance(conv, nn.ModuleDict)
            x = conv["conv"](maps[level])
            if above is not None and level in TOP_DOWN_LEVELS:
                x = x + F.interpolate(above, scale_factor=2.0, mode="nearest")
            above = x
            out.append(x)
        return out[3], out[2], out[1]


class ImageEncoder(nn.Module):
    """Trunk and neck under SAM 2's names."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.trunk = Hiera(config)
        self.neck = Neck(config)

    def forward(self, image: Tensor, position: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Image [B, 3, S, S] -> maps of d_model channels at S/4, S/8 and S/16."""
        maps: tuple[Tensor, Tensor, Tensor] = self.neck(self.trunk(image, position))
        return maps
