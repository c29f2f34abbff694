"""Between stage one and two: nano's memory, over clips, with everything a still picture uses left as it is.

    python -m tools.nano.train_memory --films DIR --sam run3/sam.pt --out DIR --minutes 40

Learned are memory encoder and attention, the encodings of time, the object pointer and what stands for a
missing object. Image encoder, prompt encoder and mask decoder are frozen, so answers about pictures cannot
change by a bit: memory attention has to speak the mask decoder's language. Short tracks, the loss taken back
through memory from frame to frame. Reads what `films` drew and saw. The checkpoint holds the whole vision
part, for `ship --sam`. Started again with the same folder it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pam_edge.bundle.config import NANO
from pam_edge.export.model.mask_decoder import Decoded
from pam_edge.export.model.vision import Encoded, VisionTower
from tools.nano import crew
from tools.nano.features import load_tower
from tools.nano.films import Looks, open_films, open_looks
from tools.nano.following import (
    Asked,
    Constants,
    Kept,
    Trail,
    conditioned,
    constants,
    decode,
    keep,
    nothing_asked,
)
from tools.nano.loop import Learner, begun, run
from tools.nano.segment_loss import iou_of, mask_loss
from tools.nano.tracks import FINE, LITTLE, Tracks, draw_tracks, drawn_films

SEED = 9
PEAK, DECAY = 1.2e-3, 0.01
# From this progress on: tracks per process and step, and their frames. Pairs teach where to look, fast; the
# longest fill every slot of memory and most of the pointers'.
SHAPES = ((0.0, (16, 2)), (0.2, (6, 4)), (0.5, (5, 8)), (0.8, (3, 13)))
TOLD_UNTIL = 0.6  # until then memory is told, less and less often, what the mask should have been
HELP_UNTIL = 0.6  # the helper head fades out by this progress
CORRECTED = 0.2  # share of steps in which one later frame is clicked on
SCORE = 1.0  # weight of the object score beside the mask
EXACT_FROM = 0.85  # until then in bfloat16, float32 where it matters: a quarter faster where the CPU has it
SAVE_EVERY = 100  # steps
# What memory is made of; all else serves still pictures too and is frozen.
LEARNED = ("memory_attention.", "memory_encoder.", "maskmem_tpos_enc", "no_obj_embed_spatial",
           "obj_ptr_tpos_proj.", "obj_ptr_proj.", "no_obj_ptr")  # fmt: skip


def as_prompted(tower: VisionTower, embed: Tensor, target: Tensor) -> Tensor:
    """What the mask decoder would read if someone gave it this frame's true mask, less "no mask prompt"."""
    wanted = F.adaptive_avg_pool2d(target, 4 * embed.shape[-1])[:, None] * 20 - 10
    encoder = tower.sam_prompt_encoder
    told = encoder.dense(wanted, torch.ones(len(wanted), device=embed.device)) - encoder.no_mask()
    return tower.without_memory(embed) + told


class Where(nn.Module):
    """A linear head on the conditioned embedding, in training alone: where the object is, to 64 x 64."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(width, 16, 1)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Conditioned [B, C, E, E], target [B, FINE, FINE] -> loss."""
        scores = F.pixel_shuffle(self.head(image), 4)[:, 0]
        wanted = F.adaptive_avg_pool2d(target, scores.shape[-1])
        cross = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none").sum((1, 2))
        return (cross / (wanted.sum((1, 2)) + 0.01 * wanted[0].numel())).mean()


def learned(tower: VisionTower) -> list[nn.Parameter]:
    """Freeze what is not memory; returns the rest."""
    for name, p in tower.named_parameters():
        p.requires_grad_(name.startswith(LEARNED))
    return [p for p in tower.parameters() if p.requires_grad]


@torch.no_grad()
def prepare(tower: VisionTower, looks: Looks, films: NDArray[np.int64]) -> None:
    """Fresh memory attention first hands the embedding on: the mask decoder then sees what it knows."""
    sample = torch.from_numpy(np.asarray(looks.embed[films[:8], 0], np.float32))
    attention = tower.memory_attention
    attention.norm.weight.fill_(float(sample.std(dim=1).mean()))
    attention.norm.bias.copy_(tower.no_mem_embed.flatten())
    for name, p in attention.named_parameters():
        if name.endswith(("attn.out_proj.weight", "attn_image.out_proj.weight", "linear2.weight")):
            p.mul_(0.5)


def as_asked(tracks: Tracks, side: int, device: torch.device) -> Asked:
    """The prompts on the first frames; a mask prompt is the true mask at the mask decoder's size."""
    coarse = F.adaptive_avg_pool2d(torch.from_numpy(tracks.target[0]).to(device), side)[:, None]
    has_mask = torch.from_numpy(tracks.masked.astype(np.float32)).to(device)
    coords, labels = (torch.from_numpy(a).to(device) for a in (tracks.coords, tracks.labels))
    return Asked(coords, labels, coarse * 20 - 10, has_mask)


