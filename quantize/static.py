"""Static 8 bits: a float graph's layers with integer weights and integer activations of known range.

Knows graphs as onnx-ir has them and which form an engine computes fast; not what a graph means, nor how the
ranges were found (`calibration.py`). Written on onnx-ir and not with onnxruntime.quantization: the Q/DQ pairs
that it puts around a product with a bias ONNX Runtime 1.31 does not fuse (it makes a Gemm of product and bias
first and computes in float). A test holds our numbers to the library's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pam_edge.core.errors import IntegrityError
from pam_edge.quantize.fp16 import store_in_16_bits
from pam_edge.quantize.save import place_beside, save, weight_bytes
from pam_edge.quantize.schemes import Storage

Range = tuple[float, float]
Chooser = Callable[[str, Sequence[int]], Storage]  # of a weight's name and shape
# Operators that only move values: integers pass as well as floats, and a quarter of the bytes are moved.
_MOVERS = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True)
class Static:
    """How the numbers of a layer become 8-bit integers. Weights are symmetric int8, a scale per output.

    `fused`: each layer is ONNX Runtime's own operator, integers in and floats out, its bias in float: four
    times as fast as float on AVX-512 VNNI. Otherwise standard QuantizeLinear and DequantizeLinear pairs,
    which other engines look for; biases stay float in both.
    """

    activations: Literal["uint8", "int8"] = "uint8"
    symmetric: bool = False  # the zero point is the type's middle
    fused: bool = True
    half: bool = False  # scales are numbers of float16, for graphs that compute in it

    def __post_init__(self) -> None:
        if self.fused and self.activations == "int8":
            raise ValueError("ONNX Runtime multiplies int8 by int8 ten times slower than uint8 by int8")


ONNXRUNTIME = Static()
# TensorRT refuses u8 and quantized biases; its scales have the type of what is quantized.
TENSORRT = Static(activations="int8", symmetric=True, fused=False, half=True)


@dataclass(frozen=True)
class Layer:
    """A product with a weight that can be quantized."""

    name: str  # of its node: the module's path
    weight: str  # of its initializer
    source: str  # the tensor whose integers it reads: its input, before it was only moved about
    elements: int


def find_layers(graph: Path, storage: Chooser) -> tuple[Layer, ...]:
    """The layers of an ONNX file whose weights `storage` wants in w8a8, in order of computation."""
    found = []
    for node in ir.load(graph).graph:
        weight = _weight(node)
        if weight is None or weight.name is None or weight.shape is None:
            continue
        if storage(weight.name, weight.shape.numpy()) == "w8a8":
            source = _path(node)[0].name
            found.append(Layer(str(node.name), weight.name, str(source), int(np.prod(weight.shape.numpy()))))
    return tuple(found)


def quantize_static(
    graph: Path,
    out: Path,
    layers: Sequence[Layer],
    ranges: Mapping[str, Range],
    *,
    storage: Chooser = lambda name, shape: "float32",
    how: Static = ONNXRUNTIME,
) -> tuple[Path, ...]:
    """Write the float `graph` (.onnx, weights beside it or inside) as `out`: `layers` in 8 bits, other
    weights in 16 where `storage` says so.

    Returns the files written, the engine's first; the same arguments give the same bytes. Raises like
    `in_8_bits`; WontFitError or EnvironmentProblem where `out` cannot be written.
    """
    model = in_8_bits(ir.load(graph), layers, ranges, how=how)
    store_in_16_bits(model, storage)
    beside = place_beside(out, weight_bytes(model))
    if beside is None:  # what was not quantized would still lie in the float file's weights
        ir.external_data.load_to_model(model)
    return save(model, out, beside=beside)


def in_8_bits(
    model: ir.Model, layers: Sequence[Layer], ranges: Mapping[str, Range], *, how: Static = ONNXRUNTIME
) -> ir.Model:
    """The same model, changed in place: `layers` in 8 bits, all else as it was.

    `ranges` holds the least and greatest value of every layer's source. Raises IntegrityError where one is
    missing or no number.
    """
    chosen = {layer.name for layer in layers}
    sources: dict[str, _Source] = {}
    for node in list(model.graph):
        if node.name in chosen and _weight(node) is not None:
            source = _path(node)[0]
            name = str(source.name)
            if name not in sources:
                sources[name] = _quantized(model.graph, source, ranges, how)
            _rewrite(model.graph, node, sources[name], how)
    _tidy(model)
    return model


@dataclass(frozen=True)
class _Source:
    integers: ir.Value
    scale: ir.Value
    zero: ir.Value
    floats: ir.Value | None  # what a pair gives back; None in the fused form


def _weight(node: ir.Node) -> ir.Value | None:
    """The weight [in, out] (a Gemm's may be [out, in]) of a layer that can be quantized."""
    if node.op_type not in ("MatMul", "Gemm") or node.domain:
        return None
    given, weight = node.inputs[:2]
    if given is None or weight is None or given.is_initializer() or not weight.is_initializer():
        return None
    if weight.shape is None or len(weight.shape) != 2 or weight.dtype != ir.DataType.FLOAT:
        return None
    plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    return weight if plain and not node.attributes.get_int("transA", 0) else None


def _path(node: ir.Node) -> tuple[ir.Value, list[ir.Node]]:
    """Where a layer's input comes from: the value before it was only moved about, and the movers since."""
    value = node.inputs[0]
    movers: list[ir.Node] = []
    assert value is not None
    while True:
        mover = value.producer()
        alone = len(value.uses()) == 1 and not value.is_graph_output()
        if mover is None or mover.op_type not in _MOVERS or not alone or mover.inputs[0] is None:
            return value, movers[::-1]
        movers.append(mover)
        value = mover.inputs[0]


def _quantized(graph: ir.Graph, source: ir.Value, ranges: Mapping[str, Range], how: Static) -> _Source:
    low, high = ranges.get(str(source.name), (np.nan, np.nan))
    if not np.isfinite([low, high]).all() or low > high:
        raise IntegrityError(f"calibration saw no usable range of {source.name}: ({low}, {high})")
    scale, zero = parameters((low, high), how)
    held = [
        _initializer(graph, f"{source.name}.scale", np.array(scale, np.float32)),
        _initializer(graph, f"{source.name}.zero", np.array(zero, how.activations)),
    ]
    quantize = ir.node("QuantizeLinear", [source, *held], name=f"{source.name}.quantize")
    integers = _named(quantize, f"{source.name}.q", source.shape, _DTYPES[how.activations])
    nodes, floats = [quantize], None
    if not how.fused:
        nodes.append(ir.node("DequantizeLinear", [integers, *held], name=f"{source.name}.dequantize"))
        floats = _named(nodes[1], f"{source.name}.dq", source.shape, ir.DataType.FLOAT)
    producer = source.producer()
    if producer is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(producer, nodes)
    return _Source(integers, held[0], held[1], floats)


def parameters(values: Range, how: Static) -> tuple[float, int]:
    """Scale and zero point for values of a range; 0 is always exactly a step."""
    low, high = min(values[0], 0.0), max(values[1], 0.0)
    kind = np.iinfo(how.activations)
    if how.symmetric:
        middle = int(kind.max) + int(kind.min) + 1 >> 1
        scale = max(-low, high, 1e-30) / 127
        return (float(half_scales(np.array(scale))) if how.half else scale), middle
    scale = max(high - low, 1e-30) / (int(kind.max) - int(kind.min))
    return scale, round(int(kind.min) - low / scale)


def integer_weight(
    weight: npt.NDArray[np.float32], *, half: bool = False
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """A weight [in, out] as int8 and a scale for each output; `half`: scales that float16 holds exactly."""
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-30).astype(np.float32) / np.float32(127)
    if half:
        scale = half_scales(scale)
    return np.rint(weight / scale).astype(np.int8), scale


def half_scales(scales: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The scales rounded up to numbers of float16, no smaller than its least normal one."""
    least = np.finfo(np.float16).tiny
    near = np.maximum(scales, least).astype(np.float16)
    up = np.where(near < scales, np.nextafter(near, np.float16(np.inf)), near)
    return up.astype(np.float32)


def _rewrite(graph: ir.Graph, node: ir.Node, source: _Source, how: Static) -> None:
    """Make one layer read its source's integers and an integer weight."""
    weight = node.inputs[1]
    assert weight is not None and weight.const_value is not None
    turned = bool(node.attributes.get_int("transB", 0))
    matrix = weight.const_value.numpy()
    integers, scales = integer_weight(matrix.T if turned else matrix, half=how.half)
    del matrix
    if isinstance(weight.const_value, ir.ExternalTensor):
        weight.const_value.release()  # else its pages count as ours until the end
    base = weight.name
    held = _initializer(
        graph, f"{base}.q", np.ascontiguousarray(integers if how.fused or not turned else integers.T)
    )
    scale = _initializer(graph, f"{base}.scale", scales)
    movers = _path(node)[1]
    given = source.integers if source.floats is None else source.floats
    moved = movers[0] if movers else node
    moved.replace_input_with(0, given)
    if not how.fused:
        zero = _initializer(graph, f"{base}.zero", np.zeros(scales.shape, np.int8))
        axis = ir.AttrInt64("axis", 0 if turned else 1)
        widen = ir.node("DequantizeLinear", [held, scale, zero], name=f"{base}.dequantize")
        widen.attributes.add(axis)
        node.replace_input_with(1, _named(widen, f"{base}.dq", weight.shape, ir.DataType.FLOAT))
        graph.insert_before(node, widen)
        return
    for mover in movers:
        mover.outputs[0].dtype = source.integers.dtype
    bias, last = _bias(node)
    product = ir.node(
        "MatMulIntegerToFloat",
        [node.inputs[0], held, source.scale, scale, source.zero, None, bias],
        domain="com.microsoft",
        name=node.name,
    )
    result = last.outputs[0]
    _named(product, f"{node.name}.product", result.shape, ir.DataType.FLOAT)
    graph.insert_before(node, product)
    name = result.name
    result.replace_all_uses_with(product.outputs[0], replace_graph_outputs=True)
    for done in [last] if last is node else [last, node]:
        graph.remove(done, safe=True)
    product.outputs[0].name = name


def _bias(node: ir.Node) -> tuple[ir.Value | None, ir.Node]:
    """A layer's bias [out], and the node that gives the layer's result."""
    if node.op_type == "Gemm":
        return (node.inputs[2] if len(node.inputs) > 2 else None), node
    uses = list(node.outputs[0].uses())
    if len(uses) == 1 and uses[0].node.op_type == "Add" and not node.outputs[0].is_graph_output():
        add = uses[0].node
        other = add.inputs[1 - uses[0].idx]
        if other is not None and other.is_initializer() and other.shape is not None and len(other.shape) == 1:
            return other, add
    return None, node


_DTYPES = {"uint8": ir.DataType.UINT8, "int8": ir.DataType.INT8}


def _named(node: ir.Node, name: str, shape: ir.Shape | None, dtype: ir.DataType) -> ir.Value:
    value = node.outputs[0]
    value.name, value.shape, value.type = name, shape, ir.TensorType(dtype)
    return value


def _initializer(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def _tidy(model: ir.Model) -> None:
    """Drop weights that nothing reads any more, and name the engine's own operators' domain."""
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
    if any(node.domain == "com.microsoft" for node in model.graph):
        model.opset_imports["com.microsoft"] = 1
