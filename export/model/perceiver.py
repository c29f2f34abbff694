"""The Semantic Perceiver and its projectors: a region's map and mask tokens to the language model's tokens.

arXiv 2506.05302, section 3. Knows no prompt and no language.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pam_edge.bundle.config import Variant
from pam_edge.export.model.layers import FourierPosition
from pam_edge.export.model.two_way import TwoWayTransformer


class Perceiver(TwoWayTransformer):
    """`model.vision_resampler`, `mm_projector_*` and `*_newline` of the original, in one module."""

    def __init__(self, variant: Variant) -> None:
        config, c, hidden = variant.perceiver, variant.vision.d_model, variant.language.hidden_size
        super().__init__(c, depth=config.depth, heads=config.num_heads, mlp=config.mlp)
        self.embed_size = variant.vision.embed_size
        self.pe_layer = FourierPosition(c)
        self.sem_tokens = nn.Embedding(config.semantic_tokens, c)
        self.proj = nn.Linear(16 * c, 4 * c)
        self.mm_projector_img = nn.Sequential(nn.Linear(4 * c, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.mm_projector_semT = nn.Sequential(nn.Linear(c, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.image_newline = nn.Parameter(torch.randn(hidden) * 0.02)
        self.semT_newline = nn.Parameter(torch.randn(hidden) * 0.02)
        self.frame_newline = nn.Parameter(torch.randn(hidden) * 0.02)

    def image_pe(self) -> Tensor:
        """Dense position encoding of the region map, [1, C, E, E]: constant for given weights."""
        return self.pe_layer.dense(self.embed_size)

    def forward(self, region_embed: Tensor, mask_tokens: Tensor, image_pe: Tensor | None = None) -> Tensor:
        """An image's region at scale 1/2: [B, C, E, E], [B, 2, C] -> [B, (E/2)^2 + 18, H].

        Tokens: image, newline, semantic, newline. `image_pe`: what `image_pe()` gave, if kept.
        """
        semantic, image = self.perceive(region_embed, mask_tokens, image_pe)
        return self.lay_out(as_tokens(self.shuffle(image, 2)), semantic, frame=False)

    def first_frame(
        self, region_embed: Tensor, mask_tokens: Tensor, image_pe: Tensor | None = None
    ) -> Tensor:
        """A clip's first frame: like `forward`, closed by the frame newline, [B, (E/2)^2 + 19, H]."""
        semantic, image = self.perceive(region_embed, mask_tokens, image_pe)
        return self.lay_out(as_tokens(self.shuffle(image, 2)), semantic, frame=True)

    def later_frame(
        self, region_embed: Tensor, mask_tokens: Tensor, image_pe: Tensor | None = None
    ) -> Tensor:
        """A clip's further frame at scale 1/4: [B, C, E, E], [B, 2, C] -> [B, (E/4)^2 + 19, H]."""
        semantic, image = self.perceive(region_embed, mask_tokens, image_pe)
        return self.lay_out(self.proj(as_tokens(self.shuffle(image, 4))), semantic, frame=True)

    def perceive(
        self, region_embed: Tensor, mask_tokens: Tensor, image_pe: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The two-way transformer: -> semantic tokens [B, 16, C] and image map [B, C, E, E]."""
        own = self.sem_tokens.weight[None].expand(region_embed.shape[0], -1, -1)
        queries = torch.cat([mask_tokens, own], dim=1)
        pe = self.image_pe() if image_pe is None else image_pe
        tokens, image = self.attend(region_embed, pe, queries)
        return tokens[:, mask_tokens.shape[1] :], image

    def shuffle(self, image: Tensor, factor: int) -> Tensor:
        """Space to depth in the original's own order; see `pixel_shuffle`."""
        return pixel_shuffle(image, factor)

    def lay_out(self, image: Tensor, semantic: Tensor, *, frame: bool) -> Tensor:
        """Project both kinds of tokens to the language model's width and set the newlines."""
        batch = image.shape[0]
        parts = [
            self.mm_projector_img(image),
            self.image_newline.expand(batch, 1, -1),
            self.mm_projector_semT(semantic),
            self.semT_newline.expand(batch, 1, -1),
        ]
        if frame:
            parts.append(self.frame_newline.expand(batch, 1, -1))
        return torch.cat(parts, dim=1)


def pixel_shuffle(image: Tensor, factor: int) -> Tensor:
    """[B, C, H, W] -> [B, C * factor^2, W / factor, H / factor]: rows and columns change places."""
    b, c, h, w = image.shape
    x = image.permute(0, 2, 3, 1).reshape(b, h, w // factor, c * factor)
    x = x.transpose(1, 2).reshape(b, w // factor, h // factor, c * factor * factor)
    return x.permute(0, 3, 1, 2)


def as_tokens(image: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, h * w, C]."""
    return image.flatten(2).transpose(1, 2)
