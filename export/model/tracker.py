"""Tracking an object through a clip: which frames are remembered, and how the next one attends to them.

SAM 2.1's video predictor for one prompt on the first frame, forward in time (arXiv 2408.00714, section 4).
Works on embeddings, not pixels; several prompts are tracked as a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pam_edge.export.model.layers import sine_1d, sine_position
from pam_edge.export.model.prompt_encoder import NOT_A_POINT
from pam_edge.export.model.vision import Encoded, Segmented, VisionTower


class Remembered(NamedTuple):
    """What is kept of a frame."""

    memory: Tensor  # [B, mem_dim, E, E]
    pointer: Tensor  # [B, C]


def track(
    tower: VisionTower, frames: Iterable[Encoded], count: int, coords: Tensor, labels: Tensor
) -> Iterator[Segmented]:
    """Segment the prompt's object on every frame of a clip of `count` frames, one frame at a time.

    coords [B, N, 2] and labels [B, N] prompt the first frame, as in `decode_masks`.
    """
    kept: dict[int, Remembered] = {}
    for now, seen in enumerate(frames):
        high_res = (seen.high_res_0, seen.high_res_1)
        if now == 0:
            conditioned = tower.without_memory(seen.image_embed)
        else:
            conditioned = condition(tower, seen.image_embed, kept, now, count)
            coords = torch.zeros_like(coords[:, :1])
            labels = torch.full_like(labels[:, :1], NOT_A_POINT)
        found = tower.decode_masks(conditioned, high_res, coords, labels)
        yield found
        memory = tower.encode_memory(seen.image_embed, found.masks, found.object_score, prompted=now == 0)
        # The original keeps memories in bfloat16, and later frames read what was kept.
        kept[now] = Remembered(memory.bfloat16().to(memory.dtype), found.object_pointer)
        old = now - max(tower.config.num_maskmem, tower.config.max_obj_ptrs)
        if old > 0:
            del kept[old]


def condition(
    tower: VisionTower, image_embed: Tensor, kept: dict[int, Remembered], now: int, count: int
) -> Tensor:
    """Frame `now`'s embedding [B, C, E, E] after attention to what is kept of frame 0 and the latest."""
    config, device = tower.config, image_embed.device
    place = sine_position(config.mem_dim, config.embed_size, device).flatten(2).transpose(1, 2)
    # How long ago each memory is; 0 stands for the frame with the prompt, whatever its distance.
    ages = [0, *range(min(config.num_maskmem - 1, now - 1), 0, -1)]
    memory, encoding = [], []
    for age in ages:
        memory.append(kept[now - age if age else 0].memory.flatten(2).transpose(1, 2))
        encoding.append((place + tower.maskmem_tpos_enc[age - 1, 0]).expand_as(memory[-1]))
    pointers, pointer_encoding = point_back(tower, kept, now, count)
    image_pe = sine_position(config.d_model, config.embed_size, device)
    conditioned: Tensor = tower.memory_attention(
        image_embed,
        image_pe,
        torch.cat([*memory, pointers], dim=1),
        torch.cat([*encoding, pointer_encoding], dim=1),
        pointers=pointers.shape[1],
    )
    return conditioned


def point_back(
    tower: VisionTower, kept: dict[int, Remembered], now: int, count: int
) -> tuple[Tensor, Tensor]:
    """Object pointers of frame 0 and the latest frames, each cut into C / mem_dim tokens, and their encoding.

    Both [B, tokens, mem_dim]; the encoding says how long ago, as a share of the longest that is looked back.
    """
    config = tower.config
    most = min(count, config.max_obj_ptrs)
    ages = [now, *range(1, min(most, now))]
    pointers = torch.stack([kept[now - age].pointer for age in ages], dim=1)
    times = torch.tensor(ages, dtype=pointers.dtype, device=pointers.device) / (most - 1)
    encoding = tower.obj_ptr_tpos_proj(sine_1d(times, config.d_model))
    pieces = config.d_model // config.mem_dim
    tokens = pointers.reshape(pointers.shape[0], -1, config.mem_dim)
    return tokens, encoding.repeat_interleave(pieces, dim=0).expand_as(tokens)
