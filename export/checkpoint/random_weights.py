"""Seeded random weights: every value is a function of seed, key and index, made when it is read.

They give graphs of the right size and finite numbers, but no meaningful answers; bundles made from them are
marked. A tensor is made in blocks with one generator each, so any of its rows can be made without the others,
and by several threads.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pam_edge.export.checkpoint.weight_files import Entry

LANGUAGE_GAIN = 1.5  # keeps attention from being uniform, so that wrong positions show in the numbers
BLOCK = 1 << 18  # values of one generator

Floats = npt.NDArray[np.float32]


def random_entries(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Entry]:
    """An entry per canonical key."""
    return {key: Entry(shape, partial(random_rows, key, shape, seed)) for key, shape in shapes.items()}


def random_tensor(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Float32 numbers: matrices over the root of their fan-in, norm scales near 1, biases near 0."""
    return random_rows(key, shape, seed, 0, shape[0] if shape else 1)


def random_rows(key: str, shape: tuple[int, ...], seed: int, start: int, stop: int) -> Tensor:
    """Rows `start` to `stop` of `random_tensor`, the same numbers."""
    width = int(np.prod(shape[1:], dtype=np.int64))
    begin, end = start * width, stop * width
    out = np.empty(end - begin, np.float32)
    held = int(np.prod(shape, dtype=np.int64))
    blocks = range(begin // BLOCK, -(-end // BLOCK))

    def make(block: int) -> None:
        first, last = block * BLOCK, min((block + 1) * BLOCK, held)
        lo, hi = max(begin, first), min(end, last)
        place = out[lo - begin : hi - begin]
        whole = place if (lo, hi) == (first, last) else np.empty(last - first, np.float32)
        _fill(whole, key, shape, np.random.SeedSequence([seed, zlib.crc32(key.encode()), block]))
        if whole is not place:
            place[:] = whole[lo - first : hi - first]

    if len(blocks) > 1:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(make, blocks):
                pass
    else:
        for block in blocks:
            make(block)
    rows = (stop - start, *shape[1:]) if shape else ()
    return torch.from_numpy(out.reshape(rows))


def _fill(x: Floats, key: str, shape: tuple[int, ...], seed: np.random.SeedSequence) -> None:
    """Make one block's values in place."""
    np.random.Generator(np.random.SFC64(seed)).standard_normal(out=x, dtype=np.float32)
    if key.endswith("gaussian_matrix"):
        return
    if len(shape) >= 2:
        gain = LANGUAGE_GAIN if key.startswith("language.") else 1.0
        x *= np.float32(gain / np.sqrt(np.prod(shape[1:])))
    else:
        x *= np.float32(0.1)
        if "norm" in key and key.endswith("weight"):
            x += 1
    if key.endswith("pred_obj_score_head.layers.2.bias"):
        x += 4  # an object is there: masks are worth looking at
