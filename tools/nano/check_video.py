"""nano in motion on clips training never saw: masks through 32 frames, captions of segments and of clips.

    python -m tools.nano.check_video --weights pam_edge/nano --seed 41 --count 40
    python -m tools.nano.check_video --sam memory.pt --language language.pt --tokenizer FILE --count 20

Through the PyTorch modules, float32, greedy; masks in full size. What is tracked and what counts as right is
in `benchmarks/quality/clip_scores.py`, as for a bundle (`pam-edge eval BUNDLE --world SEED --clips N`).
Captions: a stream, segment by segment, each from the box of the last mask and with nano's own caption before
as history, and ended where that is empty (a bundle looks on by memory); and the clip as a whole.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pam_edge.benchmarks.quality.clip_scores import (
    LONG,
    Figures,
    Subject,
    add_stream,
    add_whole,
    add_window,
    box_at,
    subjects,
    window,
)
from pam_edge.benchmarks.synthetic import LANGUAGES, Clip, Language, clip, nth_seed, segment_caption
from pam_edge.export.model.tracker import track
from pam_edge.export.model.vision import Encoded, Segmented, VisionTower
from pam_edge.image.masks import bounds
from pam_edge.video.clip_caption import frame_choice
from tools.nano import crew
from tools.nano.check import Words, greedy, open_parts, options, prefix
from tools.nano.data import SIDE, squeezed
from tools.nano.video_words import clip_tokens


class Followed(NamedTuple):
    """One frame of one object: what the mask decoder gave, and the mask bool [H, W] in full size."""

    seen: Segmented
    mask: NDArray[np.bool_]


def follow(
    tower: VisionTower, looks: Sequence[Encoded], size: tuple[int, int], prompt: tuple[Tensor, Tensor]
) -> Iterator[Followed]:
    """One object through encoded frames; prompt coords [1, N, 2] in model pixels and labels [1, N]."""
    for found in track(tower, looks, len(looks), *prompt):
        whole = F.interpolate(found.masks, size=size, mode="bilinear", align_corners=False)
        yield Followed(found, whole[0, 0].numpy() > 0)


def boxed(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A box x0, y0, x1, y1 in a picture of size (h, w), as a prompt."""
    scale = np.array([SIDE / size[1], SIDE / size[0]])
    corners = np.array(box).reshape(2, 2) * scale
    return torch.from_numpy(corners.astype(np.float32))[None], torch.tensor([[2.0, 3.0]])


def pointed(obj: Subject, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """How a subject is pointed at in a picture of size (h, w), as a prompt."""
    if obj.box is not None:
        return boxed(obj.box, size)
    assert obj.click is not None  # it has one of the two
    x, y = obj.click
    at = [[[x * SIDE / size[1], y * SIDE / size[0]]]]
    return torch.tensor(at, dtype=torch.float32), torch.ones(1, 1)


def check_masks(
    filmed: Clip, tower: VisionTower, looks: Sequence[Encoded], figures: Figures
) -> list[dict[str, Any]]:
    """Follow target and bystander of one clip; returns what went wrong."""
    first, _ = window(filmed)
    size = (filmed.frames.shape[1], filmed.frames.shape[2])
    found = {
        obj.name: [f.mask for f in follow(tower, looks[first : first + LONG], size, pointed(obj, size))]
        for obj in subjects(filmed)
    }
    wrong: list[dict[str, Any]] = []
    for name, ious in add_window(figures, filmed, found).items():
        mean = float(np.nanmean(ious))
        if mean < 0.75:
            row = {"seed": filmed.seed, "who": name, "first": first, "mIoU": round(mean, 3)}
            wrong.append(row | {"events": [s.event for s in filmed.segments]})
    return wrong


def check_stream(
    filmed: Clip, tower: VisionTower, looks: Sequence[Encoded], words: Words, figures: Figures
) -> list[dict[str, Any]]:
    """Tell a clip segment by segment; returns what was said wrong."""
    size = (filmed.frames.shape[1], filmed.frames.shape[2])
    said: dict[Language, list[str]] = {lang: [] for lang in LANGUAGES}
    prompt: tuple[Tensor, Tensor] | None = boxed(box_at(filmed, 0), size)
    wrong: list[dict[str, Any]] = []
    for k, part in enumerate(filmed.segments):
        if prompt is None:
            figures["segments lost"].append(1.0)
            break
        figures["segments lost"].append(0.0)
        found = list(follow(tower, looks[part.start : part.stop], size, prompt))
        box = bounds(found[-1].mask)
        prompt = None if box is None else boxed(box, size)
        cache = prefix(words, clip_tokens(words.parts[0], [found[n].seen for n in frame_choice(len(found))]))
        for lang in LANGUAGES:
            after = words.questions.video(lang, said[lang][-1] if said[lang] else "")
            text = greedy(words, cache, after)[0]
            said[lang].append(text)
            wanted = segment_caption(filmed, k, lang)
            if text != wanted:
                wrong.append({"seed": filmed.seed, "segment": k, "said": text, "wanted": wanted})
    add_stream(figures, filmed, said)
    return wrong


def check_whole(
    filmed: Clip, tower: VisionTower, looks: Sequence[Encoded], words: Words, figures: Figures
) -> None:
    """Tell a clip in one caption, from the sixteen frames PAM samples."""
    size = (filmed.frames.shape[1], filmed.frames.shape[2])
    found = list(follow(tower, looks, size, boxed(box_at(filmed, 0), size)))
    cache = prefix(words, clip_tokens(words.parts[0], [found[n].seen for n in frame_choice(len(found))]))
    said = {lang: greedy(words, cache, words.questions.video(lang, ""))[0] for lang in LANGUAGES}
    add_whole(figures, filmed, said)


def main() -> None:
    """Print the figures as JSON; what went wrong goes to stderr."""
    parser = options(__doc__, count=20)
    parser.add_argument("--masks-only", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    tower, words = open_parts(given)
    figures: Figures = defaultdict(list)
    for i in range(given.count):
        filmed = clip(nth_seed(given.seed, i), "heldout")
        images = [crew.normalized(torch.from_numpy(squeezed(f).copy())[None]) for f in filmed.frames]
        looks = [tower.encode_image(image) for image in images]
        wrong = check_masks(filmed, tower, looks, figures)
        if words is not None and not given.masks_only:
            wrong += check_stream(filmed, tower, looks, words, figures)
            check_whole(filmed, tower, looks, words, figures)
        for row in wrong:
            sys.stderr.write(json.dumps(row, ensure_ascii=False) + "\n")
    means = {name: round(float(np.mean(values)), 4) for name, values in sorted(figures.items())}
    frames = len(figures["target mIoU"])
    sys.stdout.write(json.dumps({"seed": given.seed, "clips": given.count, "frames": frames} | means) + "\n")


if __name__ == "__main__":
    main()
