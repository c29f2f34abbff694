"""Stage one: image encoder, prompt encoder and mask decoder of nano, from nothing.

    python -m tools.nano.train_sam --scenes FOLDER --out FOLDER --minutes 55
    ... --start nano --masks-alone

With the latter only what draws masks from features learns: all that the language model and memory attention
read of a picture stays as it is. Started again with the same folder it goes on where it stopped. The schedule
follows training time, not steps, by this process's own clock, since the machine is shared; the log says how
many steps that was.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pam_edge.bundle.config import NANO
from pam_edge.export.checkpoint.checkpoint import load_vision, open_checkpoint
from pam_edge.export.model.mask_decoder import Decoded
from pam_edge.export.model.vision import VisionTower
from tools.nano import crew
from tools.nano.data import SIDE, open_rendered
from tools.nano.loop import Learner, begun, run
from tools.nano.prompting import BOXES, EMPTY, MIX, Batch, Prompts, corrections, draw_batch
from tools.nano.segment_loss import FINE, Helpers, decoded_loss

SEED = 3
PEAK, DECAY = 1.2e-3, 0.05
PICTURES, PROMPTS = 4, 6  # per process and step
MASKS = 1.5  # weight of the masks beside the helpers
EXACT_FROM = 0.85  # until then the image encoder multiplies in bfloat16: a third faster where the CPU has it
ROUNDS_FROM, ROUNDS_SHARE = (
    0.25,
    0.35,
)  # from this progress on, that share of steps has a second, correcting round
SAVE_EVERY = 150  # steps


def decode(
    tower: VisionTower,
    maps: tuple[Tensor, Tensor, Tensor],
    prompts: tuple[Tensor, Tensor],
    mask: Tensor | None,
) -> Decoded:
    """maps: of B pictures (image, high_res_0, high_res_1); prompts of BP; mask prompt [BP, 1, 4E, 4E]."""
    points, silent = tower.sam_prompt_encoder.points(*prompts)
    if mask is None:
        dense = tower.sam_prompt_encoder.no_mask()
    else:
        dense = tower.sam_prompt_encoder.dense(mask, torch.ones(len(mask), device=mask.device))
    each = len(points) // len(maps[0])
    image, fine, middle = (m.repeat_interleave(each, dim=0) for m in maps)
    decoded: Decoded = tower.sam_mask_decoder(
        image, tower.image_pe(), points=points, points_mask=silent, dense=dense, high_res=(fine, middle)
    )
    return decoded


def look(tower: VisionTower, images: Tensor, *, exact: bool) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Normalized pictures -> the maps that `decode` reads, and the raw embedding."""
    position = tower.image_encoder.trunk.position()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=not exact):
        fine, middle, embed = (m.float() for m in tower.image_encoder(images, position))
    head = tower.sam_mask_decoder
    return (tower.without_memory(embed), head.conv_s0(fine), head.conv_s1(middle)), embed


def second_round(
    rng: np.random.Generator, prompts: Prompts, first: Decoded, target: Tensor
) -> tuple[Prompts, Tensor]:
    """A click on each mask's error over the mask itself; for some, nothing but a mask from elsewhere."""
    logits = first.masks[:, :1].detach().clamp(-32, 32)
    coarse = F.adaptive_avg_pool2d(target, logits.shape[-1])
    wanted, found = (coarse[:, 0] > 0.5).cpu().numpy(), (logits[:, 0] > 0).cpu().numpy()
    clicks, labels = corrections(rng, wanted, found)
    coords = np.concatenate([prompts.coords, clicks[:, None]], axis=1)
    every = np.concatenate([prompts.labels, labels[:, None]], axis=1)
    given = rng.random(len(labels)) < 0.2
    given &= prompts.target > 0
    every[given] = EMPTY
    every[given, 0] = -1
    chosen = torch.from_numpy(given).to(logits.device)[:, None, None, None]
    return prompts._replace(coords=coords, labels=every), torch.where(chosen, coarse * 20 - 10, logits)


def drawing(tower: VisionTower) -> nn.ModuleList:
    """What draws masks from tokens and maps, and nothing else reads."""
    head = tower.sam_mask_decoder
    return nn.ModuleList([head.conv_s0, head.conv_s1, head.output_upscaling, head.output_hypernetworks_mlps])


