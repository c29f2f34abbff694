"""The whole golden clip through our PyTorch modules: scores, masks, the 5168 tokens and the caption.

It is in `make parity` for its length: minutes on a small machine. Its first frames are in `make test`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from golden import reference, torch_side
from golden.reference import FRAME_SIZE
from golden.torch_side import Model

from pam_edge.export.model.tracker import track

FRAMES = 20
SCALED = 15  # further frames, at scale 1/4


def test_the_whole_clip_equals_the_originals(golden_model: Model, golden: dict[str, np.ndarray]) -> None:
    prompt = reference.prompt_arrays("box")
    coords, labels = (torch.from_numpy(prompt[key]) for key in ("point_coords", "point_labels"))
    frames = (torch_side.look(golden_model, n) for n in range(FRAMES))
    selected = [0, *np.linspace(1, FRAMES - 1, SCALED, dtype=int).tolist()]
    assert selected == golden["video/selected"].tolist()
    scores, tokens, perceiver = [], [], golden_model.perceiver
    with torch.inference_mode():
        for n, found in enumerate(track(golden_model.vision, frames, FRAMES, coords, labels)):
            scores.append(float(found.object_score))
            if n % 4 == 0:
                masks = F.interpolate(found.masks, FRAME_SIZE, mode="bilinear", align_corners=False)
                assert reference.differs("video/mask_logits", masks[0].numpy(), 1e-3, part=n // 4) == []
            if n in selected:
                read = perceiver.first_frame if n == 0 else perceiver.later_frame
                tokens.append(read(found.region_embed, found.mask_tokens)[0].numpy())
    assert np.abs(np.array(scores) - golden["video/scores"]).max() <= 1e-4
    region = np.concatenate(tokens)
    assert reference.differs("video/region_tokens", region[:1043], 1e-4, part=slice(1043)) == []
    # Memories are kept in bfloat16: a difference in a sum's last bit may come back as 2^-8 in later frames.
    assert reference.differs("video/region_tokens", region, 5e-4) == []
    logits, chosen = torch_side.answer(golden_model, region, "video/caption")
    assert chosen == golden["video/caption/greedy_ids"].tolist()
    assert np.abs(logits[0] - golden["video/caption/logits_last"]).max() <= 1e-3
