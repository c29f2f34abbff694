"""SAM 2's prompt encoder: clicks, box corners and mask prompts as embeddings. Knows no image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pam_edge.bundle.config import VisionConfig
from pam_edge.export.model.layers import MASKED, FourierPosition, LayerNorm2d

EMPTY_SLOT = -2.0  # a label: the slot holds nothing and has no influence at all
NOT_A_POINT = -1.0  # a label: SAM's own padding point, which does have an embedding
MASK_CHANNELS = 16


class PromptEncoder(nn.Module):
    """Points [B, N, 2] with labels 1 positive, 0 negative, 2/3 box corners, -1 not a point, -2 empty slot."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        width = config.d_model
        self.pe_layer = FourierPosition(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.no_mask_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, MASK_CHANNELS // 4, 2, stride=2),
            LayerNorm2d(MASK_CHANNELS // 4),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS // 4, MASK_CHANNELS, 2, stride=2),
            LayerNorm2d(MASK_CHANNELS),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS, width, 1),
        )

    def points(self, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Coords [B, N, 2] in model pixels, labels [B, N] -> embeddings [B, N + 1, C], mask [B, N + 1].

        The last slot is SAM's padding point, always there. The mask is `MASKED` for an empty slot, else 0.
        """
        coords = torch.cat([coords, torch.zeros_like(coords[:, :1])], dim=1)
        labels = torch.cat([labels, torch.full_like(labels[:, :1], NOT_A_POINT)], dim=1)[..., None]
        placed = (labels >= 0).to(coords.dtype)
        embedding = self.pe_layer((coords + 0.5) / self.image_size) * placed
        embedding = embedding + self.not_a_point_embed.weight * (labels == NOT_A_POINT).to(coords.dtype)
        for label, table in enumerate(self.point_embeddings):
            assert isinstance(table, nn.Embedding)
            embedding = embedding + table.weight * (labels == label).to(coords.dtype)
        return embedding, (labels[..., 0] == EMPTY_SLOT).to(coords.dtype) * MASKED

    def dense(self, mask: Tensor, has_mask: Tensor) -> Tensor:
        """Mask logits [B, 1, 4E, 4E] and flag [B] (1.0: use it, 0.0: the learned no-mask) -> [B, C, E, E]."""
        flag = has_mask.reshape(-1, 1, 1, 1)
        dense: Tensor = flag * self.mask_downscaling(mask) + (1 - flag) * self.no_mask()
        return dense

    def no_mask(self) -> Tensor:
        """What stands for "no mask prompt", [1, C, 1, 1]."""
        return self.no_mask_embed.weight.reshape(1, -1, 1, 1)
