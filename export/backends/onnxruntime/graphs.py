"""Stateless graphs to ONNX, through torch's exporter. Knows modules and tensor specs, not what they compute.

Opset 20: what TensorRT reads, and the first with Gelu as one operator. The language decoder has its own
exporter (`decoder.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import onnx_ir as ir
import torch
from torch import nn

from pam_edge.bundle.manifest import TensorSpec
from pam_edge.core.errors import UsageError
from pam_edge.export.backends.onnxruntime.attention import Translations, fused_attention
from pam_edge.export.backends.quiet import quiet
from pam_edge.export.checkpoint.placeholders import Placeholders
from pam_edge.quantize.fp16 import store_in_16_bits
from pam_edge.quantize.save import place_beside, save
from pam_edge.quantize.schemes import FP32, Scheme

OPSET = 20
LAYERS = ("MatMul", "Gemm", "Conv", "ConvTranspose")  # operators that a layer with a weight becomes
_DTYPES = {"float32": "FLOAT", "float16": "FLOAT16", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}
_EXAMPLE = 3  # extent that stands for a free axis while tracing: 0 and 1 would be taken as fixed


def module2onnx(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    path: Path,
    *,
    scheme: Scheme = FP32,
    placeholders: Placeholders | None = None,
    standard: bool = False,
) -> tuple[Path, ...]:
    """Write `module` as `path` (.onnx), large weights as `.bin` beside it; return the files written.

    Weights are stored as `scheme` says of the graph that `path` is named after; those of the module that are
    of `placeholders` are read one at a time while they are written. Positional arguments are
    `inputs`, results `outputs`, in order; named axes stay free from 1 up. The file carries no paths of this
    machine, and the same module gives the same bytes. `standard` keeps to ONNX's own operators; otherwise
    attention is ONNX Runtime's.
    Raises UsageError where the scheme wants integers, which are not written here, ValueError where the
    module's results are not `outputs` (a mistake in the graph's cut), WontFitError on a full disk,
    EnvironmentProblem where the folder cannot be written.
    """
    size = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    model = _trace(module.eval(), inputs, outputs, {} if standard else fused_attention())
    _name_layers(model)
    _strip(model)
    if placeholders is not None:
        placeholders.fill(model)
    for given, specs in ((model.graph.inputs, inputs), (model.graph.outputs, outputs)):
        _check_border(path.name, given, specs)
    storage = partial(scheme.storage, path.stem)
    for name, value in model.graph.initializers.items():
        if value.shape is not None and storage(name, value.shape.numpy()) not in ("float32", "float16"):
            raise UsageError(f"scheme {scheme.name} is not possible for graph {path.stem} in this version")
    store_in_16_bits(model, storage)
    return save(model, path, beside=place_beside(path, size))


def _trace(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    translations: Translations,
) -> ir.Model:
    free = {axis: torch.export.Dim(axis, min=1) for s in inputs for axis in s.axes if isinstance(axis, str)}
    arguments = tuple(
        torch.zeros(
            [_EXAMPLE if isinstance(axis, str) else axis for axis in spec.axes],
            dtype=getattr(torch, spec.dtype),
        )
        for spec in inputs
    )
    dynamic = tuple(
        {i: free[axis] for i, axis in enumerate(spec.axes) if isinstance(axis, str)} for spec in inputs
    )
    with quiet("torch.onnx"), torch.no_grad():
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            dynamic_shapes=dynamic,
            custom_translation_table=translations,
            verbose=False,
        )
    if program is None:
        raise ValueError("torch.onnx.export returned no program")
    return program.model


def _name_layers(model: ir.Model) -> None:
    """Call the node of a linear or convolution layer, and its weight, as the module calls them.

    The exporter transposes a linear layer's weight and gives the product a number of its own; schemes and
    reports speak of `image_encoder.trunk.blocks.3.mlp.layers.0.weight`.
    """
    taken = {node.name for node in model.graph} | set(model.graph.initializers)
    for node in model.graph:
        if node.op_type not in LAYERS:
            continue
        weight = node.inputs[1]
        scopes = re.findall("'([^']*)'", node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
        if weight is None or not weight.is_initializer() or len(scopes) < 2 or scopes[-2] in taken:
            continue
        node.name = scopes[-2]
        taken.add(node.name)
        name = f"{node.name}.weight"
        ours = weight.name is not None and weight.name.startswith(f"{node.name}.")
        if not ours and name not in taken and len(weight.uses()) == 1:
            del model.graph.initializers[weight.name]
            weight.name = name
            model.graph.register_initializer(weight)
            taken.add(name)


def _strip(model: ir.Model) -> None:
    """Drop the exporter's notes: they hold paths of the exporting machine, and no engine reads them."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _check_border(file: str, values: Sequence[ir.Value], specs: Sequence[TensorSpec]) -> None:
    found = [(v.name, str(v.dtype), [getattr(axis, "value", axis) for axis in v.shape or ()]) for v in values]
    wanted = [(s.name, _DTYPES[s.dtype], list(s.axes)) for s in specs]
    if found != wanted:
        raise ValueError(f"{file} came out as {found} where {wanted} was meant")
