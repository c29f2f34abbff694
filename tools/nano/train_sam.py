"""Stage one: image encoder, prompt encoder and mask decoder of nano, from nothing.

    python -m tools.nano.train_sam --scenes FOLDER --out FOLDER --minutes 55

Started again with the same folder it goes on where it stopped. The schedule follows training time, not steps,
since the machine is shared; the log says how many steps that was.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pam_edge.config import NANO
from pam_edge.export.checkpoint import load_vision, open_checkpoint
from pam_edge.export.model.mask_decoder import Decoded
from pam_edge.export.model.vision import VisionTower
from tools.nano import crew
from tools.nano.data import SIDE, open_rendered
from tools.nano.prompting import EMPTY, Batch, Prompts, corrections, draw_batch
from tools.nano.segment_loss import FINE, Helpers, decoded_loss

SEED = 3
PEAK, DECAY, CLIP = 1.2e-3, 0.05, 1.0
PICTURES, PROMPTS = 4, 6  # per process and step
MASKS = 1.5  # weight of the masks beside the helpers
EXACT_FROM = 0.85  # until then the image encoder multiplies in bfloat16: a third faster where the CPU has it
ROUNDS_FROM, ROUNDS_SHARE = (
    0.25,
    0.35,
)  # from this progress on, that share of steps has a second, correcting round
AVERAGE = 0.998
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
        dense = tower.sam_prompt_encoder.dense(mask, torch.ones(len(mask)))
    each = len(points) // len(maps[0])
    image, fine, middle = (m.repeat_interleave(each, dim=0) for m in maps)
    decoded: Decoded = tower.sam_mask_decoder(
        image, tower.image_pe(), points=points, points_mask=silent, dense=dense, high_res=(fine, middle)
    )
    return decoded


def look(tower: VisionTower, images: Tensor, *, exact: bool) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Normalized pictures -> the maps that `decode` reads, and the raw embedding."""
    position = tower.image_encoder.trunk.position()
    with torch.autocast("cpu", torch.bfloat16, enabled=not exact):
        fine, middle, embed = (m.float() for m in tower.image_encoder(images, position))
    head = tower.sam_mask_decoder
    return (tower.without_memory(embed), head.conv_s0(fine), head.conv_s1(middle)), embed


def second_round(
    rng: np.random.Generator, prompts: Prompts, first: Decoded, target: Tensor
) -> tuple[Prompts, Tensor]:
    """A click on each mask's error over the mask itself; for some, nothing but a mask from elsewhere."""
    logits = first.masks[:, :1].detach().clamp(-32, 32)
    coarse = F.adaptive_avg_pool2d(target, logits.shape[-1])
    clicks, labels = corrections(rng, (coarse[:, 0] > 0.5).numpy(), (logits[:, 0] > 0).numpy())
    coords = np.concatenate([prompts.coords, clicks[:, None]], axis=1)
    every = np.concatenate([prompts.labels, labels[:, None]], axis=1)
    given = rng.random(len(labels)) < 0.2
    given &= prompts.target > 0
    every[given] = EMPTY
    every[given, 0] = -1
    chosen = torch.from_numpy(given)[:, None, None, None]
    return prompts._replace(coords=coords, labels=every), torch.where(chosen, coarse * 20 - 10, logits)


