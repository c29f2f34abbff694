"""Tracking in our PyTorch modules against the original's masks and scores: the golden clip's first frames.

`make parity` follows the whole clip.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import reference, torch_side
from golden.reference import FRAME_SIZE
from golden.torch_side import Model

from pam_edge.bundle.config import NANO
from pam_edge.export.model.tracker import track
from pam_edge.export.model.vision import Encoded, VisionTower

FRAMES = 20  # of the golden clip; object pointers are told apart by it
FOLLOWED = 5


@pytest.mark.slow
def test_first_frames_equal_the_originals(golden_model: Model, golden: dict[str, np.ndarray]) -> None:
    prompt = reference.prompt_arrays("box")
    coords, labels = (torch.from_numpy(prompt[key]) for key in ("point_coords", "point_labels"))
    frames = (torch_side.look(golden_model, n) for n in range(FOLLOWED))
    with torch.inference_mode():
        found = list(track(golden_model.vision, frames, FRAMES, coords, labels))
    scores = [float(frame.object_score) for frame in found]
    assert np.abs(np.array(scores) - golden["video/scores"][:FOLLOWED]).max() <= 1e-4
    for n in (0, 4):
        masks = F.interpolate(found[n].masks, FRAME_SIZE, mode="bilinear", align_corners=False)
        assert reference.differs("video/mask_logits", masks[0].numpy(), 1e-3, part=n // 4) == []


def test_objects_side_by_side_are_tracked_as_alone() -> None:
    """A clip long enough that memories and pointers are forgotten."""
    torch.manual_seed(0)
    tower = VisionTower(msgspec.structs.replace(NANO.vision, num_maskmem=3, max_obj_ptrs=4)).eval()
    clip = [torch.randn(1, 3, 256, 256) for _ in range(8)]
    coords, labels = torch.rand(2, 1, 2) * 256, torch.ones(2, 1)
    with torch.inference_mode():
        seen = [tower.encode_image(image) for image in clip]
        both = [Encoded(*(x.expand(2, -1, -1, -1) for x in frame)) for frame in seen]
        together = list(track(tower, both, len(clip), coords, labels))
        alone = [list(track(tower, seen, len(clip), coords[i : i + 1], labels[i : i + 1])) for i in range(2)]
    for n in (0, 1, 4, 7):
        for i in range(2):
            difference = (together[n].masks[i] - alone[i][n].masks[0]).abs().max()
            assert float(difference) <= 1e-3, (n, i)


def test_memory_can_be_trained() -> None:
    torch.manual_seed(0)
    tower = VisionTower(NANO.vision)
    seen = [tower.encode_image(torch.randn(1, 3, 256, 256)) for _ in range(3)]
    found = list(track(tower, seen, 3, torch.rand(1, 1, 2) * 256, torch.ones(1, 1)))
    sum(frame.region_embed.mean() + frame.object_score.mean() for frame in found).backward()
    for key, weight in tower.named_parameters():
        if key.startswith(("memory_attention", "memory_encoder", "maskmem", "obj_ptr_tpos")):
            assert weight.grad is not None, key
            assert bool(torch.isfinite(weight.grad).all()), key
