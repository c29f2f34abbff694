"""What the SAM part of nano is trained for: masks, their IoU, whether anything is there, and what it is.

The last is PAM's need, not SAM's: perceiver and language model will read frozen features, so helper heads
(thrown away afterwards) make those features name kind, colour, pattern and size from the start.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pam_edge.benchmarks.synthetic import COLOURS, KINDS, PATTERNS
from pam_edge.export.model.mask_decoder import Decoded
from tools.nano.data import SIZES

CLASSES = {"kind": len(KINDS), "colour": len(COLOURS), "pattern": len(PATTERNS), "size": len(SIZES)}
FINE = 128  # masks are compared at this side
EMPHASIS = {"kind": 3.0, "colour": 1.0, "pattern": 1.0, "size": 1.0}  # shapes are the slowest to learn


class Helpers(nn.Module):
    """Linear heads used in training alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        names = ("kind", "colour", "pattern")
        # Per quarter of every cell of the embedding: what lies there (0: the ground) and where its centre is.
        self.split = [CLASSES[n] + 1 for n in names] + [2]
        self.dense = nn.Conv2d(width, 4 * sum(self.split), 1)
        self.of_token = nn.ModuleDict({n: nn.Linear(width, c) for n, c in CLASSES.items()})
        self.of_region = nn.ModuleDict({n: nn.Linear(width, c) for n, c in CLASSES.items()})

    def dense_loss(self, embed: Tensor, owner: Tensor, objects: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """embed [B, C, E, E], owner [B, S, S], objects: classes [B, slots] and centres [B, slots, 2] in 0..1.

        Returns the loss and the share of object cells whose kind is right.
        """
        maps = F.pixel_shuffle(self.dense(embed), 2).split(self.split, dim=1)
        cell = owner.shape[-1] // maps[0].shape[-1]
        here = owner[:, cell // 2 :: cell, cell // 2 :: cell].flatten(1).long()  # [B, cells]
        total = embed.new_zeros(())
        for name, scores in zip(("kind", "colour", "pattern"), maps, strict=False):
            table = F.pad(objects[name] + 1, (1, 0))  # 0: the ground
            total = total + EMPHASIS[name] * F.cross_entropy(scores.flatten(2), table.gather(1, here))
        side = maps[0].shape[-1]
        grid = (torch.arange(side, device=embed.device) + 0.5) / side
        y, x = torch.meshgrid(grid, grid, indexing="ij")
        centre = F.pad(objects["centre"], (0, 0, 1, 0)).gather(1, here[..., None].expand(-1, -1, 2))
        away = centre - torch.stack([x, y], dim=-1).reshape(1, -1, 2)
        obj = (here > 0).float()
        miss = (maps[3].flatten(2).transpose(1, 2) - away * 4).abs().sum(-1)
        total = total + (miss * obj).sum() / obj.sum().clamp(min=1)
        kinds = maps[0].flatten(2).argmax(1)
        wanted = F.pad(objects["kind"] + 1, (1, 0)).gather(1, here)
        return total, ((kinds == wanted).float() * obj).sum() / obj.sum().clamp(min=1)

    def naming_loss(
        self, decoded: Decoded, mask: Tensor, wanted: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Name what token 0 and the region under `mask` [BP, 1, FINE, FINE] show; `wanted` [BP]."""
        weight = F.adaptive_avg_pool2d(mask, decoded.region.shape[-1])
        pooled = (decoded.region * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-3)
        total = mask.new_zeros(())
        right = {}
        for name, number in wanted.items():
            scores = self.of_token[name](decoded.tokens[:, 0])
            right[name] = (scores.argmax(1) == number).float().mean()
            miss = F.cross_entropy(scores, number) + F.cross_entropy(self.of_region[name](pooled), number)
            total = total + EMPHASIS[name] * miss
        return total, right["kind"], right["colour"]


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice, and cross-entropy relative to the object's area: logits and target [N, h, w] -> [N]."""
    chance = logits.sigmoid()
    overlap = 2 * (chance * target).sum((1, 2))
    dice = 1 - (overlap + 1) / (chance.sum((1, 2)) + target.sum((1, 2)) + 1)
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum((1, 2))
    return dice + 0.5 * cross / (target.sum((1, 2)) + 0.01 * target[0].numel())


def iou_of(logits: Tensor, target: Tensor) -> Tensor:
    """[N, h, w] twice -> [N]."""
    a, b = logits > 0, target > 0.5
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp(min=1)


def decoded_loss(decoded: Decoded, target: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """target [BP, 1, FINE, FINE], there bool [BP] -> loss, IoU of token 0 [BP there]."""
    score = F.binary_cross_entropy_with_logits(decoded.object_score[:, 0], there.float())
    masks, fine = decoded.masks[there], target[there]
    coarse = F.adaptive_avg_pool2d(fine, masks.shape[-1])
    shown = F.interpolate(masks[:, :1], size=(FINE, FINE), mode="bilinear", align_corners=False)[:, 0]
    first = mask_loss(shown, fine[:, 0]).mean()
    # A click is never ambiguous in this world, so the three alternatives learn the same mask as the first.
    n, _, h, w = masks.shape
    rest = mask_loss(
        masks[:, 1:].reshape(n * 3, h, w), coarse.expand(-1, 3, -1, -1).reshape(n * 3, h, w)
    ).mean()
    with torch.no_grad():
        iou = iou_of(shown, fine[:, 0])
        others = torch.stack([iou_of(masks[:, i], coarse[:, 0]) for i in range(1, 4)], dim=1)
    guess = F.l1_loss(decoded.iou[there], torch.cat([iou[:, None], others], dim=1))
    return first + 0.25 * rest + guess + 0.5 * score, iou
