"""Measures of what a quantized bundle loses, 0 where nothing is lost.

The error relative to the largest value, to which float numbers are held, says little here: quantization adds
noise to every value, and what counts is the noise compared with the values.

- Noise is the root mean square of the difference over that of the reference: 0.1 is a signal-to-noise ratio
  of 20 dB. For logits it is taken around their mean, which does not affect the choice of a token.
- A leading token counts only where the reference prefers it *clearly*: by more than CLEAR times the noise
  that is allowed (not the noise that is found, or a broken graph would excuse itself). With that much noise,
  a clear token changes once in some fifty times. Untrained weights, whose top tokens nearly tie, have few or
  no clear ones, and are held to the noise of their logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.golden import HUGE

Array = npt.NDArray[Any]
CLEAR = 3.0  # noises between two tokens: the difference of two logits carries sqrt(2) of one's noise


def noise(found: Array, wanted: Array) -> float:
    """rms(found - wanted) / rms(wanted); one number alone has no rms: its error over max(1, |wanted|).

    HUGE where shapes differ or a value is not finite, or where anything is found in place of zeros.
    """
    if found.shape != wanted.shape or not found.size:
        return HUGE
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    scale = float(np.sqrt((b**2).mean())) if b.size > 1 else max(1.0, float(np.abs(b).max()))
    off = float(np.sqrt(((a - b) ** 2).mean()))
    if off == 0:
        return 0.0
    return _number(off / scale) if scale > 0 else HUGE


def logit_noise(found: Array, wanted: Array) -> float:
    """Noise of a row of logits around its mean."""
    return noise(found - found.mean(), wanted - wanted.mean()) if found.shape == wanted.shape else HUGE


def iou_loss(found: Array, wanted: Array) -> float:
    """1 - intersection over union of the masks that two arrays of logits mean; both empty lose nothing."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return HUGE
    a, b = found > 0, wanted > 0
    union = int((a | b).sum())
    return 1 - int((a & b).sum()) / union if union else 0.0


def token_loss(found: Array, wanted: Array) -> float:
    """1 - cosine, of the token [..., T, H] that differs most; what is zeros in the reference is left out."""
    if found.shape != wanted.shape:
        return HUGE
    a, b = (x.astype(np.float64).reshape(-1, x.shape[-1]) for x in (found, wanted))
    lengths = np.linalg.norm(b, axis=1)
    a, b, lengths = a[lengths > 0], b[lengths > 0], lengths[lengths > 0]
    if not len(b):
        return 0.0
    # A token that came out as zeros points nowhere: its cosine is 0.
    cosines = (a * b).sum(axis=1) / np.maximum(np.linalg.norm(a, axis=1) * lengths, 1e-30)
    return _number(max(0.0, float(1 - cosines.min()))) if np.isfinite(cosines).all() else HUGE


def clearly(margin: float, allowed: float) -> bool:
    """Whether a token's margin, in standard deviations of its logits, stands out of noise of `allowed`."""
    return margin > CLEAR * allowed


def clear_tokens(margins: Sequence[float], allowed: float) -> int:
    """How many tokens of an answer come before the first that is nearly a tie: after it, answers may part."""
    return len(list(takewhile(lambda margin: clearly(margin, allowed), margins)))


def first_difference(found: Sequence[int], wanted: Sequence[int]) -> int:
    """Index of the first token that differs, the shorter one's length where none does."""
    pairs = zip(found, wanted, strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def edits(found: Sequence[int], wanted: Sequence[int]) -> int:
    """Levenshtein distance: tokens to insert, delete or replace."""
    row = list(range(len(wanted) + 1))
    for i, token in enumerate(found, 1):
        before, row = row, [i]
        for j, other in enumerate(wanted, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (token != other)))
    return row[-1]


def _number(value: float) -> float:
    return value if np.isfinite(value) else HUGE
