"""The whole golden clip through the exported graphs, as the product follows and tells it.

It is in `make parity` for its length: minutes on a small machine. Its first frames are in `make test`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from golden import reference
from golden.reference import FRAME_SIZE, PROMPTS

import pam_edge
from pam_edge.export.driver.build import build, plan
from pam_edge.video.clip_caption import Clip, caption
from pam_edge.video.tracker import Tracker

if TYPE_CHECKING:
    from golden.seeded import GoldenFolder

FRAMES = 20
SAME = 0.999  # intersection over union


def test_the_whole_clip_equals_the_originals(
    golden_folder: GoldenFolder, golden: dict[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    settled = plan(
        str(golden_folder.weights),
        target="cpu",
        sam2=golden_folder.sam2,
        sam2_config=golden_folder.sam2_config,
    )
    pam = pam_edge.load(build(settled, tmp_path / "golden").folder)
    tracker, clip, scores = Tracker(pam, length=FRAMES), Clip(pam, length=FRAMES), []
    for n in range(FRAMES):
        frame = reference.HERE / "frames" / f"{n:05}.png"
        (found,) = tracker.step(frame, {1: PROMPTS["box"]} if n == 0 else None).objects
        scores.append(found.object_score)
        clip.add(found)
        if n % 4 == 0:
            low = torch.from_numpy(found.low_res.copy())[None, None]
            ours = F.interpolate(low, FRAME_SIZE, mode="bilinear", align_corners=False)[0].numpy()
            assert reference.differs("video/mask_logits", ours, 1e-3, part=n // 4) == []
            theirs = golden["video/mask_logits"][n // 4, 0] > 0
            assert (found.mask & theirs).sum() >= SAME * (found.mask | theirs).sum()
    assert list(clip.chosen) == golden["video/selected"].tolist()
    assert np.abs(np.array(scores) - golden["video/scores"]).max() <= 1e-4
    tokens = np.concatenate(clip.tokens())
    assert reference.differs("video/region_tokens", tokens[:1043], 1e-4, part=slice(1043)) == []
    # Memories are kept in bfloat16: a difference in a sum's last bit may come back as 2^-8 in later frames.
    assert reference.differs("video/region_tokens", tokens, 5e-4) == []
    told = caption(pam, clip, max_tokens=12)
    for _ in told:
        pass
    assert list(told.answers[0].token_ids) == golden["video/caption/greedy_ids"].tolist()
