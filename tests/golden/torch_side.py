"""The golden prompts answered by our PyTorch modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from golden.reference import frame_pixels, golden, prompt_arrays
from torch import Tensor

from pam_edge.export.checkpoint.checkpoint import Checkpoint, load_language, load_perceiver, load_vision
from pam_edge.export.model.language import Language
from pam_edge.export.model.perceiver import Perceiver
from pam_edge.export.model.vision import Encoded, Segmented, VisionTower

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Model:
    """PAM, loaded."""

    vision: VisionTower
    perceiver: Perceiver
    language: Language

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> Model:
        return cls(load_vision(checkpoint), load_perceiver(checkpoint), load_language(checkpoint))


@torch.inference_mode()
def look(model: Model, frame: int = 0) -> Encoded:
    """A golden frame, encoded."""
    return model.vision.encode_image(torch.from_numpy(frame_pixels(frame)))


@torch.inference_mode()
def segment(model: Model, seen: Encoded, name: str, *, slots: int | None = None) -> Segmented:
    """What a golden prompt selects."""
    arrays = prompt_arrays(name, slots=slots)
    return model.vision.decode_masks(
        model.vision.without_memory(seen.image_embed),
        (seen.high_res_0, seen.high_res_1),
        torch.from_numpy(arrays["point_coords"]),
        torch.from_numpy(arrays["point_labels"]),
    )


@torch.inference_mode()
def region(model: Model, seen: Encoded, name: str) -> dict[str, Array]:
    """Every value `reference.complaints` asks for."""
    found = segment(model, seen, name)
    tokens = model.perceiver(found.region_embed, found.mask_tokens)
    return {key: value.numpy() for key, value in found._asdict().items()} | {"region_tokens": tokens.numpy()}


@torch.inference_mode()
def answer(model: Model, region_tokens: Array, prompt: str, *, count: int = 12) -> tuple[Array, list[int]]:
    """Greedy decoding of a prompt such as `box/recognize`.

    Gives `count` tokens, and logits [count + 1, vocabulary]: after the prompt, then after each token.
    """
    before, after = (torch.from_numpy(golden()[f"{prompt}/ids_{side}"]) for side in ("before", "after"))
    embed = model.language.embed_tokens
    embeds: Tensor = torch.cat([embed(before), torch.from_numpy(region_tokens), embed(after)])[None]
    logits, cache = model.language(embeds)
    steps, chosen = [logits[0].numpy()], []
    for _ in range(count):
        chosen.append(int(logits.argmax()))
        logits, cache = model.language(embed(torch.tensor([[chosen[-1]]])), cache)
        steps.append(logits[0].numpy())
    return np.stack(steps), chosen
