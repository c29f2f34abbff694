"""The decoder's weights as TensorRT reads them from ONNX: int4 in blocks, int8 per output, or floats.

Each is stored as [in, out] in `decoder.bin`, the head as [vocabulary, hidden]. Integers are symmetric; scales
are positive (TensorRT refuses others) and of the type the graph computes in. Tensors are written one at a
time. Knows no graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from pam_edge.core.errors import IntegrityError
from pam_edge.export.decoder.tensors import AT_ONCE, PAGE, Tensors
from pam_edge.quantize.blockwise import fitted_scales, rounded
from pam_edge.quantize.fp16 import halved
from pam_edge.quantize.static import half_scales

Floats = npt.NDArray[np.float32]
Kind = Literal["float32", "float16", "int8", "int4"]
BLOCKS = (128, 64)  # values a scale that TensorRT has int4 kernels for
_TYPES: dict[Kind, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "int4": TensorProto.INT4,
}
_HALF_BYTES: dict[Kind, int] = {"float32": 8, "float16": 4, "int8": 2, "int4": 1}  # halves of a byte a value


@dataclass(frozen=True)
class Held:
    """A tensor in the weights' file."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    offset: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + -(-int(np.prod(self.shape)) * _HALF_BYTES[self.kind] // 2)

    def proto(self, file: str) -> TensorProto:
        """What the graph says of it."""
        proto = TensorProto(name=self.name, data_type=_TYPES[self.kind], data_location=TensorProto.EXTERNAL)
        proto.dims.extend(self.shape)
        for key, value in (("location", file), ("offset", self.offset), ("length", self.end - self.offset)):
            proto.external_data.add(key=key, value=str(value))
        return proto


@dataclass(frozen=True)
class Matrix:
    """A weight [out, in] of the model: its values or integers, and the scales of integers.

    Stored [in, out], or `upright` as the model has it, with one scale an output either way; int4 has one
    scale for `block` inputs of an output, [in / block, out].
    """

    key: str
    held: Held
    scales: Held | None
    upright: bool
    block: int | None

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.held.end if self.scales is None else self.scales.end


def place_matrix(
    key: str, shape: tuple[int, int], kind: Kind, *, start: int, half: bool, upright: bool = False
) -> Matrix:
    """Where a weight [out, in] will lie, from the next page after `start` on."""
    out, width = shape
    block = next((size for size in BLOCKS if width % size == 0), None) if kind == "int4" else None
    if kind == "int4" and (block is None or upright):
        raise ValueError(f"{key}: int4 wants [in, out] with rows of a multiple of {BLOCKS[-1]}")
    held = Held(key, kind, shape if upright else shape[::-1], _paged(start))
    if kind not in ("int8", "int4"):
        return Matrix(key, held, None, upright, None)
    extent = (out,) if block is None else (width // block, out)
    scales = Held(f"{key}.scales", "float16" if half else "float32", extent, _paged(held.end))
    return Matrix(key, held, scales, upright, block)


def write_matrix(file: BinaryIO, matrix: Matrix, tensor: Tensors) -> None:
    """Append a weight to its file. Raises IntegrityError where it is misshaped or no number."""
    file.write(bytes(matrix.held.offset - file.tell()))
    shape = matrix.held.shape if matrix.upright else matrix.held.shape[::-1]
    values = tensor(matrix.key)
    if tuple(values.shape) != shape:
        raise IntegrityError(f"{matrix.key} has shape {values.shape} where the variant wants {shape}")
    found: list[Floats] = []
    step = shape[0] if not matrix.upright else max(1, AT_ONCE // shape[1])
    for start in range(0, shape[0], step):
        rows = np.ascontiguousarray(values[start : start + step], dtype=np.float32)
        if not np.isfinite(rows).all():
            raise IntegrityError(f"{matrix.key} holds numbers that are not finite; get the checkpoint again")
        stored, scales = _stored(rows, matrix)
        file.write(np.ascontiguousarray(stored).data)
        found += [] if scales is None else [scales]
    if matrix.scales is not None:
        file.write(bytes(matrix.scales.offset - file.tell()))
        for scales in found:
            kind = np.float16 if matrix.scales.kind == "float16" else np.float32
            file.write(np.ascontiguousarray(scales, dtype=kind).data)


def _stored(rows: Floats, matrix: Matrix) -> tuple[npt.NDArray[np.generic], Floats | None]:
    """Rows [out, in] of a weight as they are stored, and the scales of integers."""
    turned = rows if matrix.upright else rows.T
    if matrix.scales is None:
        return (
            halved(np.ascontiguousarray(turned), matrix.key) if matrix.held.kind == "float16" else turned
        ), None
    half = matrix.scales.kind == "float16"
    if matrix.block is None:
        scales = np.maximum(np.abs(rows).max(axis=1), 1e-30).astype(np.float32) / np.float32(127)
        scales = half_scales(scales) if half else scales
        integers = np.rint(rows / scales[:, None]).astype(np.int8)
        return (integers if matrix.upright else integers.T), scales
    blocks = rows.reshape(len(rows), -1, matrix.block)
    scales = positive_scales(blocks)
    scales = half_scales(scales) if half else scales
    integers = rounded(blocks, scales, bits=4).reshape(rows.shape).astype(np.int8).T
    flat = np.ascontiguousarray(integers).reshape(-1) & 15
    return (flat[::2] | flat[1::2] << 4).astype(np.uint8), np.ascontiguousarray(scales.T)


def positive_scales(blocks: Floats) -> Floats:
    """Scales above zero [out, blocks] of values [out, blocks, block] for integers from -8 to 7."""
    return np.maximum(fitted_scales(blocks, bits=4, positive=True), np.float32(1e-30))


def read_outputs(folder: Path, file: str, matrix: Matrix, outputs: slice) -> Floats:
    """Some outputs [n, in] of a stored weight, as numbers. Raises IntegrityError where it cannot be read."""
    try:
        held = _mapped(folder / file, matrix.held)
        scales = None if matrix.scales is None else _mapped(folder / file, matrix.scales)
    except (OSError, ValueError) as e:
        raise IntegrityError(f"cannot read {folder / file}: {e}; export the bundle again") from e
    if matrix.block is not None and scales is not None:
        width, out = matrix.held.shape
        packed = np.asarray(held).reshape(-1)
        both = np.stack([packed & 15, packed >> 4], axis=-1).reshape(width, out)[:, outputs]
        signed = (both.astype(np.int16) ^ 8) - 8
        wide = np.repeat(np.asarray(scales[:, outputs], np.float32), matrix.block, axis=0)
        return np.ascontiguousarray((signed * wide).T, dtype=np.float32)
    rows = np.asarray(held[outputs] if matrix.upright else held[:, outputs].T, np.float32)
    return rows if scales is None else rows * np.asarray(scales[outputs], np.float32)[:, None]


def _mapped(path: Path, held: Held) -> npt.NDArray[np.generic]:
    if held.kind == "int4":
        return np.memmap(path, np.uint8, "r", held.offset, (held.end - held.offset,))
    kind = {"float32": np.float32, "float16": np.float16, "int8": np.int8}[held.kind]
    return np.memmap(path, kind, "r", held.offset, held.shape)


def protos(matrices: list[Matrix], file: str) -> Iterator[TensorProto]:
    """What the graph says of weights."""
    for matrix in matrices:
        yield matrix.held.proto(file)
        if matrix.scales is not None:
            yield matrix.scales.proto(file)


def _paged(offset: int) -> int:
    return -(-offset // PAGE) * PAGE
