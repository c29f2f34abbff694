"""Building blocks for graphs of standard operators whose matrices are stored in a file beside the graph.

Products with float or integer weights, constants, and casts between float32 and the type of the products.
Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pam_edge.core.errors import IntegrityError
from pam_edge.export.backends.tensorrt.weights import BLOCKS, Kind, Matrix, place_matrix
from pam_edge.export.decoder.onnx_graph import finely_stored_as
from pam_edge.export.decoder.tensors import Tensors
from pam_edge.quantize.schemes import Scheme


@dataclass
class Nodes:
    """Collects nodes, small constants, and the places of matrices in the weights' file."""

    scheme: Scheme
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)
    small: list[TensorProto] = field(default_factory=list)

    @property
    def half(self) -> bool:
        """Whether products are float16: in every scheme that stores anything smaller than float32."""
        return computes_in_half(self.scheme)

    @property
    def end(self) -> int:
        """Bytes of the weights' file."""
        return self.matrices[-1].end if self.matrices else 0

    def biased(self, x: str, key: str, shape: tuple[int, int], tensor: Tensors | None) -> str:
        """x @ W + b in float32."""
        bias = self.vector(f"{key}.bias", shape[1], tensor)
        self.node("Add", [self.wide(self.linear(x, key, shape)), bias], [f"{key}.sum"])
        return f"{key}.sum"

    def linear(self, x: str, key: str, shape: tuple[int, int]) -> str:
        """x @ W, `shape` (in, out)."""
        name = f"{key}.weight"
        weight = self.matrix(name, shape[::-1], self.kind(name, shape[::-1]))
        self.node("MatMul", [x, weight], [f"{key}.product"])
        return f"{key}.product"

    def kind(self, key: str, shape: tuple[int, int]) -> Kind:
        """How the scheme's storage of a matrix is written here: q4 in rows that no block divides is int8."""
        match finely_stored_as(self.scheme, key, shape):
            case "q4":
                return "int4" if any(shape[1] % block == 0 for block in BLOCKS) else "int8"
            case "q8":
                return "int8"
            case _:
                return "float16" if self.half else "float32"

    def matrix(self, key: str, shape: tuple[int, int], kind: Kind, *, upright: bool = False) -> str:
        """Give a matrix its place; the name under which products read it."""
        matrix = place_matrix(key, shape, kind, start=self.end, half=self.half, upright=upright)
        self.matrices.append(matrix)
        if matrix.scales is None:
            return matrix.held.name
        axis = 0 if upright or matrix.block is not None else 1
        extra = {} if matrix.block is None else {"block_size": matrix.block}
        self.node("DequantizeLinear", [key, matrix.scales.name], [f"{key}.wide"], axis=axis, **extra)
        return f"{key}.wide"

    def narrow(self, x: str) -> str:
        """What products read."""
        if not self.half:
            return x
        self.node("Cast", [x], [f"{x}.narrow"], to=TensorProto.FLOAT16)
        return f"{x}.narrow"

    def wide(self, x: str) -> str:
        """A product's result in float32."""
        if not self.half:
            return x
        self.node("Cast", [x], [f"{x}.wide"], to=TensorProto.FLOAT)
        return f"{x}.wide"

    def vector(self, key: str, width: int, tensor: Tensors | None) -> str:
        """A float32 vector, in the graph's own file."""
        values = np.zeros(width, np.float32) if tensor is None else np.asarray(tensor(key)[:], np.float32)
        if values.shape != (width,) or not np.isfinite(values).all():
            raise IntegrityError(f"{key} is no vector of {width} numbers; get the checkpoint again")
        return self.constant(key, values)

    def integers(self, name: str, values: int | Sequence[int]) -> str:
        return self.constant(name, np.array(values, np.int64))

    shape = integers

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))

    def constant(self, name: str, values: np.ndarray) -> str:
        if not any(held.name == name for held in self.small):
            self.small.append(numpy_helper.from_array(values, name))
        return name

    def node(self, op: str, inputs: list[str], outputs: list[str], **attributes: int | list[int]) -> None:
        node = helper.make_node(op, inputs, outputs, name=outputs[0])
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.nodes.append(node)


def computes_in_half(scheme: Scheme) -> bool:
    """Whether graphs of a scheme compute in float16 where that is safe."""
    return bool(scheme.rules)
