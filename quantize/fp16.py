"""Storage in 16 bits: a graph's large weights become float16, and a Cast widens them where they are read.

Computation stays in float32, so engines without fast half precision lose no speed: they widen once, at load.
Knows onnx-ir graphs, not what they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from pam_edge.core.errors import IntegrityError
from pam_edge.quantize.schemes import Storage

LARGEST = float(np.finfo(np.float16).max)


def store_in_16_bits(model: ir.Model, storage: Callable[[str, Sequence[int]], Storage]) -> None:
    """Change `model` in place: float32 initializers for whose name and shape `storage` says float16.

    Others are left alone. Raises IntegrityError for a weight that float16 cannot hold.
    """
    graph = model.graph
    first = graph[0]
    for name, wide in list(graph.initializers.items()):
        tensor = wide.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT:
            continue
        if storage(name, tensor.shape.numpy()) != "float16":
            continue
        narrow = ir.tensor(halved(tensor.numpy(), name), name=f"{name}.half")
        stored = ir.Value(
            name=narrow.name, shape=narrow.shape, type=ir.TensorType(ir.DataType.FLOAT16), const_value=narrow
        )
        del graph.initializers[name]
        wide.const_value = None
        graph.register_initializer(stored)
        widen = ir.Node(
            "",
            "Cast",
            [stored],
            attributes=[ir.AttrInt64("to", int(ir.DataType.FLOAT))],
            outputs=[wide],
            name=f"{name}.widen",
        )
        graph.insert_before(first, widen)


def store_in_32_bits(model: ir.Model) -> None:
    """Undo `store_in_16_bits` in place: weights that a Cast widens become float32 themselves."""
    graph = model.graph
    for node in list(graph):
        stored = node.inputs[0] if node.op_type == "Cast" and node.inputs else None
        tensor = None if stored is None else stored.const_value
        if stored is None or tensor is None or tensor.dtype != ir.DataType.FLOAT16:
            continue
        wide = node.outputs[0]
        if wide.dtype not in (None, ir.DataType.FLOAT) or len(stored.uses()) > 1:
            continue
        values = ir.tensor(tensor.numpy().astype(np.float32), name=wide.name)
        held = ir.Value(
            name=wide.name, shape=values.shape, type=ir.TensorType(ir.DataType.FLOAT), const_value=values
        )
        wide.replace_all_uses_with(held)
        graph.remove(node, safe=True)
        del graph.initializers[stored.name]
        graph.register_initializer(held)


def halved(values: np.typing.NDArray[np.float32], name: str) -> np.typing.NDArray[np.float16]:
    """Rounded to float16. Raises IntegrityError where a value lies beyond what that holds."""
    if values.size and float(np.abs(values).max()) > LARGEST:
        raise IntegrityError(f"{name} has values beyond float16's {LARGEST:.0f}; export it at scheme fp32")
    return values.astype(np.float16)
