"""PAM's stateless graphs: one module each, with exactly the graph's named inputs and outputs.

What is constant for given weights (position encodings) is computed when a module is made and becomes a
constant in the file. The engine's writer exports the modules; the decoder has exporters of its own, and the
modules of the video graphs are in `video_graphs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn
from typing_extensions import assert_never

from pam_edge.bundle.config import Variant
from pam_edge.bundle.manifest import TensorSpec
from pam_edge.export.model.perceiver import Perceiver
from pam_edge.export.model.vision import MaskHead, Segmented, VisionTower

ImageName = Literal["image_encoder", "mask_decoder", "perceiver"]
VideoName = Literal["memory_encoder", "memory_attention", "perceiver_frame"]
StatelessName = Literal[ImageName, VideoName]
GraphName = Literal[StatelessName, "decoder"]
VIDEO: tuple[VideoName, ...] = ("memory_encoder", "memory_attention", "perceiver_frame")
STATELESS: tuple[StatelessName, ...] = ("image_encoder", "mask_decoder", "perceiver", *VIDEO)


class ImageEncoderGraph(nn.Module):
    """image_encoder: one look at an image."""

    position: Tensor

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        self.image_encoder = tower.image_encoder
        self.conv_s0, self.conv_s1 = tower.sam_mask_decoder.conv_s0, tower.sam_mask_decoder.conv_s1
        self.register_buffer("position", tower.image_encoder.trunk.position().detach().contiguous())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """image -> image_embed, high_res_0, high_res_1; shapes as in `graph_specs`."""
        fine, middle, embed = self.image_encoder(image, self.position)
        return embed, self.conv_s0(fine), self.conv_s1(middle)


class MaskDecoderGraph(nn.Module):
    """mask_decoder: what one prompt selects."""

    pe: Tensor

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        # A head of its own around the tower's weights: a file must not carry modules its graph does not use.
        with torch.device("meta"):
            head = MaskHead(tower.config)
        held = tower.state_dict()
        head.load_state_dict({key: held[key] for key in head.state_dict()}, assign=True)
        self.head = head.eval().requires_grad_(False)
        self.register_buffer("pe", tower.image_pe().detach().contiguous())

    def forward(
        self,
        image_embed: Tensor,
        no_memory: Tensor,
        high_res_0: Tensor,
        high_res_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_prompt: Tensor,
        has_mask: Tensor,
    ) -> Segmented:
        """-> masks, iou, object_score, object_pointer, region_embed, mask_tokens; see `graph_specs`."""
        conditioned = image_embed + no_memory.reshape(-1, 1, 1, 1) * self.head.no_mem_embed.reshape(
            1, -1, 1, 1
        )
        return self.head.decode_masks(
            conditioned,
            (high_res_0, high_res_1),
            point_coords,
            point_labels,
            mask_prompt=mask_prompt,
            has_mask=has_mask,
            image_pe=self.pe,
        )


class PerceiverGraph(nn.Module):
    """perceiver: a region as the tokens the language model reads."""

    pe: Tensor

    def __init__(self, perceiver: Perceiver) -> None:
        super().__init__()
        self.perceiver = perceiver
        self.register_buffer("pe", perceiver.image_pe().detach().contiguous())

    def forward(self, region_embed: Tensor, mask_tokens: Tensor) -> Tensor:
        """region_embed, mask_tokens -> region_tokens; shapes as in `graph_specs`."""
        tokens: Tensor = self.perceiver(region_embed, mask_tokens, self.pe)
        return tokens


def graph_specs(
    variant: Variant, graph: StatelessName
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """A graph's inputs and outputs, in order. A named axis is free; an engine may fix it."""
    s, c, e = variant.vision.image_size, variant.vision.d_model, variant.vision.embed_size
    image = _spec("image_embed", 1, c, e, e)
    high_res = (_spec("high_res_0", 1, c // 8, 4 * e, 4 * e), _spec("high_res_1", 1, c // 4, 2 * e, 2 * e))
    region = (_spec("region_embed", 1, c, e, e), _spec("mask_tokens", 1, 2, c))
    match graph:
        case "image_encoder":
            return (_spec("image", 1, 3, s, s),), (image, *high_res)
        case "mask_decoder":
            inputs = (
                image,
                _spec("no_memory", 1),
                *high_res,
                _spec("point_coords", 1, "points", 2),
                _spec("point_labels", 1, "points"),
                _spec("mask_prompt", 1, 1, 4 * e, 4 * e),
                _spec("has_mask", 1),
            )
            outputs = (
                _spec("masks", 1, 1, 4 * e, 4 * e),
                _spec("iou", 1, 1),
                _spec("object_score", 1, 1),
                _spec("object_pointer", 1, c),
                *region,
            )
            return inputs, outputs
        case "perceiver":
            return region, (_spec("region_tokens", 1, variant.region_tokens, variant.language.hidden_size),)
        case "perceiver_frame":
            return region, (_spec("frame_tokens", 1, variant.frame_tokens, variant.language.hidden_size),)
        case "memory_encoder" | "memory_attention":
            return _memory_specs(variant, graph)
        case other:
            assert_never(other)


def fixed(specs: Sequence[TensorSpec], slots: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    """The same tensors with these named axes at fixed extents, for an engine that wants static shapes."""
    return tuple(
        msgspec.structs.replace(
            spec, axes=tuple(slots.get(a, a) if isinstance(a, str) else a for a in spec.axes)
        )
        for spec in specs
    )


def _memory_specs(
    variant: Variant, graph: Literal["memory_encoder", "memory_attention"]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """`memory_age`: frames since, 0 for a frame with a prompt; `pointer_time`: see `tracker.point_back`."""
    c, m, e = variant.vision.d_model, variant.vision.mem_dim, variant.vision.embed_size
    image = _spec("image_embed", 1, c, e, e)
    if graph == "memory_encoder":
        frame = (image, _spec("masks", 1, 1, 4 * e, 4 * e), _spec("object_score", 1, 1))
        return (*frame, _spec("prompted", 1)), (_spec("memory", 1, m, e, e),)
    inputs = (
        image,
        _spec("memory", 1, "memories", m, e, e),
        _spec("memory_age", 1, "memories"),
        _spec("memory_valid", 1, "memories"),
        _spec("pointers", 1, "pointers", c),
        _spec("pointer_time", 1, "pointers"),
        _spec("pointer_valid", 1, "pointers"),
    )
    return inputs, (_spec("conditioned", 1, c, e, e),)


def _spec(name: str, *axes: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", axes=axes)
