"""A clip that the fake model of white squares can follow, with everything that is true of it."""

from __future__ import annotations

import numpy as np
from fake_video import scene

from pam_edge.benchmarks.synthetic import Clip, Combo, Segment

AT = [(10 + n, 20) for n in range(16)] + [(25, 20)] * 16 + [(25 - n, 20) for n in range(16)]
AWAY = range(20, 28)
REST = (50, 50)  # what lies still


def film() -> Clip:
    """A square that moves right, is covered for 8 frames and moves left, and another that lies still."""
    cover = Combo("book", "blue", "plain")
    frames, owners = [], []
    for n, at in enumerate(AT):
        shown = [REST] if n in AWAY else [REST, at]
        frames.append(np.asarray(scene(*shown)))
        owner = (np.asarray(scene(REST).convert("L")) > 0).astype(np.uint8)
        if n not in AWAY:
            owner[np.asarray(scene(at).convert("L")) > 0] = 2
        owners.append(owner)
    whole, target = np.stack(owners), Combo("cup", "red", "plain")
    segments = (
        Segment(0, 16, "move right", "", None),
        Segment(16, 32, "covered", "", cover),
        Segment(32, 48, "move left", "", None),
    )
    objects = (Combo("hat", "green", "plain"), target, cover)
    return Clip(np.stack(frames), whole == 2, target, segments, 1, "heldout", whole, objects)
