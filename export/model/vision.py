"""The vision tower: SAM 2.1's video predictor as PAM uses it, for one image and for a frame of a clip.

PAM's differences from SAM 2.1 are here: the mask is always mask token 0, and two mask tokens are outputs for
the Semantic Perceiver (arXiv 2506.05302, section 3). Knows neither pixels nor the order of frames.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pam_edge.bundle.config import VisionConfig
from pam_edge.export.model.hiera import ImageEncoder
from pam_edge.export.model.layers import MLP
from pam_edge.export.model.mask_decoder import Decoded, MaskDecoder
from pam_edge.export.model.memory import MemoryAttention, MemoryEncoder, remember
from pam_edge.export.model.prompt_encoder import PromptEncoder

NO_OBJECT_LOGIT = -1024.0  # what every mask logit becomes where the object is not there


class Encoded(NamedTuple):
    """One look at B images."""

    image_embed: Tensor  # [B, C, E, E], without `no_mem_embed`
    high_res_0: Tensor  # [B, C/8, 4E, 4E]
    high_res_1: Tensor  # [B, C/4, 2E, 2E]


class Segmented(NamedTuple):
    """What each of B prompts selects."""

    masks: Tensor  # [B, 1, 4E, 4E] logits, -1024 where the object is not there
    iou: Tensor  # [B, 1] predicted
    object_score: Tensor  # [B, 1] logit
    object_pointer: Tensor  # [B, C]
    region_embed: Tensor  # [B, C, E, E] (`mid_image_embed`)
    mask_tokens: Tensor  # [B, 2, C] (`mid_mask_tokens_out`)


class MaskHead(nn.Module):
    """Prompt encoder, mask decoder and object pointer: all that one click needs."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        c = config.d_model
        self.no_mem_embed = nn.Parameter(torch.randn(1, 1, c) * 0.02)
        self.no_obj_ptr = nn.Parameter(torch.randn(1, c) * 0.02)
        self.sam_prompt_encoder = PromptEncoder(config)
        self.sam_mask_decoder = MaskDecoder(config)
        self.obj_ptr_proj = MLP((c, c, c, c))

    def image_pe(self) -> Tensor:
        """Dense position encoding of the image embedding, [1, C, E, E]: constant for given weights."""
        return self.sam_prompt_encoder.pe_layer.dense(self.config.embed_size)

    def without_memory(self, image_embed: Tensor) -> Tensor:
        """Condition an embedding [B, C, E, E] on "no memory": an image, or a frame that carries a prompt."""
        return image_embed + self.no_mem_embed.reshape(1, -1, 1, 1)

    def decode_masks(
        self,
        conditioned: Tensor,
        high_res: tuple[Tensor, Tensor],
        point_coords: Tensor,
        point_labels: Tensor,
        *,
        mask_prompt: Tensor | None = None,
        has_mask: Tensor | None = None,
        image_pe: Tensor | None = None,
    ) -> Segmented:
        """Segment what each of B prompts points at.

        conditioned [B or 1, C, E, E]: embedding after `without_memory` or memory attention; one image serves
        all prompts. high_res: [B or 1, C/8, 4E, 4E] and [B or 1, C/4, 2E, 2E]. point_coords [B, N, 2] in
        model pixels, point_labels [B, N] (see PromptEncoder). mask_prompt [B, 1, 4E, 4E] logits with has_mask
        [B]; without has_mask it is used. image_pe: what `image_pe()` gave, where the caller keeps it.
        """
        batch = point_coords.shape[0]
        points, points_mask = self.sam_prompt_encoder.points(point_coords, point_labels)
        if mask_prompt is None:
            dense = self.sam_prompt_encoder.no_mask()
        else:
            flag = torch.ones_like(mask_prompt[:, 0, 0, 0]) if has_mask is None else has_mask
            dense = self.sam_prompt_encoder.dense(mask_prompt, flag)
        decoded: Decoded = self.sam_mask_decoder(
            _for_all(conditioned, batch),
            self.image_pe() if image_pe is None else image_pe,
            points=points,
            points_mask=points_mask,
            dense=dense,
            high_res=(_for_all(high_res[0], batch), _for_all(high_res[1], batch)),
        )
        there = (decoded.object_score > 0).to(decoded.masks.dtype)
        shown = there[..., None, None]
        return Segmented(
            masks=decoded.masks[:, :1] * shown + NO_OBJECT_LOGIT * (1 - shown),
            iou=decoded.iou[:, :1],
            object_score=decoded.object_score,
            object_pointer=there * self.obj_ptr_proj(decoded.tokens[:, 0]) + (1 - there) * self.no_obj_ptr,
            region_embed=decoded.region,
            mask_tokens=self.choose_tokens(decoded),
        )

    def choose_tokens(self, decoded: Decoded) -> Tensor:
        """The two mask tokens PAM reads, [B, 2, C].

        First: token 0 where its mask is stable, else the one of tokens 1 to 3 with the highest predicted IoU.
        Second: token 0.
        """
        delta, logits = self.config.stability_delta, decoded.masks[:, 0].flatten(1)
        inner = (logits > delta).to(logits.dtype).sum(1, keepdim=True)
        outer = (logits > -delta).to(logits.dtype).sum(1, keepdim=True)
        # An empty mask counts as stable: 0 >= thresh * 0.
        stable = (inner >= self.config.stability_thresh * outer).to(logits.dtype)[..., None]
        best = decoded.iou[:, 1:].argmax(1, keepdim=True)
        pick = (torch.arange(3, device=best.device) == best).to(logits.dtype)[:, None]
        single = decoded.tokens[:, :1]
        return torch.cat([stable * single + (1 - stable) * (pick @ decoded.tokens[:, 1:]), single], dim=1)


class VisionTower(MaskHead):
    """SAM 2.1, complete: image encoder, mask head, memory."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__(config)
        c = config.d_model
        self.maskmem_tpos_enc = nn.Parameter(torch.randn(config.num_maskmem, 1, 1, config.mem_dim) * 0.02)
        self.no_mem_pos_enc = nn.Parameter(
            torch.randn(1, 1, c) * 0.02
        )  # in every checkpoint, in no computation
        self.no_obj_embed_spatial = nn.Parameter(torch.randn(1, config.mem_dim) * 0.02)
        self.image_encoder = ImageEncoder(config)
        self.mask_downsample = nn.Conv2d(1, 1, 4, stride=4)
        self.memory_attention = MemoryAttention(config)
        self.memory_encoder = MemoryEncoder(config)
        self.obj_ptr_tpos_proj = nn.Linear(c, config.mem_dim)

    def encode_image(self, image: Tensor) -> Encoded:
        """Normalized images [B, 3, S, S] -> Encoded."""
        fine, middle, embed = self.image_encoder(image)
        return Encoded(embed, self.sam_mask_decoder.conv_s0(fine), self.sam_mask_decoder.conv_s1(middle))

    def encode_memory(
        self, image_embed: Tensor, masks: Tensor, object_score: Tensor, *, prompted: bool
    ) -> Tensor:
        """Remember a frame: embedding, mask logits [B, 1, 4E, 4E], score [B, 1] -> [B, mem_dim, E, E].

        `prompted`: the mask came from clicks or a box and is made binary first.
        """
        return remember(
            self.memory_encoder,
            self.no_obj_embed_spatial,
            self.config,
            frame=(image_embed, masks, object_score),
            prompted=torch.full_like(object_score[:, 0], float(prompted)),
        )


def _for_all(x: Tensor, batch: int) -> Tensor:
    """One image's map for all prompts."""
    return x.expand(batch, -1, -1, -1) if x.shape[0] == 1 and batch != 1 else x
