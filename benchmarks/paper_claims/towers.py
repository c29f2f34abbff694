"""The rebuilt systems' vision in PyTorch, seeded random weights: a ViT, its focal second look, connectors.

Written so that it exports as PAM's encoder does: linear layers are two-dimensional products, attention is one
operator. Knows shapes (`systems.py`), no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pam_edge.benchmarks.paper_claims.systems import STC_DEPTH, System, Tower
from pam_edge.bundle.manifest import TensorSpec

SEED = 7
Cut = tuple[str, nn.Module, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]  # name, module, inputs, outputs


class Attention(nn.Module):
    """Multi-head attention of x [B, T, width] to `context` [B, L, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            layer(given).reshape(1, given.shape[1], self.heads, -1).transpose(1, 2)
            for layer, given in ((self.q, x), (self.k, context), (self.v, context))
        )
        joined = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.out(joined)
        return out


class Block(nn.Module):
    """Attention and mlp, each normed before and added; `gated`: times a learned number."""

    def __init__(self, width: int, heads: int, mlp: int, *, gated: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.fc1, self.fc2 = nn.Linear(width, mlp), nn.Linear(mlp, width)
        self.gates = nn.Parameter(torch.full((2,), 0.5)) if gated else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x [1, T, width] -> the same, by itself or by `context`, which is not normed."""
        normed = self.norm1(x)
        attended = self.attention(normed, normed if context is None else context)
        x = x + (attended if self.gates is None else self.gates[0] * attended)
        told = self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return torch.add(x, told if self.gates is None else self.gates[1] * told)


class Patches(nn.Module):
    """A picture [1, 3, S, S] as positions [1, side * side (+ 1), width]; what is left over at the edge "
    "drops."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, tower.width, tower.patch, stride=tower.patch)
        extra = 1 if tower.class_token else 0
        self.place = nn.Parameter(0.02 * torch.randn(1, tower.side**2 + extra, tower.width))
        self.first = nn.Parameter(torch.randn(1, 1, tower.width)) if tower.class_token else None

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image).flatten(2).transpose(1, 2)
        if self.first is not None:
            x = torch.cat([self.first, x], dim=1)
        return torch.add(x, self.place)


class Look(nn.Module):
    """image -> features [1, side * side, width], or through `bridge` -> tokens."""

    def __init__(self, tower: Tower, bridge: nn.Module | None = None) -> None:
        super().__init__()
        self.patches = Patches(tower)
        self.blocks = nn.ModuleList(Block(tower.width, tower.heads, tower.mlp) for _ in range(tower.layers))
        self.drop = 1 if tower.class_token else 0
        self.bridge = bridge

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image)
        for block in self.blocks:
            x = block(x)
        seen = x[:, self.drop :]
        tokens: Tensor = seen if self.bridge is None else self.bridge(seen)
        return tokens


class FocalLook(nn.Module):
    """image (a crop) and context (the whole picture's features) -> tokens; weights of both looks are the "
    "same."""

    def __init__(self, first: Look, tower: Tower, bridge: nn.Module) -> None:
        super().__init__()
        self.patches, self.blocks = first.patches, first.blocks
        self.crosses = nn.ModuleList(
            Block(tower.width, tower.heads, tower.mlp, gated=True) for _ in range(tower.layers)
        )
        self.bridge = bridge

    def forward(self, image: Tensor, context: Tensor) -> Tensor:
        x = self.patches(image)
        for block, cross in zip(self.blocks, self.crosses, strict=True):
            x = cross(block(x), context)
        out: Tensor = self.bridge(x)
        return out


class Downsample(nn.Module):
    """Positions of a square [1, side * side, width] joined in fours -> [1, ceil(side / 2) ** 2, hidden]."""

    def __init__(self, tower: Tower, hidden: int) -> None:
        super().__init__()
        self.side, joined = tower.side, 4 * tower.width
        self.norm = nn.LayerNorm(joined)
        self.fc1, self.fc2 = nn.Linear(joined, hidden), nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        odd, half = self.side % 2, -(-self.side // 2)
        square = F.pad(x.reshape(1, self.side, self.side, -1), (0, 0, 0, odd, 0, odd))
        joined = square.reshape(1, half, 2, half, 2, -1).permute(0, 1, 3, 2, 4, 5).reshape(1, half * half, -1)
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(joined))))
        return out


class RegBlock(nn.Module):
    """A RegNet block with norms over channels, which come last: [N, side, side, in] -> [N, side, side, "
    "out]."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, out), nn.Linear(out, out)
        self.around = nn.Conv2d(out, out, 3, padding=1, groups=out)
        self.squeeze, self.excite = nn.Linear(out, width // 4), nn.Linear(width // 4, out)
        self.norms = nn.ModuleList(nn.LayerNorm(out) for _ in range(3))
        self.shortcut = nn.Linear(width, out) if width != out else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norms[0](self.first(x)))
        y = self.around(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = F.silu(self.norms[1](y))
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((1, 2))))))
        y = self.norms[2](self.last(y * gate[:, None, None]))
        return F.silu(y + (x if self.shortcut is None else self.shortcut(x)))


class Connector(nn.Module):
    """Features of a clip [frames, side * side, width] -> tokens [1, frames / 2 * (side // 2) ** 2, hidden].

    The convolution of 2 x 2 x 2 at stride 2 is a product over eight joined positions.
    """

    def __init__(self, tower: Tower, hidden: int) -> None:
        super().__init__()
        self.side = tower.side
        widths = [tower.width, *[hidden] * STC_DEPTH]
        self.before = nn.Sequential(*(RegBlock(a, b) for a, b in pairwise(widths)))
        self.join = nn.Linear(8 * hidden, hidden)
        self.after = nn.Sequential(*(RegBlock(hidden, hidden) for _ in range(STC_DEPTH)))
        self.fc1, self.fc2 = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(self, features: Tensor) -> Tensor:
        frames, half = features.shape[0] // 2, self.side // 2
        x = self.before(features.reshape(2 * frames, self.side, self.side, -1))
        x = x[:, : 2 * half, : 2 * half].reshape(frames, 2, half, 2, half, 2, -1)
        x = x.permute(0, 2, 4, 1, 3, 5, 6).reshape(frames, half, half, -1)
        x = self.after(F.silu(self.join(x))).reshape(1, frames * half * half, -1)
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


def cuts(system: System) -> Iterator[Cut]:
    """The graphs of a system's vision, made one after the other: `tower`, then `focal` or `connector`."""
    torch.manual_seed(SEED)
    tower, hidden = system.tower, system.language.hidden_size
    image = _spec("image", 1, 3, tower.image, tower.image)
    features = (1, tower.side**2, tower.width)
    match system.bridge:
        case "linear":
            whole = Look(tower, nn.Linear(tower.width, hidden))
            yield "tower", whole, (image,), (_spec("tokens", 1, tower.side**2, hidden),)
        case "downsample":
            look = Look(tower)
            yield "tower", look, (image,), (_spec("features", *features),)
            focal = FocalLook(look, tower, Downsample(tower, hidden))
            count = system.visual_tokens("image")
            yield "focal", focal, (image, _spec("context", *features)), (_spec("tokens", 1, count, hidden),)
        case "stc":
            yield "tower", Look(tower), (image,), (_spec("features", *features),)
            clip = _spec("features", system.frames, *features[1:])
            tokens = _spec("tokens", 1, system.visual_tokens("video"), hidden)
            yield "connector", Connector(tower, hidden), (clip,), (tokens,)


def _spec(name: str, *axes: int) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", axes=axes)
