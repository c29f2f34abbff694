"""Block-wise integer weights, in the layout of ONNX Runtime's MatMulNBits.

A matrix [out, in] is cut along `in` into blocks; each is symmetric integers of 4 or 8 bits times one float32
scale. Codes are stored unsigned, with zero in the middle of their range; two 4-bit codes share a byte, the
earlier in the low half. Statistics about which weights matter come in as `importance`. Knows no graph and no
model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pam_edge.core.errors import IntegrityError
from pam_edge.runtimes.common.embedding import unpacked

Bits = Literal[4, 8]
BITS: dict[str, Bits] = {"q4": 4, "q8": 8}
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
# Parts of the range tried for the largest value of a 4-bit block: clipping it a little often costs less than
# the coarser steps of all others. More of them gain less than 0.3 % of the squared error.
_REACHES = (1.0, 0.94, 0.88, 0.82)
_CHUNK = 1 << 17  # values worked on at once: what stays in a core's own cache


@dataclass(frozen=True)
class Blocks:
    """A matrix [out, in]: `codes` [out, blocks, block * bits / 8] uint8, `scales` [out, blocks] float32."""

    codes: Bytes
    scales: Floats
    bits: Bits
    block: int


def block_size(width: int) -> int:
    """Values a scale for rows of `width`: 128 where it divides them (fewest bytes, and fastest), else 32."""
    return 128 if width % 128 == 0 else 32


def block_shapes(out: int, width: int, *, bits: Bits) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Shapes of the codes and the scales of a matrix [out, width]."""
    block = block_size(width)
    count = -(-width // block)
    return (out, count, block * bits // 8), (out, count)


def quantize(
    weight: Floats, *, bits: Bits, importance: Floats | None = None, name: str = "a weight"
) -> Blocks:
    """The blocks of [out, in] closest to it: 8 bits by the largest value, 4 bits by search of the scale.

    `importance` [in] weighs squared errors, such as the mean square of what each input carries.
    Raises IntegrityError naming the weight where values are not finite.
    """
    out, width = weight.shape
    block = block_size(width)
    codes_shape, scales_shape = block_shapes(out, width, bits=bits)
    codes, scales = np.empty(codes_shape, np.uint8), np.empty(scales_shape, np.float32)
    padded = scales_shape[1] * block
    weighs = None
    if importance is not None:
        weighs = np.pad(importance.astype(np.float32), (0, padded - width)).reshape(-1, block)
    rows = max(1, _CHUNK // padded)
    for start in range(0, out, rows):
        part = weight[start : start + rows]
        if padded != width:
            part = np.pad(part, ((0, 0), (0, padded - width)))
        part = np.ascontiguousarray(part, dtype=np.float32).reshape(len(part), -1, block)
        scale = fitted_scales(part, bits=bits, weighs=weighs)
        if not np.isfinite(scale).all():
            raise IntegrityError(f"{name} holds numbers that are not finite; get the checkpoint again")
        scales[start : start + rows] = scale
        codes[start : start + rows] = packed(rounded(part, scale, bits=bits), bits=bits)
    return Blocks(codes, scales, bits, block)


def fitted_scales(
    values: Floats, *, bits: Bits, weighs: Floats | None = None, positive: bool = False
) -> Floats:
    """Scales [out, blocks] of values [out, blocks, block]; `weighs` [blocks, block] weighs squared errors.

    The largest magnitude goes to the end of the range that has one value more, hence scales of either sign;
    `positive` where a format has none below zero.
    """
    low, high, half = values.min(axis=-1), values.max(axis=-1), 1 << (bits - 1)
    extreme: Floats = np.where(-low > high, low, high)
    largest: Floats = extreme / np.float32(-half)
    if positive:
        largest = np.maximum(low / np.float32(-half), high / np.float32(half - 1))
    if bits == 8:
        return largest
    best, least = largest, np.full(largest.shape, np.inf, np.float32)
    for reach in _REACHES:
        # Given the integers q, the best scale is in closed form: sum(w q) / sum(q q).
        q = rounded(values, largest * np.float32(reach), bits=bits)
        if weighs is None:
            across, along = _dot(values, q), _dot(q, q)
        else:
            weighed = q * weighs
            across, along = _dot(values, weighed), _dot(q, weighed)
        usable = along > 0
        scale = np.divide(across, along, out=largest.copy(), where=usable)
        error = np.where(usable, -across * scale, 0)  # of sum((w - s q)^2), the part that differs
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best


def rounded(values: Floats, scale: Floats, *, bits: Bits) -> Floats:
    """Integers (as floats) nearest to values [..., block] over scale [...], within the range of `bits`."""
    half = 1 << (bits - 1)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    q: Floats = values * inverse[..., None]
    np.rint(q, out=q)
    np.clip(q, -half, half - 1, out=q)
    return q


def _dot(a: Floats, b: Floats) -> Floats:
    total: Floats = np.einsum("...i,...i->...", a, b)
    return total


def packed(q: Floats, *, bits: Bits) -> Bytes:
    """Integers [..., block] as stored bytes [..., block * bits / 8]."""
    codes: Bytes = (q + np.float32(1 << (bits - 1))).astype(np.uint8)
    if bits == 4:
        codes = codes[..., ::2] | codes[..., 1::2] << np.uint8(4)
    return codes


def dequantize(blocks: Blocks, width: int) -> Floats:
    """The matrix [out, width] that blocks stand for."""
    return unpacked(blocks.codes, blocks.scales, bits=blocks.bits, width=width)