def frame_loss(decoded: Decoded, target: Tensor, area: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Raw answers for B tracks, masks [B, FINE, FINE], pixels [B] -> loss and figures."""
    there, gone = area >= LITTLE, area == 0
    score = decoded.object_score[:, 0]
    known = there | gone
    loss = F.binary_cross_entropy_with_logits(score[known], there[known].float(), reduction="sum")
    loss = SCORE * loss / len(area)
    figures = {}
    if there.any():
        shown = F.interpolate(decoded.masks[there, :1], (FINE, FINE), mode="bilinear", align_corners=False)
        loss = loss + mask_loss(shown[:, 0], target[there]).sum() / len(area)
        seen = (score[there] > 0).float()
        figures = {
            "iou": float((iou_of(shown[:, 0], target[there]) * seen).mean()),
            "seen": float(seen.mean()),
        }
    if gone.any():
        figures["gone"] = float((score[gone] <= 0).float().mean())
    return loss, figures


def step_loss(
    parts: tuple[VisionTower, Where, Constants], tracks: Tracks, rng: np.random.Generator, *, progress: float
) -> tuple[Tensor, dict[str, float]]:
    """Loss and figures of one batch of tracks."""
    tower, where, fixed = parts
    device, (length, count) = fixed.place.device, tracks.area.shape
    put = [torch.from_numpy(a).to(device) for a in (tracks.embed, tracks.fine, tracks.middle, tracks.target)]
    area = torch.from_numpy(tracks.area).to(device)
    trail = Trail(torch.from_numpy(tracks.lag).to(device), torch.from_numpy(tracks.span).to(device))
    helped = max(0.0, 1 - progress / HELP_UNTIL)
    told = torch.from_numpy(rng.random(count) < 1 - progress / TOLD_UNTIL).to(device)[:, None]
    corrected = int(rng.integers(1, length)) if rng.random() < CORRECTED else 0
    total, rows = put[0].new_zeros(()), []
    for n in range(length):
        frame = Encoded(*(maps[n] for maps in put[:3]))
        asked, prompted = nothing_asked(count, device), n == 0
        if n == 0:
            asked = as_asked(tracks, frame.high_res_0.shape[-1], device)
        elif n == corrected and bool((area[n] >= LITTLE).all()):
            click = torch.from_numpy(tracks.clicks[n]).to(device)[:, None]
            asked, prompted = Asked(click, torch.ones(count, 1, device=device)), True
        with torch.autocast(device.type, torch.bfloat16, enabled=progress < EXACT_FROM):
            image = conditioned(tower, fixed, frame.image_embed, trail).float()
            decoded = Decoded(*(part.float() for part in decode(tower, fixed, image, frame, asked)))
        if n > 0:
            loss, figures = frame_loss(decoded, put[3][n], area[n])
            hint = where(image, put[3][n])
            seen = area[n] >= LITTLE
            if helped > 0 and seen.any():
                prompt = as_prompted(tower, frame.image_embed[seen], put[3][n][seen])
                hint = hint + F.mse_loss(image[seen], prompt) / frame.image_embed.var()
            total = total + loss + 0.5 * helped * hint
            rows.append(
                figures | ({"last_iou": figures["iou"]} if n == length - 1 and "iou" in figures else {})
            )
        if n == length - 1:
            break  # nothing will read its memory
        there = torch.where(told, area[n][:, None] >= LITTLE, decoded.object_score > 0).float()
        true = F.adaptive_avg_pool2d(put[3][n], decoded.masks.shape[-1])[:, None] * 20 - 10
        decoded = decoded._replace(masks=torch.where(told[..., None, None], true, decoded.masks[:, :1]))
        with torch.autocast(device.type, torch.bfloat16, enabled=progress < EXACT_FROM):
            kept = keep(tower, frame.image_embed, decoded, there=there, prompted=prompted)
        trail.kept.append(Kept(kept.memory.float(), kept.pointer.float(), prompted))
    return total / (length - 1), {"loss": total.item() / (length - 1)} | crew.mean_of(rows)


def train(member: crew.Member, given: argparse.Namespace) -> None:
    """What each process of the crew does."""
    warnings.filterwarnings("ignore", message=".*writable.*")
    torch.manual_seed(given.seed)
    data = open_films(given.films), open_looks(given.films)
    drawn = drawn_films(data[0])
    tower, where = load_tower(given.sam), Where(NANO.vision.d_model)
    parameters = [*learned(tower), *where.parameters()]
    kinds = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": DECAY}]
    kinds += [{"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
    learner = Learner("memory", "tower", tower, where, kinds, SAVE_EVERY)
    if not begun(learner, given):
        if given.start is None:
            prepare(tower, data[1], drawn)
        else:
            before = load_tower(given.start).state_dict()
            tower.load_state_dict({k: v for k, v in before.items() if k.startswith(LEARNED)}, strict=False)
    tower.to(member.device)
    where.to(member.device)
    fixed = constants(tower, member.device)

    def losses(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([given.seed, step, member.rank])
        shape = next(shape for begin, shape in reversed(SHAPES) if progress >= begin)
        tracks = draw_tracks(rng, data, drawn, shape=shape)
        return step_loss((tower, where, fixed), tracks, rng, progress=progress)

    run(learner, given, member, losses)


def main() -> None:
    """Train until the minutes are used up."""
    parser = crew.options(__doc__, minutes=40, peak=PEAK, seed=SEED)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--sam", type=Path, required=True, help="the stage-one weights `films look` used")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    crew.start_crew(given.processes, given.out, lambda member: train(member, given))


if __name__ == "__main__":
    main()
