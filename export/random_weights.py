"""Seeded random weights: every tensor a function of seed and key, made on demand, so never two in memory.

They give graphs of the right size and finite numbers, nothing else; bundles made of them say so.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from pam_edge.export.weight_files import Entry

LANGUAGE_GAIN = 1.5  # keeps attention from being uniform, so that wrong positions show in the numbers


def random_entries(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Entry]:
    """An entry per canonical key."""
    return {key: Entry(shape, _maker(key, shape, seed)) for key, shape in shapes.items()}


def _maker(key: str, shape: tuple[int, ...], seed: int) -> Callable[[], Tensor]:
    return lambda: random_tensor(key, shape, seed)


def random_tensor(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Float32 numbers: matrices over the root of their fan-in, norm scales near 1, biases near 0."""
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    x = rng.standard_normal(shape, dtype=np.float32)
    if key.endswith("gaussian_matrix"):
        return torch.from_numpy(x)
    if len(shape) >= 2:
        gain = LANGUAGE_GAIN if key.startswith("language.") else 1.0
        x *= np.float32(gain / np.sqrt(np.prod(shape[1:])))
    else:
        x *= np.float32(0.1)
        if "norm" in key and key.endswith("weight"):
            x += 1
    if key.endswith("pred_obj_score_head.layers.2.bias"):
        x += 4  # an object is there: masks are worth looking at
    return torch.from_numpy(x)
