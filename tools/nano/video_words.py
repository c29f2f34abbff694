"""What nano reads of a clip and is asked about it: PAM's sixteen frames, and which captions follow from what.

The token layout is `Perceiver`'s, the words are `tokenization.py`'s; this only puts them in order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pam_edge.benchmarks.synthetic import Combo, Language, clip_words, told_subject
from pam_edge.benchmarks.synthetic.answers import capital, combo_phrase
from pam_edge.benchmarks.synthetic.moves import Event
from pam_edge.export.model.perceiver import Perceiver
from pam_edge.export.model.vision import Segmented

# What a segment shows when it is run backwards. What leaves for good cannot be.
BACKWARDS: dict[Event, Event] = {
    "move left": "move right", "move right": "move left", "move up": "move down", "move down": "move up",
    "turn clockwise": "turn counterclockwise", "turn counterclockwise": "turn clockwise",
    "grow": "shrink", "shrink": "grow", "stay": "stay", "covered": "covered",
    "leave and return": "leave and return",
}  # fmt: skip


def clip_tokens(perceiver: Perceiver, frames: Sequence[Segmented]) -> Tensor:
    """The frames of one clip, in order -> [1, tokens, H]."""
    first, *later = frames
    parts = [perceiver.first_frame(first.region_embed, first.mask_tokens)]
    if later:
        maps = torch.cat([frame.region_embed for frame in later])
        tokens = torch.cat([frame.mask_tokens for frame in later])
        parts.append(perceiver.later_frame(maps, tokens).flatten(0, 1)[None])
    return torch.cat(parts, dim=1)


def batch_tokens(perceiver: Perceiver, maps: Tensor, tokens: Tensor) -> Tensor:
    """B clips of F frames: maps [B, F, C, E, E], mask tokens [B, F, 2, C] -> [B, visual tokens, H]."""
    first = perceiver.first_frame(maps[:, 0], tokens[:, 0])
    later = perceiver.later_frame(maps[:, 1:].flatten(0, 1), tokens[:, 1:].flatten(0, 1))
    return torch.cat([first, later.reshape(len(maps), -1, later.shape[-1])], dim=1)


def renamed(caption: str, obj: Combo, language: Language) -> str:
    """A segment's caption as if it were about that object."""
    was = told_subject(caption, language).rstrip()
    first = caption.startswith(was)
    now = capital(combo_phrase(obj, language)) if first else clip_words.named_again(obj.kind, language)
    return caption.replace(was, now, 1)


def told_backwards(caption: str, event: Event, language: Language) -> str:
    """A segment's caption, for the same frames in reverse."""
    words = clip_words._EN if language == "en" else clip_words._ZH
    before, now, after = caption.rpartition(words[event].now)
    return before + words[BACKWARDS[event]].now + after if now else caption
