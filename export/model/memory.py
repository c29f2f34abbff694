"""SAM 2.1's memory: the encoder of a frame's mask, and the attention of the next frame to memories.

`tracker.py` decides which frames are remembered, and for how long.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pam_edge.bundle.config import VisionConfig
from pam_edge.export.model.layers import Attention, LayerNorm2d, merge_heads

SPARE = 8  # channels that carry a mask: as many as keep a row aligned


class MaskDownSampler(nn.Module):
    """A full-size mask to the image embedding's size: four strided convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(4):
            layers += [
                nn.Conv2d(channels, channels * 4, 3, stride=2, padding=1),
                LayerNorm2d(channels * 4),
                nn.GELU(),
            ]
            channels *= 4
        layers.append(nn.Conv2d(channels, width, 1))
        self.encoder = nn.Sequential(*layers)

    def forward(self, mask: Tensor) -> Tensor:
        """[B, 1, S, S] -> [B, C, E, E]."""
        out: Tensor = self.encoder(mask)
        return out


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, then a channel MLP, scaled and added (ConvNeXt)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = LayerNorm2d(width)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        out: Tensor = x + y.permute(0, 3, 1, 2)
        return out


class Fuser(nn.Module):
    """ConvNeXt blocks in a row."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConvNextBlock(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    """Image embedding and mask to a memory of `mem_dim` channels."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownSampler(config.d_model)
        self.pix_feat_proj = nn.Conv2d(config.d_model, config.d_model, 1)
        self.fuser = Fuser(config.d_model, config.memory_fuser_layers)
        self.out_proj = nn.Conv2d(config.d_model, config.mem_dim, 1)

    def forward(self, image_embed: Tensor, mask: Tensor) -> Tensor:
        """Image embedding [B, C, E, E] and scaled mask [B, 1, S, S] -> memory [B, mem_dim, E, E]."""
        memory: Tensor = self.out_proj(
            self.fuser(self.pix_feat_proj(image_embed) + self.mask_downsampler(mask))
        )
        return memory


def remember(
    encoder: MemoryEncoder,
    no_object: Tensor,
    config: VisionConfig,
    *,
    frame: tuple[Tensor, Tensor, Tensor],
    prompted: Tensor,
) -> Tensor:
    """A frame's memory [B, mem_dim, E, E] from its embedding, mask logits [B, 1, 4E, 4E] and score [B, 1].

    `prompted` [B]: 1 where the mask came from clicks or a box, and is made binary first. `no_object`
    [1, mem_dim] is added where the object is not there.
    """
    image_embed, masks, object_score = frame
    size = (config.image_size, config.image_size)
    masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    binary = prompted.reshape(-1, 1, 1, 1)
    soft = binary * (masks > 0).to(masks.dtype) + (1 - binary) * torch.sigmoid(masks)
    memory: Tensor = encoder(
        image_embed, soft * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
    )
    missing = (object_score <= 0).to(masks.dtype)[..., None, None]
    return memory + missing * no_object[..., None, None]


def axial_rotation(width: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of SAM 2's axial rotary encoding of a size x size grid, each [size^2, width / 2].

    The first half of the pairs turns with x, the second with y.
    """
    frequency = 10000.0 ** -(torch.arange(0, width, 4, device=device)[: width // 4].float() / width)
    place = torch.arange(size * size, device=device)
    x = (place % size).float()[:, None] * frequency
    y = torch.div(place, size, rounding_mode="floor").float()[:, None] * frequency
    angle = torch.cat([x, y], dim=-1)
    return angle.cos(), angle.sin()


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring pairs of the last axis: [..., T, d] with cos and sin [T, d / 2]. At most rank 5."""
    pairs = x.reshape(-1, x.shape[-2], cos.shape[-1], 2)
    a, b = pairs[..., 0], pairs[..., 1]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).reshape(x.shape)


class RotaryAttention(Attention):
    """Attention with axial rotary positions. Keys may hold several grids, then tokens without a place."""

    def rotary(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        rotation: tuple[Tensor, Tensor],
        unplaced: int,
        mask: Tensor | None,
    ) -> Tensor:
        """q [B, L, C]; k, v [B, n * L + unplaced, width]; the last `unplaced` keys are not turned. `mask`
        [B, 1, 1, keys]: 0, or `MASKED` for a key without influence.
        """
        cos, sin = rotation
        q, k, v = self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v))
        placed = k.shape[2] - unplaced
        grids = k[:, :, :placed].reshape(*k.shape[:2], -1, *cos.shape[:1], k.shape[3])
        turned = rotate_pairs(grids, cos, sin).flatten(2, 3)
        k = torch.cat([turned, k[:, :, placed:]], dim=2) if unplaced else turned
        q, scale = rotate_pairs(q, cos, sin), q.shape[-1] ** -0.5
        if mask is not None:
            # As further channels that every query reads: attention without a mask is one operator, which
            # never holds the scores, half a GB at PAM's size.
            q = torch.cat([q, torch.ones_like(q[..., :SPARE])], dim=-1)
            silent = mask.transpose(2, 3).expand(-1, k.shape[1], -1, SPARE)
            k = torch.cat([k, silent], dim=-1)
        out: Tensor = self.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, scale=scale)))
        return out


class MemoryAttentionLayer(nn.Module):
    """Self-attention, attention to memory, MLP; normed before, added after."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        c = config.d_model
        self.self_attn = RotaryAttention(c, 1)
        self.cross_attn_image = RotaryAttention(c, 1, kv_width=config.mem_dim)
        self.linear1 = nn.Linear(c, config.memory_mlp)
        self.linear2 = nn.Linear(config.memory_mlp, c)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(c), nn.LayerNorm(c), nn.LayerNorm(c)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        memory_pe: Tensor,
        *,
        rotation: tuple[Tensor, Tensor],
        pointers: int,
        mask: Tensor | None,
    ) -> Tensor:
        """x [B, E*E, C], memory [B, M, mem_dim] whose last `pointers` entries are object pointers."""
        y = self.norm1(x)
        x = x + self.self_attn.rotary(y, y, y, rotation=rotation, unplaced=0, mask=None)
        y = self.norm2(x)
        x = x + self.cross_attn_image.rotary(
            y, memory + memory_pe, memory, rotation=rotation, unplaced=pointers, mask=mask
        )
        out: Tensor = x + self.linear2(F.relu(self.linear1(self.norm3(x))))
        return out


class MemoryAttention(nn.Module):
    """Conditions a frame's image embedding on memory."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MemoryAttentionLayer(config) for _ in range(config.memory_layers))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(
        self,
        image_embed: Tensor,
        image_pe: Tensor,
        memory: Tensor,
        memory_pe: Tensor,
        *,
        pointers: int,
        mask: Tensor | None = None,
        rotation: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Image embedding [B, C, E, E] and sine encoding [1, C, E, E]; memory and encoding [B, M, mem_dim].

        The last `pointers` of the M entries are object pointers; `mask` [B, 1, 1, M] silences some.
        rotation: `axial_rotation(C, E)`, where the caller keeps it. -> conditioned embedding [B, C, E, E].
        """
        b, c, e, _ = image_embed.shape
        rotation = rotation or axial_rotation(c, e, image_embed.device)
        x = (image_embed + 0.1 * image_pe).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x, memory, memory_pe, rotation=rotation, pointers=pointers, mask=mask)
        out: Tensor = self.norm(x)
        return out.transpose(1, 2).reshape(b, c, e, e)
