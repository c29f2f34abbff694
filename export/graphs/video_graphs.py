"""Where PAM's video side is cut: modules of the graphs that follow an object from frame to frame.

Their inputs and outputs are in `image_graphs.py`. Slots of memory and pointers are padded with a validity
input: a slot without validity has no influence at all. Knows nothing of which frames are remembered.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pam_edge.export.graphs.image_graphs import PerceiverGraph
from pam_edge.export.model.layers import MASKED, sine_1d, sine_position
from pam_edge.export.model.memory import axial_rotation, remember
from pam_edge.export.model.vision import VisionTower


class MemoryEncoderGraph(nn.Module):
    """memory_encoder: what is kept of a frame."""

    no_object: Tensor

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        self.config = tower.config
        self.memory_encoder = tower.memory_encoder
        self.register_buffer("no_object", tower.no_obj_embed_spatial.detach())

    def forward(self, image_embed: Tensor, masks: Tensor, object_score: Tensor, prompted: Tensor) -> Tensor:
        """image_embed, masks, object_score, prompted -> memory; shapes as in `graph_specs`."""
        frame = (image_embed, masks, object_score)
        return remember(self.memory_encoder, self.no_object, self.config, frame=frame, prompted=prompted)


class MemoryAttentionGraph(nn.Module):
    """memory_attention: a frame's embedding in the light of what is remembered."""

    ages: Tensor
    place: Tensor
    image_pe: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        config, device = tower.config, tower.maskmem_tpos_enc.device
        self.width, self.pieces = config.d_model, config.d_model // config.mem_dim
        self.memory_attention = tower.memory_attention
        self.obj_ptr_tpos_proj = tower.obj_ptr_tpos_proj
        # Rows in the order of ages: 0 is the frame with a prompt, which SAM 2 stores last.
        self.register_buffer("ages", tower.maskmem_tpos_enc.detach().reshape(-1, config.mem_dim).roll(1, 0))
        place = sine_position(config.mem_dim, config.embed_size, device).flatten(2).transpose(1, 2)
        self.register_buffer("place", place[:, None].contiguous())
        self.register_buffer(
            "image_pe", sine_position(config.d_model, config.embed_size, device).contiguous()
        )
        cos, sin = axial_rotation(config.d_model, config.embed_size, device)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(
        self,
        image_embed: Tensor,
        memory: Tensor,
        memory_age: Tensor,
        memory_valid: Tensor,
        pointers: Tensor,
        pointer_time: Tensor,
        pointer_valid: Tensor,
    ) -> Tensor:
        """-> conditioned, in place of image_embed for `mask_decoder`; inputs as in `graph_specs`."""
        cells = memory.flatten(3).transpose(2, 3)  # [1, M, E*E, mem_dim]
        known = torch.arange(self.ages.shape[0], device=memory.device)
        age = (memory_age[..., None] == known).to(memory.dtype) @ self.ages
        cells_pe = self.place + age[:, :, None]
        tokens = pointers.reshape(*pointers.shape[:2], self.pieces, -1)  # [1, P, C / mem_dim, mem_dim]
        time_pe = self.obj_ptr_tpos_proj(sine_1d(pointer_time[0], self.width))
        tokens_pe = time_pe[None, :, None].expand_as(tokens)
        silent = torch.cat(
            [
                (1 - memory_valid)[..., None].expand(cells.shape[:3]).flatten(1),
                (1 - pointer_valid)[..., None].expand(tokens.shape[:3]).flatten(1),
            ],
            dim=1,
        )
        conditioned: Tensor = self.memory_attention(
            image_embed,
            self.image_pe,
            torch.cat([cells.flatten(1, 2), tokens.flatten(1, 2)], dim=1),
            torch.cat([cells_pe.flatten(1, 2), tokens_pe.flatten(1, 2)], dim=1),
            pointers=tokens.shape[1] * tokens.shape[2],
            mask=silent[:, None, None] * MASKED,
            rotation=(self.cos, self.sin),
        )
        return conditioned


class PerceiverFrameGraph(PerceiverGraph):
    """perceiver_frame: a region in a clip's further frame, at scale 1/4."""

    def forward(self, region_embed: Tensor, mask_tokens: Tensor) -> Tensor:
        """region_embed, mask_tokens -> frame_tokens, of which the last closes any frame of a clip."""
        return self.perceiver.later_frame(region_embed, mask_tokens, self.pe)