def step_loss(
    parts: tuple[VisionTower, Helpers], batch: Batch, rng: np.random.Generator, *, again: bool, exact: bool
) -> tuple[Tensor, dict[str, float]]:
    """Loss and figures of one batch."""
    tower, helpers = parts
    images = crew.normalized(torch.from_numpy(batch.images))
    gain, shift = rng.uniform(0.85, 1.15, (2, len(images), 1, 1, 1)).astype(np.float32)
    images = images * torch.from_numpy(gain) + torch.from_numpy(shift - 1)
    maps, embed = look(tower, images, exact=exact)
    owner = torch.from_numpy(batch.owner)
    prompts = batch.prompts
    number = torch.from_numpy(prompts.target)
    there = number > 0
    whole = owner.repeat_interleave(len(number) // len(owner), dim=0) == number[:, None, None]
    target = F.adaptive_avg_pool2d((whole & there[:, None, None]).float()[:, None], FINE)
    there &= target.sum((1, 2, 3)) > 0
    decoded = decode(tower, maps, (torch.from_numpy(prompts.coords), torch.from_numpy(prompts.labels)), None)
    loss, iou = decoded_loss(decoded, target, there)
    things = {
        n: torch.from_numpy(batch.objects[n].astype(np.int64)) for n in ("kind", "colour", "pattern", "size")
    }
    box = torch.from_numpy(batch.objects["box"]) / SIDE
    dense, cells = helpers.dense_loss(embed, owner, things | {"centre": (box[..., :2] + box[..., 2:]) / 2})
    at = torch.arange(len(number)) // (len(number) // len(owner))
    wanted = {n: v[at, (number - 1).clamp(min=0)][there] for n, v in things.items()}
    shown = Decoded(*(f[there] for f in decoded))
    naming, kind, colour = helpers.naming_loss(shown, target[there], wanted)
    boxed = torch.from_numpy(prompts.is_box)[there]
    figures = {
        "mask": loss.item(), "dense": dense.item(), "naming": naming.item(), "cell_kind": float(cells),
        "kind": float(kind), "colour": float(colour),
        "click_iou": float(iou[~boxed].mean()) if (~boxed).any() else 0.0,
        "object": float(((decoded.object_score[:, 0] > 0) == there).float().mean()),
    }  # fmt: skip
    if boxed.any():
        figures["box_iou"] = float(iou[boxed].mean())
    loss = MASKS * loss + 0.3 * dense + 0.15 * naming
    if again:
        prompts, mask = second_round(rng, prompts, decoded, target)
        fixed = decode(
            tower, maps, (torch.from_numpy(prompts.coords), torch.from_numpy(prompts.labels)), mask
        )
        more, iou = decoded_loss(fixed, target, there)
        figures["second_iou"] = float(iou.mean())
        loss = loss + 0.7 * MASKS * more
    return loss, figures


def train(rank: int, size: int, given: argparse.Namespace) -> None:
    """What each process of the crew does."""
    warnings.filterwarnings("ignore", message=".*writable.*")
    torch.manual_seed(given.seed)
    torch.set_flush_denormal(True)
    tower = VisionTower(NANO.vision)
    helpers = Helpers(NANO.vision.d_model)
    learned = (tower.image_encoder, tower.sam_prompt_encoder, tower.sam_mask_decoder, helpers)
    parameters = [p for m in learned for p in m.parameters()] + [tower.no_mem_embed]
    kinds = crew.groups(learned, decay=DECAY)
    kinds[1]["params"].append(tower.no_mem_embed)
    adam = torch.optim.AdamW(kinds, lr=PEAK, betas=(0.9, 0.98))
    average = crew.Average(tower, AVERAGE)
    path, step, before = given.out / "sam.pt", 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        tower.load_state_dict(state["tower"])
        helpers.load_state_dict(state["helpers"])
        adam.load_state_dict(state["adam"])
        average.restore(state["average"])
        step, before = int(state["step"]), float(state["seconds"])
    elif given.start is not None and given.start.suffix != ".pt":
        tower.load_state_dict(load_vision(open_checkpoint(str(given.start))).state_dict())
        average = crew.Average(tower, AVERAGE)
    elif given.start is not None:
        state = torch.load(given.start, weights_only=True)
        tower.load_state_dict(state["average"]["values"])
        helpers.load_state_dict(state["helpers"])
        average = crew.Average(tower, AVERAGE)
    scenes = open_rendered(given.scenes)
    clock, rows, progress = crew.Clock(before), [], before / (60 * given.minutes)
    while progress < 1:
        for group in adam.param_groups:
            group["lr"] = crew.rate(progress, peak=given.peak)
        rng = np.random.default_rng([given.seed, step, rank])
        batch = draw_batch(rng, scenes, pictures=PICTURES, prompts=PROMPTS, drawn=len(scenes.counts))
        again = progress > ROUNDS_FROM and np.random.default_rng([given.seed, step]).random() < ROUNDS_SHARE
        with sdpa_kernel(SDPBackend.MATH):  # on a CPU faster than the fused kernel at these sizes
            loss, figures = step_loss((tower, helpers), batch, rng, again=again, exact=progress > EXACT_FROM)
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        progress = crew.share_gradients(parameters, clock.seconds() / (60 * given.minutes))
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()
        average.update(tower)
        step += 1
        rows.append(figures)
        if rank == 0 and step % 25 == 0:
            row: dict[str, Any] = {
                "step": step,
                "seconds": clock.seconds(),
                "rate": adam.param_groups[0]["lr"],
            }
            crew.log_line(given.out / "sam.jsonl", row | crew.mean_of(rows))
            rows = []
        if rank == 0 and (step % SAVE_EVERY == 0 or progress >= 1):
            state = {"tower": tower.state_dict(), "helpers": helpers.state_dict(), "adam": adam.state_dict()}
            state |= {"average": average.state(), "step": step, "seconds": clock.seconds(), "crew": size}
            crew.save(path, state)


def main() -> None:
    """Train until the minutes are used up."""
    parser = crew.options(__doc__, minutes=55, peak=PEAK, seed=SEED)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    crew.start_crew(given.processes, given.out, lambda rank, size: train(rank, size, given))


if __name__ == "__main__":
    main()
