"""A way through a clip that can be trained: the tracker's arithmetic with raw scores, for a batch of tracks.

`export/model/tracker.py` and the product's memory follow an object as it is used; here every track of the
batch has frames, a distance to its prompt and a looking-back span of its own. It knows features, no pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pam_edge.export.model.layers import sine_1d, sine_position
from pam_edge.export.model.mask_decoder import Decoded
from pam_edge.export.model.prompt_encoder import NOT_A_POINT
from pam_edge.export.model.vision import NO_OBJECT_LOGIT, Encoded, VisionTower


class Kept(NamedTuple):
    """What is kept of a frame for B tracks. `prompted` holds for all of them."""

    memory: Tensor  # [B, mem_dim, E, E]
    pointer: Tensor  # [B, C]
    prompted: bool


class Asked(NamedTuple):
    """A prompt of B tracks. `mask` [B, 1, 4E, 4E] logits counts where `has_mask` [B] is 1."""

    coords: Tensor  # [B, P, 2] model pixels
    labels: Tensor  # [B, P]
    mask: Tensor | None = None
    has_mask: Tensor | None = None


@dataclass
class Trail:
    """B tracks on their way. `lag` [B]: frames between prompt and what came next that were never looked at;
    `span` [B]: the age of a pointer that counts as 1.
    """

    lag: Tensor
    span: Tensor
    kept: list[Kept] = field(default_factory=list)


@dataclass(frozen=True)
class Constants:
    """Position encodings: the same in every step, whatever the memory part learns."""

    place: Tensor
    image_pe: Tensor
    sine: Tensor


def constants(tower: VisionTower, device: torch.device) -> Constants:
    """To be made once."""
    config = tower.config
    place = sine_position(config.mem_dim, config.embed_size, device).flatten(2).transpose(1, 2)
    sine = sine_position(config.d_model, config.embed_size, device)
    return Constants(place, tower.image_pe().detach(), sine)


def conditioned(tower: VisionTower, fixed: Constants, embed: Tensor, trail: Trail) -> Tensor:
    """The next frame's embedding [B, C, E, E] in the light of the trail; of an empty one, "no memory"."""
    config, kept = tower.config, trail.kept
    if not kept:
        return tower.without_memory(embed)
    now, b = len(kept), len(embed)
    ages = [age for age in range(config.num_maskmem - 1, 0, -1) if age < now and not kept[now - age].prompted]
    marked = [n for n in range(now) if kept[n].prompted]
    chosen = [(n, 0) for n in marked] + [(now - age, age) for age in ages]
    memory = [kept[n].memory.flatten(2).transpose(1, 2) for n, _ in chosen]
    encoding = [(fixed.place + tower.maskmem_tpos_enc[age - 1, 0]).expand(b, -1, -1) for _, age in chosen]
    # The first frame lies `lag` frames further back than the trail is long.
    reach = range(1, min(config.max_obj_ptrs, now))
    rows = [(n, now - n) for n in marked] + [
        (now - age, age) for age in reach if not kept[now - age].prompted
    ]
    pointers = torch.stack([kept[n].pointer for n, _ in rows], dim=1)
    since = torch.tensor([[age] for _, age in rows], dtype=embed.dtype, device=embed.device)[:, 0]
    first = torch.tensor([float(n == 0) for n, _ in rows], dtype=embed.dtype, device=embed.device)
    times = (since + first * trail.lag[:, None]) / trail.span[:, None]  # [B, rows]
    pieces = config.d_model // config.mem_dim
    turned = tower.obj_ptr_tpos_proj(sine_1d(times.flatten(), config.d_model)).reshape(b, len(rows), -1)
    tokens = pointers.reshape(b, -1, config.mem_dim)
    out: Tensor = tower.memory_attention(
        embed,
        fixed.sine,
        torch.cat([*memory, tokens], dim=1),
        torch.cat([*encoding, turned.repeat_interleave(pieces, dim=1)], dim=1),
        pointers=tokens.shape[1],
    )
    return out


def nothing_asked(count: int, device: torch.device) -> Asked:
    """What a frame without a prompt gives the mask decoder."""
    coords = torch.zeros(count, 1, 2, device=device)
    return Asked(coords, torch.full((count, 1), NOT_A_POINT, device=device))


def decode(tower: VisionTower, fixed: Constants, image: Tensor, frame: Encoded, asked: Asked) -> Decoded:
    """The mask decoder's raw answer for B tracks; `image` is conditioned."""
    points, silent = tower.sam_prompt_encoder.points(asked.coords, asked.labels)
    dense = tower.sam_prompt_encoder.no_mask()
    if asked.mask is not None and asked.has_mask is not None:
        dense = tower.sam_prompt_encoder.dense(asked.mask, asked.has_mask)
    decoded: Decoded = tower.sam_mask_decoder(
        image,
        fixed.image_pe,
        points=points,
        points_mask=silent,
        dense=dense,
        high_res=(frame.high_res_0, frame.high_res_1),
    )
    return decoded


def keep(tower: VisionTower, embed: Tensor, decoded: Decoded, *, there: Tensor, prompted: bool) -> Kept:
    """What is kept of a decoded frame; `there` [B, 1], 1.0 or 0.0, says where the object counts as seen."""
    shown = there[..., None, None]
    masks = decoded.masks[:, :1] * shown + NO_OBJECT_LOGIT * (1 - shown)
    memory = tower.encode_memory(embed, masks, there * 2 - 1, prompted=prompted)
    pointer = there * tower.obj_ptr_proj(decoded.tokens[:, 0]) + (1 - there) * tower.no_obj_ptr
    # As in the product, memories are kept in bfloat16.
    return Kept(memory.bfloat16().to(memory.dtype), pointer, prompted)