def step_loss(
    parts: tuple[VisionTower, Helpers | None],
    batch: Batch,
    rng: np.random.Generator,
    *,
    again: bool,
    exact: bool,
    device: torch.device,
) -> tuple[Tensor, dict[str, float]]:
    """Loss and figures of one batch; without helpers that of masks alone."""

    def put(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(device)

    tower, helpers = parts
    images = crew.normalized(put(batch.images))
    gain, shift = rng.uniform(0.85, 1.15, (2, len(images), 1, 1, 1)).astype(np.float32)
    images = images * put(gain) + put(shift - 1)
    maps, embed = look(tower, images, exact=exact)
    owner = put(batch.owner)
    prompts = batch.prompts
    number = put(prompts.target)
    there = number > 0
    whole = owner.repeat_interleave(len(number) // len(owner), dim=0) == number[:, None, None]
    target = F.adaptive_avg_pool2d((whole & there[:, None, None]).float()[:, None], FINE)
    there &= target.sum((1, 2, 3)) > 0
    decoded = decode(tower, maps, (put(prompts.coords), put(prompts.labels)), None)
    loss, iou = decoded_loss(decoded, target, there)
    boxed = put(prompts.is_box)[there]
    figures = {
        "mask": loss.item(),
        "click_iou": float(iou[~boxed].mean()) if (~boxed).any() else 0.0,
        "object": float(((decoded.object_score[:, 0] > 0) == there).float().mean()),
    }
    if boxed.any():
        figures["box_iou"] = float(iou[boxed].mean())
    loss = MASKS * loss
    if helpers is not None:
        objects = {n: put(batch.objects[n].astype(np.int64)) for n in ("kind", "colour", "pattern", "size")}
        box = put(batch.objects["box"]) / SIDE
        dense, cells = helpers.dense_loss(
            embed, owner, objects | {"centre": (box[..., :2] + box[..., 2:]) / 2}
        )
        at = torch.arange(len(number), device=device) // (len(number) // len(owner))
        wanted = {n: v[at, (number - 1).clamp(min=0)][there] for n, v in objects.items()}
        shown = Decoded(*(f[there] for f in decoded))
        naming, kind, colour = helpers.naming_loss(shown, target[there], wanted)
        figures |= {"dense": dense.item(), "naming": naming.item(), "cell_kind": float(cells)}
        figures |= {"kind": float(kind), "colour": float(colour)}
        loss = loss + 0.3 * dense + 0.15 * naming
    if again:
        prompts, mask = second_round(rng, prompts, decoded, target)
        fixed = decode(tower, maps, (put(prompts.coords), put(prompts.labels)), mask)
        more, iou = decoded_loss(fixed, target, there)
        figures["second_iou"] = float(iou.mean())
        loss = loss + 0.7 * MASKS * more
    return loss, figures


def train(member: crew.Member, given: argparse.Namespace) -> None:
    """What each process of the crew does."""
    warnings.filterwarnings("ignore", message=".*writable.*")
    torch.manual_seed(given.seed)
    tower = VisionTower(NANO.vision)
    helpers = Helpers(NANO.vision.d_model)
    learned = (tower.image_encoder, tower.sam_prompt_encoder, tower.sam_mask_decoder, helpers)
    if given.masks_alone:
        tower.requires_grad_(False)
        drawing(tower).requires_grad_(True)
    groups = crew.groups(learned, decay=DECAY)
    if not given.masks_alone:
        groups[1]["params"].append(tower.no_mem_embed)
    learner = Learner("sam", "tower", tower, helpers, groups, SAVE_EVERY)
    if given.start is not None and not begun(learner, given):
        if given.start.suffix == ".pt":
            state = torch.load(given.start, weights_only=True, map_location="cpu")
            tower.load_state_dict(state["average"]["values"])
            helpers.load_state_dict(state["helpers"])
        else:
            tower.load_state_dict(load_vision(open_checkpoint(str(given.start))).state_dict())
    tower.to(member.device)
    helpers.to(member.device)
    scenes = open_rendered(given.scenes)

    def losses(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([given.seed, step, member.rank])
        batch = draw_batch(
            rng,
            scenes,
            pictures=PICTURES,
            prompts=PROMPTS,
            drawn=len(scenes.counts),
            mix=BOXES if given.masks_alone else MIX,
        )
        again = progress > ROUNDS_FROM and np.random.default_rng([given.seed, step]).random() < ROUNDS_SHARE
        exact = progress > EXACT_FROM
        parts = (tower, None if given.masks_alone else helpers)
        return step_loss(parts, batch, rng, again=again, exact=exact, device=member.device)

    run(learner, given, member, losses)


def main() -> None:
    """Train until the minutes are used up."""
    parser = crew.options(__doc__, minutes=55, peak=PEAK, seed=SEED)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--masks-alone", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    crew.start_crew(given.processes, given.out, lambda member: train(member, given))


if __name__ == "__main__":
    main()
