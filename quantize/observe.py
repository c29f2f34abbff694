"""Value ranges of the tensors of a float graph, observed while it runs; no whole tensor is copied out.

The graph gets additional outputs: each tensor's minimum and maximum, and a strided sample of its values.
Knows ONNX files and ONNX Runtime, not what a graph means. onnxruntime.quantization's calibrators observe the
tensors of chosen operators, not chosen tensors, and cannot resume after an interruption.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from pam_edge.quantize.static import Range, Static, parameters
from pam_edge.runtimes.onnxruntime.integer_products import keep_exact

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
KEPT = 2048  # values kept of a tensor and run, at most
_SHRINK = np.linspace(1.0, 0.3, 29)  # parts of a side's extreme that are tried as its end


class Seen(NamedTuple):
    """What one run showed of one tensor."""

    low: float
    high: float
    stride: int  # how many values each of `some` stands for
    some: Floats


class Observer:
    """A float graph, ready to run and to be watched at `tensors`."""

    def __init__(self, graph: Path, tensors: Sequence[str], *, threads: int = 0) -> None:
        model = ir.load(graph)
        self._outputs = [str(value.name) for value in model.graph.outputs]
        self._tensors: list[str] = list(tensors)
        self._strides: list[int | None] = []  # None: the graph says it
        values = {value.name: value for value in model.graph.inputs}
        values |= {value.name: value for node in model.graph for value in node.outputs}
        constants: dict[int, ir.Value] = {}
        for name in tensors:
            self._strides.append(_watch(model.graph, values[name], constants))
        self._session = opened(model, graph.parent, threads=threads)

    def run(self, feeds: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Seen]]:
        """The graph's own outputs, and what the run showed of every tensor."""
        wanted = [f"{name}.{part}" for name in self._tensors for part in ("low", "high", "some")]
        strides = [
            f"{n}.stride" for n, known in zip(self._tensors, self._strides, strict=True) if known is None
        ]
        found = self._session.run([*self._outputs, *wanted, *strides], dict(feeds))
        own, rest = found[: len(self._outputs)], found[len(self._outputs) :]
        strides = iter(rest[len(wanted) :])
        seen = {}
        for i, (name, known) in enumerate(zip(self._tensors, self._strides, strict=True)):
            low, high, some = rest[3 * i : 3 * i + 3]
            stride = int(next(strides)[0]) if known is None else known
            seen[name] = Seen(float(low), float(high), stride, some)
        return dict(zip(self._outputs, own, strict=True)), seen


def opened(model: ir.Model, folder: Path, *, threads: int = 0) -> ort.InferenceSession:
    """A model of this moment in the engine; weights that lie in files of `folder` are mapped from there."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # it keeps the peak of every size it ever gave
    options.enable_mem_pattern = False  # from the second run on it takes all of a run at once
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    keep_exact(options)
    return ort.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _watch(graph: ir.Graph, value: ir.Value, constants: dict[int, ir.Value]) -> int | None:
    """Give the graph a tensor's extremes and a thinned copy as outputs; by what it is thinned.

    None where the exporter knows no shape, as of the engine's own operators: then the graph reckons that, a
    stride in step with neither 2 nor 3, and has it as an output too.

    Whoever reads the tensor gets it back clipped to these extremes, which changes nothing but the order of
    work: the engine would look at all tensors at the end, and hold every one of them until then.
    """
    fixed = [n for n in value.shape or () if isinstance(n, int)]
    stride = max(1, math.prod(fixed) // KEPT)
    while stride > 1 and math.gcd(stride, fixed[-1] if fixed else 1) > 1:
        stride += 1  # no common factor with the channels: every one of them gets its turn
    for number in (-1, 0, 1, 6, 6 * KEPT, stride, 2**63 - 1):
        if number not in constants:
            tensor = ir.tensor(np.array([number]), name=f"watch.{number}")
            constants[number] = ir.Value(
                name=tensor.name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            graph.register_initializer(constants[number])
    readers = list(value.uses())
    zero, end = constants[0], constants[2**63 - 1]
    flat = ir.node("Reshape", [value, constants[-1]])
    low = ir.node("ReduceMin", [value], attributes={"keepdims": 0})
    high = ir.node("ReduceMax", [value], attributes={"keepdims": 0})
    reckoned, step = [], constants[stride]
    if value.shape is None:
        size = ir.node("Size", [value])
        sixth = ir.node("Div", [size.outputs[0], constants[6 * KEPT]])
        whole = ir.node("Mul", [sixth.outputs[0], constants[6]])
        odd = ir.node("Add", [whole.outputs[0], constants[1]])
        reckoned, step = [size, sixth, whole, odd], odd.outputs[0]
        for node, part in zip(reckoned, ("size", "sixth", "whole", "stride"), strict=True):
            node.outputs[0].name = f"{value.name}.{part}"
        step.type, step.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
        graph.outputs.append(step)
    some = ir.node("Slice", [flat.outputs[0], zero, end, zero, step])
    least = ir.node("ReduceMin", [some.outputs[0]], attributes={"keepdims": 0})
    floor = ir.node("Min", [low.outputs[0], least.outputs[0]])
    same = ir.node("Clip", [value, floor.outputs[0], high.outputs[0]])
    for node, part in ((low, "low"), (high, "high"), (some, "some")):
        out = node.outputs[0]
        out.name, out.type = f"{value.name}.{part}", ir.TensorType(ir.DataType.FLOAT)
        out.shape = ir.Shape([None] if part == "some" else [])
        graph.outputs.append(out)
    for node, part in ((flat, "flat"), (least, "least"), (floor, "floor"), (same, "same")):
        node.outputs[0].name = f"{value.name}.{part}"
    for use in readers:
        use.node.replace_input_with(use.idx, same.outputs[0])
    producer, nodes = value.producer(), [low, high, flat, *reckoned, some, least, floor, same]
    if producer is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(producer, nodes)
    return None if value.shape is None else stride


def best_range(seen: Sequence[Seen], how: Static) -> Range:
    """The range whose steps lose least of what was seen: mean square of rounding inside and of cutting off.

    Extremes count as what they are, single values; without the search one of them would set every step.
    """
    # numpy's: Python's min and max pass over a NaN that is not the first.
    low, high = float(np.min([s.low for s in seen])), float(np.max([s.high for s in seen]))
    if not math.isfinite(low) or not math.isfinite(high):
        return low, high
    values = np.concatenate([np.concatenate([s.some, [s.low, s.high]]) for s in seen]).astype(np.float32)
    weights = np.concatenate([[*([float(s.stride)] * len(s.some)), 1.0, 1.0] for s in seen])

    def loss(tried: Range) -> float:
        scale, zero = parameters(tried, how)
        kind = np.iinfo(how.activations)
        steps = np.clip(np.rint(values / np.float32(scale)) + zero, kind.min, kind.max)
        return float((weights * (values - (steps - zero) * scale) ** 2).sum())

    high = min((high * part for part in _SHRINK), key=lambda end: loss((low, end)))
    low = min((low * part for part in _SHRINK), key=lambda end: loss((end, high)))
    return float(low), float(high)
