"""Helper heads for clips, in training alone: what a frame shows must be readable, and what happened be read.

Captions name motion in one word or two, which teaches slowly. Where an object is, how large and how turned is
known of every frame. Image tokens that show it are asked for that, and a frame's semantic tokens together;
the language model, behind each frame, for that too and for what changed since the first, and behind the last
one for the event. Every image token is asked where it lies itself, which is what a place is read by: no value
that the perceiver attends to has a position in it before, and it learns to put one there in a hundred steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pam_edge.benchmarks.synthetic.clips import poses
from pam_edge.benchmarks.synthetic.moves import EVENTS
from pam_edge.bundle.config import NANO
from tools.nano.data import pose_numbers

NO_EVENT = -1  # of a whole clip, which has several
_POSE = 4  # numbers of a pose


class Truth(NamedTuple):
    """What B clips of F frames show."""

    shown: Tensor  # [B, F, 8, 8] how much of each cell of the picture shows the target: rows, columns
    pose: Tensor  # [B, F, 4] as in `pose_numbers`
    seen: Tensor  # [B, F] 1 where the target is in sight
    event: Tensor  # [B] a number of EVENTS or NO_EVENT


def film_poses(seed: int) -> NDArray[np.float32]:
    """Of every frame of a training clip, [frames, 4] as in `Truth`."""
    field, found = poses(seed, "train")
    return np.array([pose_numbers(field, pose) for pose in found], np.float32)


class FilmHelpers(nn.Module):
    """Heads on a frame's tokens and on the language model's states behind frames."""

    def __init__(self) -> None:
        super().__init__()
        hidden = NANO.language.hidden_size
        self.place = nn.Linear(hidden, 2)
        self.shown = nn.Linear(hidden, 1)
        self.pose = nn.Sequential(nn.Linear(hidden, 128), nn.GELU(), nn.Linear(128, _POSE))
        whole = hidden * NANO.perceiver.semantic_tokens
        self.semantic = nn.Sequential(nn.Linear(whole, 128), nn.GELU(), nn.Linear(128, _POSE))
        self.read = nn.Linear(hidden, _POSE)
        self.change = nn.Linear(hidden, _POSE)
        self.event = nn.Linear(hidden, len(EVENTS))

    def forward(self, tokens: Tensor, states: Tensor, truth: Truth) -> tuple[Tensor, dict[str, float]]:
        """Visual tokens of B clips and the language model's states at them, [B, T, H] -> loss and figures."""
        frames = truth.pose.shape[1]
        states = states[:, frame_ends(frames) - 1]
        place, shown, pose = self.cells(tokens, truth)
        read = _miss(self.read(states), truth.pose, truth.seen)
        change = _miss(self.change(states), truth.pose - truth.pose[:, :1], truth.seen)
        known = truth.event >= 0
        scores, event = self.event(states[known, -1]), truth.event[known]
        named = F.cross_entropy(scores, event) if len(event) else states.new_zeros(())
        misses = {"place_miss": place, "shown_miss": shown, "pose_miss": pose}
        misses |= {"read_miss": read, "change_miss": change}
        figures = {name: miss.item() for name, miss in misses.items()}
        if len(event):
            figures["event_right"] = (scores.argmax(1) == event).float().mean().item()
        return 2 * place + shown + pose + 2 * read + 2 * change + 0.3 * named, figures

    def frames(self, tokens: Tensor, shown: Tensor, pose: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Tokens of N frames of N objects [N, T, H], `shown` [N, 8, 8], pose [N, 4] -> loss and figures.

        A batch of clips shows few objects, each many times: too few to learn what a turned object looks like.
        """
        level = F.rms_norm(tokens, tokens.shape[-1:])
        count, own = NANO.vision.embed_size**2 // 16, NANO.perceiver.semantic_tokens
        place, seen, posed = self.part(level[:, None, :count], F.avg_pool2d(shown, 2)[:, None], pose[:, None])
        told = self.semantic(level[:, count + 1 : count + 1 + own].flatten(1))
        whole = _miss(told, pose, pose.new_ones(len(pose)))
        figures = {"frame_pose": posed.item(), "frame_semantic": whole.item()}
        return place + seen + 3 * posed + 3 * whole, figures

    def cells(self, tokens: Tensor, truth: Truth) -> tuple[Tensor, Tensor, Tensor]:
        """What image tokens miss: their own place, whether they show the target, its pose where they do."""
        coarse = F.avg_pool2d(truth.shown, 2)
        level = F.rms_norm(tokens, tokens.shape[-1:])  # as the language model reads them
        first, later = image_tokens(level, truth.pose.shape[1])
        parts = [
            (first[:, None], truth.shown[:, :1], truth.pose[:, :1]),
            (later, coarse[:, 1:], truth.pose[:, 1:]),
        ]
        missed = [self.part(*part) for part in parts]
        place, shown, pose = (torch.stack(each).sum() for each in zip(*missed, strict=True))
        return place, shown, pose

    def part(self, held: Tensor, share: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of tokens [B, F, side * side, H]: `share` [B, F, side, side], poses [B, F, 4]."""
        own = places(int(held.shape[2] ** 0.5)).to(held).expand(*held.shape[:2], -1, -1)
        place = F.smooth_l1_loss(self.place(held), own, beta=0.1)
        here = share.transpose(2, 3).flatten(2)  # tokens go down the columns: see `pixel_shuffle`
        shown = F.binary_cross_entropy_with_logits(self.shown(held)[..., 0], here)
        return place, shown, _miss(self.pose(held), where[:, :, None].expand(-1, -1, held.shape[2], -1), here)


def places(side: int) -> Tensor:
    """Centres of the image tokens of a picture, x and y in 0..1, [side * side, 2]."""
    middle = (torch.arange(side) + 0.5) / side
    return torch.stack([middle.repeat_interleave(side), middle.repeat(side)], dim=-1)  # down the columns


def _miss(guess: Tensor, truth: Tensor, seen: Tensor) -> Tensor:
    each = F.smooth_l1_loss(guess, truth, reduction="none", beta=0.1).mean(-1)
    return (each * seen).sum() / seen.sum().clamp(min=1)


def frame_ends(frames: int) -> Tensor:
    """Where each frame of a clip ends among its visual tokens: the place of the next one's first."""
    return NANO.region_tokens + 1 + NANO.frame_tokens * torch.arange(frames)


def image_tokens(tokens: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Of visual tokens [B, T, H], those of the image: of the first frame [B, 64, H], and of each further one
    [B, frames - 1, 16, H].
    """
    side = NANO.vision.embed_size // 4
    later = frame_ends(frames)[:-1, None] + torch.arange(side**2)
    return tokens[:, : (2 * side) ** 2], tokens[:, later]
