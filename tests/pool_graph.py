"""A small module with a named axis, and its inputs and outputs, to export through any engine."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pam_edge.bundle.manifest import TensorSpec


class Pool(nn.Module):
    """Two results of points and a map, through weights of 1 MB."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(2, 512), nn.Linear(512, 512)

    def forward(self, points: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        y = self.second(torch.relu(self.first(points))) + bias
        return y.mean(dim=1), y


def spec(name: str, *axes: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", axes=axes)


INPUTS = (spec("points", 1, "count", 2), spec("bias", 512))
OUTPUTS = (spec("mean", 1, 512), spec("each", 1, "count", 512))
