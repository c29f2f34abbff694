"""Helper heads for clips, in training alone: what a frame shows must be readable, and what happened be read.

Captions name motion in one word or two, which teaches slowly. Where a thing is, how large and how turned is
known of every frame: its semantic tokens are asked for that, and the language model, behind each frame, for
how much of it changed since the first, and behind the last one for the event.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pam_edge.benchmarks.world.clips import poses
from pam_edge.benchmarks.world.moves import EVENTS, MAX_TURN
from pam_edge.config import NANO

USUAL_SIZE = 80.0  # of a thing, in a field's units
NO_EVENT = -1  # of a whole clip, which has several
_POSE = 4  # numbers of a pose
_AFTER = 2  # newlines behind a frame's semantic tokens


class Truth(NamedTuple):
    """What B clips of F frames show."""

    pose: Tensor  # [B, F, 4]: x and y in 0..1, doublings of the usual size, turn in -1..1
    seen: Tensor  # [B, F] 1 where the target is in sight
    event: Tensor  # [B] a number of EVENTS or NO_EVENT


def pose_numbers(seed: int) -> NDArray[np.float32]:
    """Of every frame of a training clip, [frames, 4] as in `Truth`."""
    field, found = poses(seed, "train")
    rows = [
        (
            p.x / field.width,
            p.y / field.height,
            math.log2(p.size / field.unit / USUAL_SIZE),
            p.angle / MAX_TURN,
        )
        for p in found
    ]
    return np.array(rows, np.float32)


class FilmHelpers(nn.Module):
    """Linear heads on a frame's semantic tokens and on the language model's state behind the last frame."""

    def __init__(self) -> None:
        super().__init__()
        hidden = NANO.language.hidden_size
        self.pose = nn.Linear(hidden * NANO.perceiver.semantic_tokens, _POSE)
        self.seen = nn.Linear(hidden * NANO.perceiver.semantic_tokens, 1)
        self.change = nn.Linear(hidden, _POSE)
        self.event = nn.Linear(hidden, len(EVENTS))

    def forward(self, tokens: Tensor, states: Tensor, truth: Truth) -> tuple[Tensor, dict[str, float]]:
        """Visual tokens of B clips and the language model's states at them, [B, T, H] -> loss and figures."""
        frames = truth.pose.shape[1]
        semantic, states = semantic_tokens(tokens, frames), states[:, frame_ends(frames) - 1]
        pose = _miss(self.pose(semantic), truth.pose, truth.seen)
        change = _miss(self.change(states), truth.pose - truth.pose[:, :1], truth.seen)
        seen = F.binary_cross_entropy_with_logits(self.seen(semantic)[..., 0], truth.seen)
        known = truth.event >= 0
        scores, event = self.event(states[known, -1]), truth.event[known]
        named = F.cross_entropy(scores, event) if len(event) else states.new_zeros(())
        figures = {"pose_miss": pose.item(), "change_miss": change.item(), "seen_miss": seen.item()}
        if len(event):
            figures["event_right"] = (scores.argmax(1) == event).float().mean().item()
        return 2 * pose + 2 * change + 0.2 * seen + 0.3 * named, figures


def _miss(guess: Tensor, truth: Tensor, seen: Tensor) -> Tensor:
    each = F.smooth_l1_loss(guess, truth, reduction="none", beta=0.1).mean(-1)
    return (each * seen).sum() / seen.sum().clamp(min=1)


def frame_ends(frames: int) -> Tensor:
    """Where each frame of a clip ends among its visual tokens: the place of the next one's first."""
    return NANO.region_tokens + 1 + NANO.frame_tokens * torch.arange(frames)


def semantic_tokens(tokens: Tensor, frames: int) -> Tensor:
    """Of visual tokens [B, T, H], every frame's semantic ones side by side, [B, frames, 16 H]."""
    count = NANO.perceiver.semantic_tokens
    at = (frame_ends(frames) - _AFTER - count)[:, None] + torch.arange(count)
    return tokens[:, at.flatten()].reshape(len(tokens), frames, -1)
