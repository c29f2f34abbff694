"""Image tokens of a clip's later frames, put back among the others where training let them run away.

Seen on nano: their numbers were 200 times those of words, nine tenths of it along four directions. What the
language model's layers add to such a token is nothing beside it, so that it could not be read. Knows the
perceiver alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pam_edge.bundle.config import NANO
from pam_edge.export.model.perceiver import Perceiver

SIZE = 0.6  # root mean square of an image token's numbers, as it is when this is done; words have 0.13
NOISE = 0.5  # of a fresh layer's weights, beside the means


@torch.no_grad()
def resettle(perceiver: Perceiver, maps: Tensor, tokens: Tensor) -> None:
    """Begin `proj` anew, as the mean of 2 x 2 cells, so that later frames are read as first ones are; centre
    and scale what the image projector gives of maps [B, C, E, E] and mask tokens [B, 2, C].
    """
    c, proj, last = NANO.vision.d_model, perceiver.proj, perceiver.mm_projector_img[2]
    torch.nn.init.uniform_(proj.weight, -1, 1).mul_(NOISE * proj.in_features**-0.5)
    proj.bias.zero_()
    for row in range(4):  # of the 16 cells that `pixel_shuffle` lays behind each other
        for column in range(4):
            to, cell = (row // 2 * 2 + column // 2) * c, (row * 4 + column) * c
            proj.weight[to : to + c, cell : cell + c] += torch.eye(c) / 4
    count = (NANO.vision.embed_size // 2) ** 2
    last.bias -= perceiver.first_frame(maps, tokens)[:, :count].mean((0, 1))
    by = SIZE / perceiver.first_frame(maps, tokens)[:, :count].square().mean().sqrt()
    last.weight.mul_(by)
    last.bias.mul_(by)
