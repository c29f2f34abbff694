"""Computation in 16 bits: a float graph becomes a float16 one, with some nodes kept in float32.

For engines that compute in the graph's types (TensorRT's strongly typed networks). Inputs and outputs stay
float32. Kept in float32 are the nodes whose observed values came near the limit of float16, and sines and
cosines with everything that computes their angles, since float16 would be off by parts of a turn there. Norms
and softmax stay whole operators, which engines compute in float32 internally. Knows onnx-ir graphs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from pam_edge.quantize.fp16 import LARGEST, halved
from pam_edge.quantize.static import Range

MARGIN = 2.0  # values seen may grow by so much before float16 ends
WAVES = ("Sin", "Cos")
_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
# Inputs that are float32 whatever a node computes in.
_ALWAYS_FLOAT = {"Resize": (1, 2)}


def watched(model: ir.Model) -> tuple[str, ...]:
    """Names of all float tensors that nodes give: what the lint wants ranges of."""
    values = (value for node in model.graph for value in node.outputs)
    return tuple(str(value.name) for value in values if value.dtype == _FLOAT and value.uses())


def overflowing(model: ir.Model, ranges: Mapping[str, Range]) -> frozenset[str]:
    """The range lint: names of nodes that read or give values too near the end of float16, or no numbers.

    A tensor without a range counts as safe; `watched` names those that should have one.
    """

    def wide(value: ir.Value | None) -> bool:
        low, high = ranges.get(str(value.name), (0.0, 0.0)) if value is not None else (0.0, 0.0)
        return not max(-low, high) * MARGIN <= LARGEST

    def big(value: ir.Value | None) -> bool:
        tensor = None if value is None else value.const_value
        if tensor is None or tensor.dtype != _FLOAT:
            return False
        return not float(np.abs(tensor.numpy()).max(initial=0)) <= LARGEST

    return frozenset(
        str(node.name)
        for node in model.graph
        if any(wide(value) or big(value) for value in (*node.inputs, *node.outputs))
    )


def wave_angles(model: ir.Model) -> frozenset[str]:
    """Names of the sines and cosines, and of every node that leads to their angles."""
    found: set[str] = set()
    waiting = [node for node in model.graph if node.op_type in WAVES]
    while waiting:
        node = waiting.pop()
        if node.name in found:
            continue
        found.add(str(node.name))
        producers = (value.producer() for value in node.inputs if value is not None)
        waiting += [producer for producer in producers if producer is not None]
    return frozenset(found)


def compute_in_16_bits(model: ir.Model, islands: Collection[str]) -> None:
    """Change `model` in place: float16 throughout, float32 in the nodes named `islands` and at the borders.

    Raises IntegrityError where a weight outside the islands is beyond float16.
    """
    graph = model.graph
    nodes = [node for node in graph if node.op_type != "Constant" or node.outputs[0].dtype == _FLOAT]
    wants: dict[int, bool] = {}  # id of a node: whether it computes in float16
    for node in nodes:
        wants[id(node)] = node.name not in islands
    half: dict[ir.Value, bool] = {}  # which float values will be float16
    for value in graph.inputs:
        if value.dtype == _FLOAT:
            half[value] = False
    for node in nodes:
        for value in node.outputs:
            if value.dtype == _FLOAT:
                half[value] = wants[id(node)]
    for value in graph.initializers.values():
        if value.dtype == _FLOAT:
            half[value] = bool(value.uses()) and any(
                wants.get(id(use.node), True) and use.idx not in _ALWAYS_FLOAT.get(use.node.op_type, ())
                for use in value.uses()
            )
    results = {value: str(value.name) for value in graph.outputs if half.get(value)}
    casts: dict[tuple[ir.Value, bool], ir.Value] = {}
    for node in nodes:
        for i, value in enumerate(node.inputs):
            if value is None or value not in half:
                continue
            wanted = wants[id(node)] and i not in _ALWAYS_FLOAT.get(node.op_type, ())
            if half[value] != wanted:
                node.replace_input_with(i, _cast(graph, casts, value, half=wanted))
    for i, value in enumerate(graph.outputs):
        if value in results:
            graph.outputs[i] = _cast(graph, casts, value, half=False)
            value.name = f"{results[value]}.half"
            graph.outputs[i].name = results[value]
    for node in nodes:
        if wants[id(node)]:
            _retype(node)
    for value, is_half in half.items():
        if is_half:
            _narrow(value)


def _cast(
    graph: ir.Graph, casts: dict[tuple[ir.Value, bool], ir.Value], value: ir.Value, *, half: bool
) -> ir.Value:
    """The value in the other width; one Cast serves all its readers."""
    if (value, half) in casts:
        return casts[value, half]
    kind = _HALF if half else _FLOAT
    node = ir.node("Cast", [value], attributes={"to": int(kind)}, name=f"{value.name}.to.{kind.name.lower()}")
    result = node.outputs[0]
    result.name, result.shape, result.type = str(node.name), value.shape, ir.TensorType(kind)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    casts[value, half] = result
    return result


def _retype(node: ir.Node) -> None:
    """Attributes that name float32."""
    if node.op_type == "Cast" and node.attributes.get_int("to") == int(_FLOAT):
        node.attributes["to"] = ir.AttrInt64("to", int(_HALF))
    value = node.attributes.get("value")
    if node.op_type in ("Constant", "ConstantOfShape") and value is not None:
        tensor = value.as_tensor()
        if tensor.dtype == _FLOAT:
            narrow = ir.tensor(halved(tensor.numpy(), str(node.name)), name=tensor.name)
            node.attributes["value"] = ir.AttrTensor("value", narrow)


def _narrow(value: ir.Value) -> None:
    value.type = ir.TensorType(_HALF)
    tensor = value.const_value
    if tensor is not None and tensor.dtype == _FLOAT:
        values = halved(tensor.numpy(), str(value.name))
        if isinstance(tensor, ir.ExternalTensor):
            tensor.release()  # else its pages count as ours until the end
        value.const_value = ir.tensor(values, name=value.name)
