"""Placeholders for weights while a graph is exported: each has a shape and an address, and no data.

A placeholder is memory-mapped from one small file of NaN that is never read, so it takes no memory, however
long the exporter keeps it. If the exporter outputs a view of a placeholder, the same view of the real weight
is written, which is read when it is written and released afterwards. Knows checkpoints and onnx-ir, no
module.
"""

from __future__ import annotations

import math
import tempfile
from bisect import bisect_right
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor

from pam_edge.core.errors import IntegrityError, cannot_write
from pam_edge.export.checkpoint.checkpoint import Checkpoint

LARGE = 1 << 16  # values: below that a weight is read at once (the exporter computes with some of these)
_ITEM = np.dtype(np.float32).itemsize


@dataclass(frozen=True, eq=False)
class _Held:
    key: str
    array: npt.NDArray[np.float32]  # held, so that nothing else comes to lie at its address

    @property
    def start(self) -> int:
        return self.array.ctypes.data

    @property
    def end(self) -> int:
        return self.start + self.array.nbytes


class Placeholders:
    """Placeholders for the large tensors of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._real = checkpoint
        self._held: list[_Held] = []
        self._file: Any = tempfile.TemporaryFile()  # noqa: SIM115  (the mappings outlive any block)
        self._length = 0
        self.checkpoint = checkpoint.read_by(self._tensor)
        """The same checkpoint, large tensors of it as placeholders."""

    def fill(self, model: ir.Model) -> None:
        """Have every initializer that is a placeholder, or a view of one, read the weight when it is written.

        Raises ValueError where the exporter computed with one: its values are NaN.
        """
        held = sorted(self._held, key=lambda each: each.start)
        starts = [each.start for each in held]
        for name, value in model.graph.initializers.items():
            if value.const_value is None or value.const_value.dtype != ir.DataType.FLOAT:
                continue
            array = value.const_value.numpy()
            address = array.ctypes.data
            at = bisect_right(starts, address) - 1
            if at < 0 or address >= held[at].end:
                if np.isnan(array).any():
                    raise ValueError(f"the exporter computed {name} from weights that are not there yet")
                continue
            view = partial(self._view, held[at], address - held[at].start, array.shape, array.strides)
            value.const_value = ir.LazyTensor(
                view, dtype=ir.DataType.FLOAT, shape=ir.Shape(array.shape), name=name
            )

    def _view(
        self, held: _Held, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> ir.TensorProtocol:
        weight: npt.NDArray[np.float32] = self._real.tensor(held.key).contiguous().numpy()
        return ir.tensor(np.ndarray(shape, np.float32, buffer=weight, offset=offset, strides=strides))

    def _tensor(self, key: str) -> Tensor:
        shape = self._real.shape(key)
        size = _ITEM * math.prod(shape)
        if size < _ITEM * LARGE:
            found = self._real.tensor(key)
            if torch.isnan(found).any():  # `fill` would take it for a placeholder's
                raise IntegrityError(f"{key} holds numbers that are not finite; get the checkpoint again")
            return found
        try:
            self._lengthen(size)
            mapped = np.memmap(self._file, np.float32, "c", shape=shape)
        except OSError as e:
            raise cannot_write(tempfile.gettempdir(), e) from e
        self._held.append(_Held(key, mapped))
        return torch.from_numpy(mapped)

    def _lengthen(self, size: int) -> None:
        """Have the file hold at least `size` bytes of NaN."""
        if size > self._length:
            self._file.seek(0)
            self._file.write(np.full(size // _ITEM, np.nan, np.float32).data)
            self._file.flush()
            self._length = size
