"""SAM 2's mask decoder with PAM's additional outputs: all four masks, their tokens and the upscaled map.

The vision tower decides which mask counts and what a missing object means.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pam_edge.bundle.config import VisionConfig
from pam_edge.export.model.layers import MLP, LayerNorm2d
from pam_edge.export.model.two_way import TwoWayTransformer

MASKS = 4  # one single mask, three alternatives
DEPTH = 2


class Decoded(NamedTuple):
    """What the decoder gives for each of B prompts."""

    masks: Tensor  # [B, 4, 4E, 4E] logits
    iou: Tensor  # [B, 4] predicted
    object_score: Tensor  # [B, 1] logit
    tokens: Tensor  # [B, 4, C] mask tokens
    region: Tensor  # [B, C, E, E] the image side of the two-way transformer


class _Transformer(TwoWayTransformer):
    """The two-way transformer under SAM 2's name."""

    def forward(
        self, image: Tensor, image_pe: Tensor, tokens: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return self.attend(image, image_pe, tokens, mask)


class MaskDecoder(nn.Module):
    """SAM 2.1's mask decoder."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        c = config.d_model
        self.transformer = _Transformer(c, depth=DEPTH, heads=config.decoder_heads, mlp=config.decoder_mlp)
        self.iou_token = nn.Embedding(1, c)
        self.mask_tokens = nn.Embedding(MASKS, c)
        self.obj_score_token = nn.Embedding(1, c)
        self.output_upscaling = nn.ModuleList(
            [
                nn.ConvTranspose2d(c, c // 4, 2, stride=2),
                LayerNorm2d(c // 4),
                nn.GELU(),
                nn.ConvTranspose2d(c // 4, c // 8, 2, stride=2),
                nn.GELU(),
            ]
        )
        self.conv_s0 = nn.Conv2d(c, c // 8, 1)
        self.conv_s1 = nn.Conv2d(c, c // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP((c, c, c, c // 8)) for _ in range(MASKS))
        hidden = config.iou_head_hidden
        self.iou_prediction_head = MLP((c, hidden, hidden, MASKS), sigmoid=True)
        self.pred_obj_score_head = MLP((c, c, c, 1))

    def forward(
        self,
        image: Tensor,
        image_pe: Tensor,
        *,
        points: Tensor,
        points_mask: Tensor,
        dense: Tensor,
        high_res: tuple[Tensor, Tensor],
    ) -> Decoded:
        """Image [B, C, E, E], points [B, P, C], mask [B, P], dense prompt [B, C, E, E] or [1, C, 1, 1]."""
        b = points.shape[0]
        own = torch.cat([self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own[None].expand(b, -1, -1), points], dim=1)
        mask = F.pad(points_mask, (own.shape[0], 0))[:, None, None, :]
        hs, region = self.transformer(image + dense, image_pe, tokens, mask)
        mask_tokens = hs[:, 2 : 2 + MASKS]
        fine, middle = high_res
        up1, norm, act1, up2, act2 = self.output_upscaling
        x = act1(norm(up1(region) + middle))
        x = act2(up2(x) + fine)
        weights = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        masks = (weights @ x.flatten(2)).reshape(b, MASKS, x.shape[2], x.shape[3])
        return Decoded(
            masks, self.iou_prediction_head(hs[:, 1]), self.pred_obj_score_head(hs[:, 0]), mask_tokens, region
        )
