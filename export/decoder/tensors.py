"""The decoder's weights in the file beside its graph: offset and storage of each, written one at a time.

Knows no graph, and so not which weight is a head or a gate. Block formats are those of
`quantize/blockwise.py`: codes, then their scales from the next page boundary on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from pam_edge.bundle.config import LanguageConfig
from pam_edge.core.errors import IntegrityError
from pam_edge.quantize.blockwise import BITS, Blocks, block_shapes, quantize
from pam_edge.quantize.fp16 import halved
from pam_edge.quantize.schemes import Storage

PAGE = 4096  # weights start on a page, so that engines can map them
AT_ONCE = 1 << 24  # values of a weight in memory at once: an embedding has twenty times as many
ROPE_COS, ROPE_SIN = "rope.cos", "rope.sin"  # computed, not read

Floats = npt.NDArray[np.float32]
Tensors = Callable[[str], "Rows"]  # canonical key -> weight, float32
Better = Callable[[str], Blocks | None]  # canonical key -> blocks chosen by data; None: the nearest ones


_ITEM = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.UINT8: 1}


@dataclass(frozen=True)
class Part:
    """One tensor as the graph knows it: name, ONNX type, shape, and where in the file it starts."""

    name: str
    kind: TensorProto.DataType
    shape: tuple[int, ...]
    offset: int

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        return _ITEM[self.kind] * int(np.prod(self.shape))

    def proto(self, file: str) -> TensorProto:
        """What the graph says of it."""
        proto = TensorProto(name=self.name, data_type=self.kind, data_location=TensorProto.EXTERNAL)
        proto.dims.extend(self.shape)
        for key, value in (("location", file), ("offset", self.offset), ("length", self.bytes)):
            proto.external_data.add(key=key, value=str(value))
        return proto


class Rows(Protocol):
    """A weight, or what reads rows of it when they are asked for: an array is one as it is."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> Any:
        """These rows, as an array."""


@dataclass(frozen=True)
class Weight:
    """One weight of the graph: the tensors it is made of, one under the other, and where its bytes go.

    `shape` is as the graph reads it, [out, in] for blocks; `rows` says how much of its first axis each of
    `keys` gives.
    """

    name: str
    shape: tuple[int, ...]
    keys: tuple[str, ...]
    rows: tuple[int, ...]
    storage: Storage
    file: str
    offset: int = 0
    transpose: bool = False

    @property
    def scales(self) -> str:
        """Name of the scales of a weight in blocks."""
        return f"{self.name}.scales"

    @property
    def parts(self) -> tuple[Part, ...]:
        """The tensors it is stored as."""
        if self.storage in ("q4", "q8"):
            codes, scales = block_shapes(self.shape[0], self.shape[1], bits=BITS[self.storage])
            return (
                Part(self.name, TensorProto.UINT8, codes, self.offset),
                Part(self.scales, TensorProto.FLOAT, scales, paged(self.offset + int(np.prod(codes)))),
            )
        kind = TensorProto.FLOAT if self.storage == "float32" else TensorProto.FLOAT16
        return (Part(self.name, kind, self.shape, self.offset),)

    @property
    def end(self) -> int:
        """The first byte after it in its file."""
        last = self.parts[-1]
        return last.offset + last.bytes

    def protos(self) -> Iterator[TensorProto]:
        """What the graph says of it."""
        return (part.proto(self.file) for part in self.parts)


@dataclass(frozen=True)
class Band:
    """Some rows of a weight in blocks, where they lie in its file: to the graph a weight of its own."""

    whole: Weight
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.whole.name}.{self.start}"

    @property
    def scales(self) -> str:
        return f"{self.name}.scales"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.stop - self.start, *self.whole.shape[1:])

    @property
    def storage(self) -> Storage:
        return self.whole.storage

    def protos(self) -> Iterator[TensorProto]:
        """What the graph says of it."""
        for name, part in zip((self.name, self.scales), self.whole.parts, strict=True):
            offset = part.offset + self.start * (part.bytes // part.shape[0])
            yield Part(name, part.kind, (self.shape[0], *part.shape[1:]), offset).proto(self.whole.file)


def bands(weight: Weight, rows: int) -> tuple[Weight | Band, ...]:
    """A weight in blocks as bands of at most `rows` rows; itself where one is enough."""
    count = weight.shape[0]
    if count <= rows:
        return (weight,)
    return tuple(Band(weight, start, min(start + rows, count)) for start in range(0, count, rows))


def paged(offset: int) -> int:
    """The next start of a page."""
    return -(-offset // PAGE) * PAGE


def write(
    file: BinaryIO, weight: Weight, tensor: Tensors, *, language: LanguageConfig, better: Better
) -> None:
    """Append a weight to its file, some rows at a time. Raises IntegrityError for a misshaped one."""
    file.write(bytes(weight.offset - file.tell()))
    if weight.storage in ("q4", "q8"):
        _write_blocks(file, weight, tensor, better)
        return
    for key, rows in zip(weight.keys, weight.rows, strict=True):
        if key in (ROPE_COS, ROPE_SIN):
            file.write(rope_table(language, np.cos if key == ROPE_COS else np.sin).data)
            continue
        for laid_out in _read(tensor, key, (rows, *weight.shape[1:]), transpose=weight.transpose):
            file.write((laid_out if weight.storage == "float32" else halved(laid_out, key)).data)


def _write_blocks(file: BinaryIO, weight: Weight, tensor: Tensors, better: Better) -> None:
    bits, start = BITS[weight.storage], weight.parts[1].offset
    scales = []
    for key, rows in zip(weight.keys, weight.rows, strict=True):
        shape = (rows, weight.shape[1])
        chosen = better(key)
        if chosen is None:
            found: Iterator[Blocks] = (
                quantize(part, bits=bits, name=key) for part in _read(tensor, key, shape)
            )
        elif (chosen.codes.shape, chosen.scales.shape) != block_shapes(*shape, bits=bits):
            raise ValueError(f"{key} came as blocks {chosen.codes.shape} of {chosen.bits} bits")
        else:
            found = iter([chosen])
        for blocks in found:
            file.write(blocks.codes.data)
            scales.append(blocks.scales)
    file.write(bytes(start - file.tell()))
    for each in scales:
        file.write(each.data)


def _read(tensor: Tensors, key: str, shape: tuple[int, ...], *, transpose: bool = False) -> Iterator[Floats]:
    """Rows of a weight, at most AT_ONCE values of them where it is not to be transposed."""
    values = tensor(key)
    wanted = shape[::-1] if transpose else shape
    if values.shape != wanted:
        raise IntegrityError(f"{key} has shape {values.shape} where the variant wants {wanted}")
    if transpose:
        yield np.ascontiguousarray(np.asarray(values[:], dtype=np.float32).T)
        return
    step = max(1, AT_ONCE // math.prod(wanted[1:]))
    for start in range(0, wanted[0], step):
        yield np.ascontiguousarray(values[start : start + step], dtype=np.float32)


def rope_table(
    language: LanguageConfig, wave: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
) -> Floats:
    """`wave` (cos or sin) of position x frequency, [max_length, head_dim / 2].

    Angles are float64: in float32, those of late positions are off by more than the table's own rounding.
    """
    frequencies = language.rope_theta ** (-np.arange(0, language.head_dim, 2) / language.head_dim)
    return wave(np.outer(np.arange(language.max_length), frequencies)).astype(np.float32)
